// SPDX-License-Identifier: MIT
//
// `holdfast pub`: standard input, files or lines become samples. A regular file is read straight into shared memory.
// Waits in short turns, so that Ctrl-C always gets through; a wait of more than two seconds says what it waits for.
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include "client/cli/attributes.hpp"
#include "client/cli/context.hpp"
#include "client/cli/files.hpp"
#include "client/cli/flags.hpp"
#include "client/cli/handles.hpp"
#include "client/cli/interrupt.hpp"
#include "client/cli/output.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {

constexpr std::int64_t kAwayNs = 10'000'000'000;

struct PubOptions {
  std::string topic;
  std::vector<std::string> files;
  std::vector<std::string> attributes;
  bool lines = false;
  std::uint64_t repeat = 1;
  double rate_hz = 0;
  std::int64_t wait_subscribers = 0;
  double timeout_s = -1;
  bool no_wait = false;
  std::uint32_t tag = 0;
  hf_publisher_options topic_options{};
  std::string clock;
  std::string backing;
  std::optional<double> linger_s;
  bool exclusive = false;
};

std::int64_t nanoseconds(double seconds) {
  return seconds < 0 ? -1 : static_cast<std::int64_t>(std::min(seconds, 1e9) * 1e9);
}

constexpr std::int64_t kSilentNs = 2'000'000'000;

// A wait that lasts tells why, once.
class Notice {
 public:
  void of(const std::string& why) {
    if (said_ || !quiet_.expired()) return;
    said_ = true;
    say("holdfast: waiting: " + printable(why));
  }

 private:
  Deadline quiet_{kSilentNs};
  bool said_ = false;
};

class Outlet {
 public:
  Outlet(const Context& context, const PubOptions& options)
      : options_(options),
        attributes_(encode_attributes(options.attributes)),
        timeout_ns_(nanoseconds(options.timeout_s)),
        client_(open_client(context, "holdfast pub")),
        publisher_(open_publisher(client_, options.topic, options.topic_options)) {}

  // Payload that is in memory.
  void publish(const void* payload, std::uint64_t bytes) {
    publish_with(bytes, [&](void* to) {
      if (bytes != 0) std::memcpy(to, payload, bytes);
    });
  }

  // `fill` writes the `bytes` of the payload where they are to lie.
  void publish_with(std::uint64_t bytes, const std::function<void(void*)>& fill) {
    keep_rate();
    Loan held;
    borrow(bytes, held.loan);
    fill(hf_loan_data(&held.loan));
    if (!attributes_.empty())
      checked(hf_loan_set_attributes(&held.loan, attributes_.data(), static_cast<std::uint32_t>(attributes_.size())));
    held.loan.type = options_.tag;
    Notice notice;
    const int result = in_turns(Deadline(timeout_ns_), [&](std::int64_t turn_ns) {
      notice.of("lossless subscribers of topic " + options_.topic + " have not taken enough, its ring is full");
      return hf_loan_publish(&held.loan, turn_ns);
    });
    if (checked(result) != HF_OK)
      timed_out("its ring is full: lossless subscribers take too little", "let them go on, or raise --timeout");
    ++samples_;
    bytes_ += bytes;
  }

  void wait_for_subscribers() {
    const std::int64_t wanted = options_.wait_subscribers;
    if (wanted == 0) return;
    Notice notice;
    const auto have = [&] { return std::to_string(hf_publisher_subscriber_count(publisher_.get())); };
    const int result = in_turns(Deadline(timeout_ns_), [&](std::int64_t turn_ns) {
      notice.of("topic " + options_.topic + " has " + have() + " of " + std::to_string(wanted) + " subscribers");
      return hf_publisher_wait_for_subscribers(publisher_.get(), wanted, turn_ns);
    });
    if (checked(result) != HF_OK)
      timed_out("it has " + have() + " of " + std::to_string(wanted) + " subscribers",
                "start the others, or raise --timeout");
  }

