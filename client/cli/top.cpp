// SPDX-License-Identifier: MIT
//
// `holdfast top`: traffic, live. It asks the broker for counters and never subscribes, so what it shows is exact and costs
// the data path nothing. On a terminal it has a screen of its own and leaves at q or Ctrl-C; into a pipe it prints one table
// after another.
#include <algorithm>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <termios.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include "client/cli/context.hpp"
#include "client/cli/control.hpp"
#include "client/cli/flags.hpp"
#include "client/cli/interrupt.hpp"
#include "client/cli/outcome.hpp"
#include "client/cli/output.hpp"
#include "client/cli/table.hpp"
#include "client/cli/text.hpp"
#include "client/cli/traffic.hpp"

namespace holdfast::cli {

namespace {

using Json = nlohmann::json;
using Align = Table::Align;

struct TopOptions {
  bool once = false;
  double interval_s = 1;
};

// The alternate screen, and keys without Enter; both as they were when this goes.
class FullScreen {
 public:
  FullScreen() {
    const bool foreground = ::tcgetpgrp(STDIN_FILENO) == ::getpgrp();
    if (foreground && ::tcgetattr(STDIN_FILENO, &before_) == 0) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      keys_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    print("\x1b[?1049h\x1b[?25l");
  }
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;
  ~FullScreen() {
    constexpr char kBack[] = "\x1b[?25h\x1b[?1049l";
    [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, kBack, sizeof kBack - 1);
    if (keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }

  // Waits; true if q was pressed.
  bool wait(std::int64_t timeout_ns) {
    const Deadline deadline(timeout_ns);
    while (wait_readable(keys_ ? STDIN_FILENO : -1, deadline.left_ns(timeout_ns))) {
      char key = 0;
      const ssize_t count = ::read(STDIN_FILENO, &key, 1);
      if (count == 1 && (key == 'q' || key == 'Q')) return true;
      if (count == 0) keys_ = false;
    }
    return false;
  }

 private:
  termios before_{};
  bool keys_ = false;
};

void print_line(const TopicTraffic& topic, std::int64_t interval_ns) {
  print_json({{"topic", topic.name},
              {"publishers", topic.publishers},
              {"subscribers", topic.subscribers},
              {"samples", topic.samples},
              {"payload_bytes", topic.payload_bytes},
              {"samples_per_second", topic.samples_per_second},
              {"bytes_per_second", topic.bytes_per_second},
              {"lag", topic.lag},
              {"missed", topic.missed},
              {"missed_per_second", topic.missed_per_second},
              {"memory_bytes", topic.memory_bytes},
              {"oldest_pin_ms", topic.oldest_pin_ms ? Json(*topic.oldest_pin_ms) : Json()},
              {"partial", topic.partial},
              {"interval_ms", interval_ns / 1'000'000}});
}

Table table_of(std::vector<TopicTraffic> topics) {
  std::sort(topics.begin(), topics.end(), [](const TopicTraffic& a, const TopicTraffic& b) {
    if (a.bytes_per_second != b.bytes_per_second) return a.bytes_per_second > b.bytes_per_second;
    if (a.samples_per_second != b.samples_per_second) return a.samples_per_second > b.samples_per_second;
    return a.name < b.name;
  });
  Table table({{"TOPIC", Align::kLeft, true},
               {"PUB", Align::kRight},
               {"SUB", Align::kRight},
               {"RATE/s", Align::kRight},
               {"BYTES/s", Align::kRight},
               {"LAG", Align::kRight},
               {"MISSED/s", Align::kRight},
               {"MEMORY", Align::kRight},
               {"OLDEST PIN", Align::kRight}});
  for (const TopicTraffic& topic : topics)
    table.add({topic.name + (topic.partial ? " +" : ""), std::to_string(topic.publishers),
               std::to_string(topic.subscribers), human_count(topic.samples_per_second),
               human_bytes(static_cast<std::uint64_t>(topic.bytes_per_second)),
               human_count(static_cast<double>(topic.lag)), human_count(topic.missed_per_second),
               human_bytes(topic.memory_bytes), topic.oldest_pin_ms ? human_age(*topic.oldest_pin_ms) : "-"});
  return table;
}

// As much as fits.
std::string headline(const Json& stats, std::size_t columns) {
  std::string line = "holdfast top  " + printable(text(stats, "instance")) + ":";
  const std::string facts[] = {counted(number(stats, "topics"), "topic"), counted(number(stats, "sessions"), "session"),
                               human_bytes(number(stats, "segment_bytes")) + " shared",
                               human_bytes(number(stats, "shm_free_bytes")) + " free"};
  for (const std::string& fact : facts) {
    const std::string longer = line + (line.back() == ':' ? " " : ", ") + fact;
    if (columns != 0 && columns_of(longer) > columns) break;
    line = longer;
  }
  return shortened(line, columns == 0 ? columns_of(line) : columns);
}

// Asks, and says how long ago it asked before.
class Watch {
 public:
  explicit Watch(const Context& context) : context_(context), control_(std::in_place, context) { ask(); }

