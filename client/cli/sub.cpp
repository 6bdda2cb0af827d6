// SPDX-License-Identifier: MIT
//
// `holdfast sub`: samples, straight from shared memory: raw into a pipe or a file, hex to a terminal, a file each with
// --dump. What happened besides (missed samples, publishers that ended) goes to standard error, or is an event with --json.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include <unistd.h>
#include <CLI/CLI.hpp>

#include "client/cli/attributes.hpp"
#include "client/cli/context.hpp"
#include "client/cli/files.hpp"
#include "client/cli/flags.hpp"
#include "client/cli/handles.hpp"
#include "client/cli/hexdump.hpp"
#include "client/cli/interrupt.hpp"
#include "client/cli/output.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {

using Json = nlohmann::json;

struct SubOptions {
  std::string topic;
  std::string dump;
  std::uint64_t count = 0;  // 0: no limit
  double timeout_s = -1;
  bool lossless = false;
  std::string start = "next";
  bool raw = false;
  bool hex = false;
};

// A bell is a hint: no wait is longer without a look.
constexpr std::int64_t kSleepNs = 1'000'000'000;
constexpr std::uint64_t kHexBytesMax = 1024;

Json sample_json(const SubOptions& options, const hf_view& view) {
  bool corrupt = false;
  Json attributes = attributes_json(view, corrupt);
  Json sample{{"event", "sample"},
              {"topic", options.topic},
              {"publisher", view.publisher},
              {"position", view.position},
              {"bytes", view.bytes},
              {"type", view.type},
              {"time_ns", view.time_ns != 0 ? Json(view.time_ns) : Json()},
              {"attributes", std::move(attributes)}};
  if (corrupt) sample["attributes_corrupt"] = true;
  return sample;
}

// Files of one directory, numbered in the order of arrival, behind those that are there already. What is not complete has
// another name and is removed.
class Dump {
 public:
  explicit Dump(const std::string& directory) : directory_(directory) {
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error)
      throw Failed(error == std::errc::permission_denied ? Exit::kDenied : Exit::kFailure, "system",
                   "--dump " + directory + ": " + error.message() + "; name a directory that can be written");
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      const std::string name = entry.path().filename().replace_extension().stem().string();  // of a partial one, too
      std::uint64_t number = 0;
      const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (wrong == std::errc() && end == name.data() + name.size()) next_ = std::max(next_, number + 1);
    }
    if (error) throw Failed(Exit::kFailure, "system", "--dump " + directory + " cannot be listed: " + error.message());
  }

  // The name of the payload's file.
  std::string write(const hf_view& view, Json about) {
    char number[24];
    std::snprintf(number, sizeof number, "%08llu", static_cast<unsigned long long>(next_));
    const std::string base = directory_ + "/" + number;
    const std::string name = std::string(number) + ".bin";
    about["file"] = name;
    about["schema"] = 1;
    const std::string text = about.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    write_whole(base + ".json", text.data(), text.size());
    try {
      write_whole(base + ".bin", hf_view_data(&view), view.bytes);
    } catch (...) {
      ::unlink((base + ".json").c_str());
      throw;
    }
    ++next_;
    return name;
  }

 private:
  static void write_whole(const std::string& path, const void* bytes, std::uint64_t count) {
    const std::string partial = path + ".partial";
    write_file(partial, bytes, count);
    if (std::rename(partial.c_str(), path.c_str()) == 0) return;
    const int error = errno;
    ::unlink(partial.c_str());
    throw Failed(Exit::kFailure, "system", path + " cannot be named so: " + std::strerror(error));
  }

  std::string directory_;
  std::uint64_t next_ = 1;
};

class Inlet {
 public:
  Inlet(const Context& context, const SubOptions& options)
      : options_(options),
        json_(context.json),
        hex_(options.hex || (is_terminal(STDOUT_FILENO) && !options.raw)),
        client_(open_client(context, "holdfast sub")),
        subscriber_(open_subscriber(client_, options.topic, subscriber_options(options))),
        fd_(checked(hf_fd(subscriber_.get()))) {
    if (!options.dump.empty()) dump_ = std::make_unique<Dump>(options.dump);
  }

  Inlet(const Inlet&) = delete;
  Inlet& operator=(const Inlet&) = delete;
  ~Inlet() { tell_missed(); }

  // Until there are as many as were asked for.
  void run() {
    const auto timeout_ns =
        options_.timeout_s < 0 ? -1 : static_cast<std::int64_t>(std::min(options_.timeout_s, 1e9) * 1e9);
    Deadline deadline(timeout_ns);
    for (std::uint64_t taken = 0; options_.count == 0 || taken < options_.count;) {
      end_if_interrupted();
      View held;
      const int result = hf_take(subscriber_.get(), &held.view);
      if (result == HF_OK) {
        show(held.view);
        ++taken;
        deadline = Deadline(timeout_ns);
      } else if (result == HF_EMPTY) {
        if (last_told_.expired()) tell_missed();
        if (!wait_readable_or_closed(fd_, deadline.left_ns(kSleepNs)) && deadline.expired()) timed_out(taken);
      } else {
        tell(result, held.view);
        // Nonsense without end is no sample, either.
        if (result == HF_E_CORRUPT && deadline.expired()) timed_out(taken);
      }
    }
  }