  // Until lossless subscribers have taken everything.
  void drain() {
    Notice notice;
    const int result = in_turns(Deadline(timeout_ns_), [&](std::int64_t turn_ns) {
      notice.of("lossless subscribers of topic " + options_.topic + " have not taken everything (--no-wait leaves)");
      return hf_publisher_drain(publisher_.get(), turn_ns);
    });
    if (checked(result) != HF_OK)
      timed_out("lossless subscribers have not taken everything", "let them go on, raise --timeout, or use --no-wait");
  }

  std::uint64_t samples() const { return samples_; }
  std::uint64_t bytes() const { return bytes_; }
  std::int64_t subscribers() const { return hf_publisher_subscriber_count(publisher_.get()); }

 private:
  // Memory that somebody still uses comes back: that is waited for. Memory that nobody uses and that still is too little
  // does not. A broker that is restarted, or has too much to do, is given a while.
  void borrow(std::uint64_t bytes, hf_loan& loan) {
    const auto attribute_bytes = static_cast<std::uint32_t>(attributes_.size());
    const Deadline deadline(timeout_ns_);
    std::optional<Deadline> away;
    Notice notice;
    for (bool drained = false; true;) {
      end_if_interrupted();
      int result = hf_publisher_loan(publisher_.get(), bytes, attribute_bytes, 0, &loan);
      if (result == HF_OK) return;
      if (result == HF_E_NO_BROKER && !away) away.emplace(kAwayNs);
      if (result == HF_E_NO_BROKER && !away->expired() && !deadline.expired()) {
        if (hf_publisher_loan(publisher_.get(), bytes, attribute_bytes, deadline.left_ns(kLookNs), &loan) == HF_OK)
          return;
        continue;
      }
      const bool exhausted = result == HF_E_EXHAUSTED;
      if (!exhausted && ((result != HF_E_QUOTA && result != HF_E_NO_MEMORY) || drained)) library_failed(result);
      notice.of(hf_last_error());
      if (deadline.expired())
        timed_out("no memory for a sample became free", "see holdfast holders, or raise --timeout");
      drained = hf_publisher_drain(publisher_.get(), 0) == HF_OK;
      if (drained && !exhausted) continue;
      result = hf_publisher_loan(publisher_.get(), bytes, attribute_bytes, deadline.left_ns(kLookNs), &loan);
      if (result == HF_OK) return;
    }
  }

  void keep_rate() {
    if (options_.rate_hz <= 0) return;
    if (samples_ == 0) began_ns_ = now_ns();
    const auto due_ns = began_ns_ + static_cast<std::int64_t>(static_cast<double>(samples_) / options_.rate_hz * 1e9);
    if (const std::int64_t left_ns = due_ns - now_ns(); left_ns > 0) wait_readable(-1, left_ns);
  }

  [[noreturn]] void timed_out(const std::string& what, const std::string& advice) const {
    throw Failed(Exit::kTimedOut, "timed_out",
                 "topic " + options_.topic + ": " + what + ", after " + human_ns(timeout_ns_) + "; " + advice);
  }

  const PubOptions& options_;
  std::vector<std::uint8_t> attributes_;
  std::int64_t timeout_ns_;
  Client client_;
  Publisher publisher_;
  std::uint64_t samples_ = 0;
  std::uint64_t bytes_ = 0;
  std::int64_t began_ns_ = 0;
};

// ---- where samples come from

struct Input {
  std::string name;
  File file;
};

Input open_input(const std::string& path) {
  if (path != "-") return {path, open_file(path)};
  File file(::dup(STDIN_FILENO));
  if (file.fd() < 0)
    throw Failed(Exit::kFailure, "system", std::string("standard input cannot be read: ") + std::strerror(errno));
  return {"standard input", std::move(file)};
}