  // False: the broker is away. The next look is for the next one.
  bool look() {
    try {
      if (!control_) control_.emplace(context_);
      ask();
      return true;
    } catch (const Failed& failure) {
      if (failure.exit() != Exit::kNoBroker) throw;
      control_.reset();
      return false;
    }
  }
  void ask() {
    const std::int64_t now = now_ns();
    interval_ns_ = now - asked_ns_;
    asked_ns_ = now;
    topics_ = traffic_.measure(control_->all("topics"), now);
    stats_ = control_->request("stats");
  }

  const Json& stats() const { return stats_; }
  const std::vector<TopicTraffic>& topics() const { return topics_; }
  std::int64_t interval_ns() const { return interval_ns_; }

 private:
  const Context& context_;
  std::optional<Control> control_;
  Traffic traffic_;
  Json stats_;
  std::vector<TopicTraffic> topics_;
  std::int64_t asked_ns_ = 0;
  std::int64_t interval_ns_ = 0;
};

void print_once(const Watch& watch, bool json) {
  if (json) {
    for (const TopicTraffic& topic : watch.topics()) print_line(topic, watch.interval_ns());
    return;
  }
  print(headline(watch.stats(), is_terminal(STDOUT_FILENO) ? screen().columns : 0) + "\n");
  table_of(watch.topics()).print();
}

// `away`: what stands there is what the broker said last.
void draw(const Watch& watch, bool away) {
  const Screen size = screen();
  // Three lines are ours: the head, an empty one, and the table's titles.
  const std::vector<std::string> lines =
      table_of(watch.topics()).lines(size.columns, size.rows > 4 ? size.rows - 3 : 1);
  const std::string head = away ? shortened("holdfast top  the broker is away, waiting for the next one", size.columns)
                                : headline(watch.stats(), size.columns);
  std::string frame = "\x1b[H" + head + "\x1b[K\r\n\x1b[K";
  for (std::size_t i = 0; i < lines.size(); ++i)
    frame += std::string("\r\n") + (i == 0 ? "\x1b[7m" : "") + lines[i] +
             (i == 0 ? std::string(size.columns - std::min(size.columns, columns_of(lines[i])), ' ') + "\x1b[0m" : "") +
             "\x1b[K";
  print(frame + "\x1b[J");
}

int show(const Context& context, const TopOptions& options) {
  const auto interval_ns = static_cast<std::int64_t>(options.interval_s * 1e9);
  Watch watch(context);
  if (options.once || context.json || !is_terminal(STDOUT_FILENO)) {
    wait_readable_or_closed(-1, interval_ns);
    watch.ask();
    print_once(watch, context.json);
    bool away = false;
    while (!options.once) {
      wait_readable_or_closed(-1, interval_ns);
      const bool there = watch.look();
      if (!there && !away) say("holdfast top: the broker is away, waiting for the next one");
      away = !there;
      if (away) continue;
      if (!context.json) print("\n");
      print_once(watch, context.json);
    }
    return 0;
  }
  FullScreen full_screen;
  draw(watch, false);
  while (!full_screen.wait(interval_ns)) draw(watch, !watch.look());
  return 0;
}

}  // namespace

void add_top(Commands& commands) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* top = commands.app.add_subcommand("top", "Watch rates, bandwidth, lag and memory of all topics");
  top->add_flag("--once", options->once, "Measure one interval, print it, and end");
  top->add_option("--interval", options->interval_s, "Seconds between two looks [1]")
      ->type_name("S")
      ->check(within(0.05, 3600.0));
  top->final_callback(
      [&commands, options] { commands.chosen = [&commands, options] { return show(commands.context, *options); }; });
}

}  // namespace holdfast::cli