 private:
  static hf_subscriber_options subscriber_options(const SubOptions& options) {
    hf_subscriber_options given{};
    given.struct_size = sizeof given;
    given.delivery = options.lossless ? HF_LOSSLESS : HF_DROP_OLDEST;
    given.start = options.start == "oldest"   ? HF_START_OLDEST
                  : options.start == "latest" ? HF_START_LATEST
                                              : HF_START_NEXT;
    return given;
  }

  void show(const hf_view& view) {
    if (dump_ != nullptr) {
      Json about = sample_json(options_, view);
      const std::string name = dump_->write(view, about);
      about["file"] = name;
      if (json_)
        print_json(std::move(about));
      else if (hex_)
        print(name + "  " + human_bytes(view.bytes) + "\n");
    } else if (json_) {
      print_json(sample_json(options_, view));
    } else if (hex_) {
      show_hex(view);
    } else {
      write_out(hf_view_data(&view), view.bytes);
    }
  }

  void show_hex(const hf_view& view) {
    bool corrupt = false;
    const Json attributes = attributes_json(view, corrupt);
    std::string text = "position " + std::to_string(view.position) + "  publisher " + std::to_string(view.publisher) +
                       "  " + counted(view.bytes, "byte");
    if (view.type != 0) text += "  tag " + std::to_string(view.type);
    if (view.time_ns != 0) text += "  at " + std::to_string(view.time_ns) + " ns";
    text += "\n";
    for (const auto& [key, value] : attributes.items()) text += attribute_line(key, value);
    if (corrupt) text += "  (attributes that make no sense)\n";
    print(text + hexdump(hf_view_data(&view), view.bytes, kHexBytesMax));
  }

  // What hf_take() gives that is no sample.
  void tell(int result, const hf_view& view) {
    const std::string publisher = "the publisher of session " + std::to_string(view.publisher);
    switch (result) {
      case HF_LAPPED:
        missed_ += view.missed;
        if (view.turned != 0) say_to_people("stalled, and was turned from lossless to drop-oldest");
        if (last_told_.expired()) tell_missed();
        return tell("lapped", view, "", false);
      case HF_FINISHED:
        return tell("finished", view, publisher + " finished", hex_);
      case HF_ABORTED:
        return tell("aborted", view, publisher + " died; all that it published has been taken", true);
      case HF_E_CORRUPT:
        return tell("corrupt", view, hf_last_error(), true);
      default:
        library_failed(result);
    }
  }

  // Once a second, and at the end: a slow reader may be lapped thousands of times.
  void tell_missed() {
    if (missed_ == 0) return;
    say_to_people("too slow; missed " + counted(missed_, "sample"));
    missed_ = 0;
    last_told_ = Deadline(kSleepNs);
  }

  void say_to_people(const std::string& sentence) const {
    if (!json_) say("holdfast: topic " + options_.topic + ": " + printable(sentence));
  }

  void tell(const char* event, const hf_view& view, const std::string& sentence, bool to_people) {
    if (json_) {
      Json object{{"event", event}, {"topic", options_.topic}, {"publisher", view.publisher}};
      if (std::strcmp(event, "lapped") == 0) {
        object["missed"] = view.missed;
        object["turned"] = view.turned != 0;
      }
      print_json(std::move(object));
    } else if (to_people) {
      say_to_people(sentence);
    }
  }

  [[noreturn]] void timed_out(std::uint64_t taken) const {
    std::string so_far;
    if (options_.count != 0)
      so_far = ", " + std::to_string(taken) + " of " + std::to_string(options_.count) + " have come";
    else if (taken != 0)
      so_far = " after the last of " + counted(taken, "sample");
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%g", options_.timeout_s);
    throw Failed(Exit::kTimedOut, "timed_out",
                 "topic " + options_.topic + ": no sample within " + seconds + " s" + so_far +
                     "; look at holdfast info " + options_.topic + ", or raise --timeout");
  }

  const SubOptions& options_;
  bool json_;
  bool hex_;
  Client client_;
  Subscriber subscriber_;
  int fd_;
  std::unique_ptr<Dump> dump_;
  std::uint64_t missed_ = 0;  // not told yet
  Deadline last_told_{0};
};

}  // namespace

void add_sub(Commands& commands) {
  auto options = std::make_shared<SubOptions>();
  CLI::App* sub = commands.app.add_subcommand("sub", "Subscribe: raw to a pipe, hex to a terminal");
  sub->add_option("topic", options->topic, "Name of the topic")->required()->type_name("");
  sub->add_option("--dump", options->dump, "One file per sample, attributes as JSON beside it")->type_name("DIR");
  sub->add_option("--count", options->count, "End after so many samples")
      ->type_name("N")
      ->check(within(std::uint64_t{1}, std::uint64_t{1} << 62));
  sub->add_option("--timeout", options->timeout_s, "Status 5 after so many seconds without a sample")
      ->type_name("S")
      ->check(within(0.0, 1e9));
  sub->add_flag("--lossless", options->lossless, "Miss nothing: the publisher waits");
  sub->add_option("--start", options->start, "Where to begin: next, latest, oldest [next]")
      ->type_name("AT")
      ->check(one_of({"next", "latest", "oldest"}));
  auto* raw = sub->add_flag("--raw", options->raw, "Payloads as they are, also to a terminal");
  sub->add_flag("--hex", options->hex, "Hex, also to a pipe")->excludes(raw);
  sub->final_callback([&commands, options] {
    commands.chosen = [&commands, options] {
      Inlet(commands.context, *options).run();
      return 0;
    };
  });
}

}  // namespace holdfast::cli