// Bytes from here to the end, if the kernel knows: of regular files. Those of /proc say 0 and have some.
std::uint64_t known_bytes(const Input& input) {
  struct stat status{};
  if (::fstat(input.file.fd(), &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  const off_t at = ::lseek(input.file.fd(), 0, SEEK_CUR);
  return at >= 0 && at < status.st_size ? static_cast<std::uint64_t>(status.st_size - at) : 0;
}

void publish_file(Outlet& outlet, const Input& input) {
  const std::uint64_t bytes = known_bytes(input);
  if (bytes == 0) {
    const std::string content = read_all(input.file.fd(), input.name);
    outlet.publish(content.data(), content.size());
    return;
  }
  outlet.publish_with(bytes, [&](void* to) {
    const std::size_t got = read_some(input.file.fd(), to, bytes, input.name);
    if (got == bytes) return;
    throw Failed(Exit::kFailure, "system",
                 input.name + " became shorter while it was read: " + std::to_string(got) + " of " +
                     std::to_string(bytes) + " bytes; publish a file that nobody writes");
  });
}

// Each line as soon as it is there. `keep` gets them, too, if it is given.
void publish_lines(Outlet& outlet, const Input& input, std::vector<std::string>* keep) {
  std::string pending;
  const auto publish = [&](const std::string& line) {
    outlet.publish(line.data(), line.size());
    if (keep != nullptr) keep->push_back(line);
  };
  char bytes[65536];
  while (true) {
    wait_readable(input.file.fd(), -1);
    const ssize_t count = ::read(input.file.fd(), bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Failed(Exit::kFailure, "system", input.name + " cannot be read: " + std::strerror(errno));
    if (count == 0) break;
    std::size_t search = pending.size();
    pending.append(bytes, static_cast<std::size_t>(count));
    std::size_t begin = 0;
    for (std::size_t end = pending.find('\n', search); end != std::string::npos; end = pending.find('\n', begin)) {
      publish(pending.substr(begin, end - begin));
      begin = end + 1;
    }
    pending.erase(0, begin);
  }
  if (!pending.empty()) publish(pending);
}

// Standard input can be read once: what is repeated is kept.
void publish_standard_input(Outlet& outlet, const PubOptions& options) {
  const Input input = open_input("-");
  std::vector<std::string> kept;
  if (options.repeat == 1) {
    options.lines ? publish_lines(outlet, input, nullptr) : publish_file(outlet, input);
    return;
  }
  if (options.lines) {
    publish_lines(outlet, input, &kept);
  } else {
    kept.push_back(read_all(input.file.fd(), input.name));
    outlet.publish(kept.front().data(), kept.front().size());
  }
  for (std::uint64_t i = 1; i < options.repeat && !kept.empty(); ++i)
    for (const std::string& sample : kept) outlet.publish(sample.data(), sample.size());
}

void publish_files(Outlet& outlet, const PubOptions& options) {
  for (std::uint64_t i = 0; i < options.repeat; ++i) {
    for (const std::string& path : options.files) {
      const Input input = open_input(path);
      options.lines ? publish_lines(outlet, input, nullptr) : publish_file(outlet, input);
    }
  }
}

// ---- the command

void settle(PubOptions& options) {
  hf_publisher_options& topic = options.topic_options;
  topic.struct_size = sizeof topic;
  if (options.clock == "none") topic.clock = HF_CLOCK_NONE;
  if (options.clock == "coarse") topic.clock = HF_CLOCK_COARSE;
  if (options.clock == "exact") topic.clock = HF_CLOCK_EXACT;
  if (options.backing == "named") topic.backing = HF_BACKING_NAMED;
  if (options.backing == "sealed") topic.backing = HF_BACKING_SEALED;
  if (options.exclusive) topic.exclusive = 1;
  // 0 nanoseconds would be the default.
  if (options.linger_s && *options.linger_s < 0) topic.linger_ns = -1;
  if (options.linger_s && *options.linger_s >= 0)
    topic.linger_ns = std::max<std::int64_t>(1, nanoseconds(*options.linger_s));
  if (options.files.size() > 1 && options.repeat > 1)
    for (const std::string& path : options.files)
      if (path == "-")
        throw Failed(Exit::kUsage, "usage", "--repeat cannot read standard input (-) twice; save it first");
}

int publish(const Context& context, PubOptions& options) {
  settle(options);
  const std::int64_t began_ns = now_ns();
  Outlet outlet(context, options);
  outlet.wait_for_subscribers();
  const bool only_input = options.files.empty() || (options.files.size() == 1 && options.files.front() == "-");
  only_input ? publish_standard_input(outlet, options) : publish_files(outlet, options);
  const std::int64_t subscribers = outlet.subscribers();
  if (!options.no_wait) outlet.drain();
  const double seconds = static_cast<double>(now_ns() - began_ns) / 1e9;
  if (context.json) {
    print_json({{"topic", options.topic},
                {"samples", outlet.samples()},
                {"payload_bytes", outlet.bytes()},
                {"subscribers", subscribers},
                {"drained", !options.no_wait},
                {"seconds", seconds}});
  } else if (is_terminal(STDERR_FILENO)) {
    say("published " + counted(outlet.samples(), "sample") + ", " + human_bytes(outlet.bytes()) + ", to topic " +
        options.topic + " with " + counted(static_cast<std::uint64_t>(subscribers), "subscriber"));
  }
  return 0;
}

}  // namespace

void add_pub(Commands& commands) {
  auto options = std::make_shared<PubOptions>();
  CLI::App* pub = commands.app.add_subcommand("pub", "Publish standard input, files or lines");
  pub->add_option("topic", options->topic, "Name of the topic")->required()->type_name("");
  pub->add_option("--file", options->files, "One sample per file; - is standard input")->type_name("F");
  pub->add_flag("--lines", options->lines, "One sample per line, without its newline");
  pub->add_option("--attribute", options->attributes, "key=value or key:type=value; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  pub->add_option("--tag", options->tag, "The samples' type tag")->type_name("N");
  pub->add_option("--repeat", options->repeat, "Publish all of it so many times")
      ->type_name("N")
      ->check(within(std::uint64_t{1}, std::uint64_t{1} << 62));
  pub->add_option("--rate", options->rate_hz, "At most so many samples a second")
      ->type_name("HZ")
      ->check(within(1e-4, 1e9));
  pub->add_option("--wait-subscribers", options->wait_subscribers, "First wait until so many are attached")
      ->type_name("N")
      ->check(within(std::int64_t{0}, std::int64_t{1} << 40));
  pub->add_option("--timeout", options->timeout_s, "Seconds that each wait may last [for ever]")
      ->type_name("S")
      ->check(within(0.0, 1e9));
  pub->add_flag("--no-wait", options->no_wait, "Do not wait at the end for lossless subscribers");
  auto& topic = options->topic_options;
  pub->add_option("--ring", topic.ring_slots, "Samples in flight [64]")->type_name("N");
  pub->add_option("--depth", topic.depth, "Samples kept for late joiners [1]")->type_name("N");
  pub->add_option("--bytes-max", topic.bytes_max, "How large the lane may grow [8 GiB]")
      ->type_name("BYTES")
      ->transform(CLI::AsSizeValue(false).description(""));
  pub->add_option("--linger", options->linger_s, "Seconds readable afterwards; -1 for ever [30]")
      ->type_name("S")
      ->check(within(-1.0, 1e9));
  pub->add_option("--clock", options->clock, "Publish time in each sample: none, coarse, exact")
      ->type_name("C")
      ->check(one_of({"none", "coarse", "exact"}));
  pub->add_option("--backing", options->backing, "Kind of memory: named, sealed")
      ->type_name("B")
      ->check(one_of({"named", "sealed"}));
  pub->add_flag("--exclusive", options->exclusive, "No second publisher while this one lives");
  pub->final_callback(
      [&commands, options] { commands.chosen = [&commands, options] { return publish(commands.context, *options); }; });
}

}  // namespace holdfast::cli
