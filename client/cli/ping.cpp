// SPDX-License-Identifier: MIT
//
// `holdfast ping`: two round trips. Control: a request to the broker and its reply. Data: a sample on a topic of our own to
// a second session, in a thread of ours, and one back; both sides sleep in between unless --spin says otherwise.
// The topics are removed with us.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>
#include <CLI/CLI.hpp>

#include "client/cli/context.hpp"
#include "client/cli/control.hpp"
#include "client/cli/flags.hpp"
#include "client/cli/handles.hpp"
#include "client/cli/interrupt.hpp"
#include "client/cli/output.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {

struct PingOptions {
  std::uint64_t count = 1000;
  std::uint64_t bytes = 32;
  bool spin = false;
};

constexpr std::int64_t kAnswerNs = 5'000'000'000;

std::int64_t percentile(const std::vector<std::int64_t>& sorted, std::size_t percent) {
  return sorted[(sorted.size() - 1) * percent / 100];
}

Publisher publish_on(const Client& client, const std::string& topic) {
  hf_publisher_options options{};
  options.struct_size = sizeof options;
  options.exclusive = 1;
  options.linger_ns = 1;  // the topic goes when we go
  return open_publisher(client, topic, options);
}

Subscriber subscribe_to(const Client& client, const std::string& topic, bool spin) {
  hf_subscriber_options options{};
  options.struct_size = sizeof options;
  options.delivery = HF_LOSSLESS;
  options.start = HF_START_OLDEST;
  options.spin_ns = spin ? 1'000'000 : 0;
  return open_subscriber(client, topic, options);
}

// The side that answers, on a thread of its own: gives back what it takes until its peer has finished.
class Echo {
 public:
  Echo(const Context& context, const std::string& there, const std::string& back, bool spin)
      : client_(open_client(context, "holdfast ping")),
        subscriber_(subscribe_to(client_, there, spin)),
        publisher_(publish_on(client_, back)),
        thread_([this] { run(); }) {}
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  ~Echo() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run() {
    while (!stop_) {
      hf_view view{};
      const int result = hf_take_wait(subscriber_.get(), kLookNs, &view);
      if (result == HF_OK) {
        const int sent = hf_publish(publisher_.get(), hf_view_data(&view), view.bytes, kAnswerNs);
        hf_view_release(&view);
        if (sent != HF_OK) return;
      } else if (result != HF_TIMEOUT) {
        return;
      }
    }
  }

  Client client_;
  Subscriber subscriber_;
  Publisher publisher_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

std::vector<std::int64_t> control_times(Control& control, std::uint64_t count) {
  std::vector<std::int64_t> times;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::int64_t began = now_ns();
    (void)control.request("ping");
    times.push_back(now_ns() - began);
  }
  return times;
}

[[noreturn]] void no_answer() {
  throw Failed(
      Exit::kTimedOut, "timed_out",
      "a sample was not answered within 5 s; the machine is overloaded, or memory is not shared: try holdfast doctor");
}

void round_trip(const Publisher& publisher, const Subscriber& subscriber, const std::vector<char>& payload) {
  if (checked(hf_publish(publisher.get(), payload.data(), payload.size(), kAnswerNs)) != HF_OK) no_answer();
  View view;
  const Deadline deadline(kAnswerNs);
  const int result =
      in_turns(deadline, [&](std::int64_t turn_ns) { return hf_take_wait(subscriber.get(), turn_ns, &view.view); });
  if (checked(result) == HF_TIMEOUT) no_answer();
  if (result != HF_OK || view.view.bytes != payload.size() ||
      !std::equal(payload.begin(), payload.end(), static_cast<const char*>(hf_view_data(&view.view))))
    throw Failed(Exit::kFailure, "corrupt", "a sample came back as another one; run holdfast doctor, and report this");
}

std::vector<std::int64_t> data_times(const Context& context, const PingOptions& options) {
  const std::string name = "holdfast-ping/" + std::to_string(::getpid());
  const std::string there = name + "/there";
  const std::string back = name + "/back";
  const Client client = open_client(context, "holdfast ping");
  const Publisher publisher = publish_on(client, there);
  const Subscriber subscriber = subscribe_to(client, back, options.spin);
  const Echo echo(context, there, back, options.spin);
  std::vector<char> payload(options.bytes);
  std::vector<std::int64_t> times;
  // The first round trips map memory and are not counted.
  const std::uint64_t uncounted = std::min<std::uint64_t>(options.count, 10);
  for (std::uint64_t i = 0; i < uncounted + options.count; ++i) {
    if (!payload.empty()) payload[0] = static_cast<char>(i);
    const std::int64_t began = now_ns();
    round_trip(publisher, subscriber, payload);
    if (i >= uncounted) times.push_back(now_ns() - began);
  }
  return times;
}

void report(const Context& context, const char* what, std::vector<std::int64_t> times, const std::string& how) {
  std::sort(times.begin(), times.end());
  const std::int64_t p50 = percentile(times, 50);
  const std::int64_t p90 = percentile(times, 90);
  if (context.json) {
    print_json({{"path", what}, {"round_trips", times.size()}, {"p50_ns", p50}, {"p90_ns", p90}, {"how", how}});
    return;
  }
  const std::string name = what;
  print(name + std::string(10 - name.size(), ' ') + "p50 " + human_ns(p50) + "  p90 " + human_ns(p90) + "  of " +
        std::to_string(times.size()) + ": " + how + "\n");
}

int ping(const Context& context, const PingOptions& options) {
  Control control(context);
  const nlohmann::json broker = control.request("ping");
  if (!context.json)
    print("broker    " + printable(text(broker, "version")) + ", instance " + printable(text(broker, "instance")) +
          ", epoch " + std::to_string(number(broker, "epoch")) + ", up " + human_age(number(broker, "uptime_ms")) +
          "\nsocket    " + printable(control.path()) + "\n");
  report(context, "control", control_times(control, options.count), "a request and its reply");
  report(context, "data", data_times(context, options),
         counted(options.bytes, "byte") + " there and back, " + (options.spin ? "spinning" : "sleeping in between"));
  return 0;
}

}  // namespace

void add_ping(Commands& commands) {
  auto options = std::make_shared<PingOptions>();
  CLI::App* ping_command = commands.app.add_subcommand("ping", "Measure round trips: control and data");
  ping_command->add_option("--count", options->count, "Round trips of each kind [1000]")
      ->type_name("N")
      ->check(within(std::uint64_t{1}, std::uint64_t{10'000'000}));
  ping_command->add_option("--bytes", options->bytes, "Payload of a sample [32]")
      ->type_name("N")
      ->check(within(std::uint64_t{0}, std::uint64_t{1} << 30));
  ping_command->add_flag("--spin", options->spin, "Both sides look without sleeping; needs two CPUs");
  ping_command->final_callback(
      [&commands, options] { commands.chosen = [&commands, options] { return ping(commands.context, *options); }; });
}

}  // namespace holdfast::cli
