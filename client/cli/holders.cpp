// SPDX-License-Identifier: MIT
//
// `holdfast holders`: who holds which memory. A segment is held by the process that it was made for; the pins in it by the
// subscribers that hold views.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "client/cli/context.hpp"
#include "client/cli/control.hpp"
#include "client/cli/output.hpp"
#include "client/cli/table.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {

using Json = nlohmann::json;

struct Holding {
  std::string what;  // "lane", "session", "bells", "roster", "pins"
  std::uint64_t segment = 0;
  std::uint64_t session = 0;
  std::uint64_t pid = 0;
  std::string process;
  std::string topic;
  std::uint64_t bytes = 0;
  std::uint64_t age_ms = 0;
  std::uint64_t pins = 0;
};

std::vector<Holding> held_segments(Control& control) {
  std::vector<Holding> found;
  control.each("segments", [&](const Json& segment) {
    found.push_back({text(segment, "kind"), number(segment, "segment"), number(segment, "session"),
                     number(segment, "pid"), text(segment, "process"), text(segment, "topic"), number(segment, "bytes"),
                     number(segment, "age_ms"), 0});
  });
  return found;
}

std::vector<Holding> held_pins(Control& control) {
  std::vector<Holding> found;
  control.each("topics", [&](const Json& topic) {
    std::map<std::uint64_t, std::uint64_t> segments;
    for (const Json& lane : list(topic, "lanes")) segments[number(lane, "lane")] = number(lane, "segment");
    for (const Json& subscription : list(topic, "subscriptions"))
      for (const Json& lane : list(subscription, "lanes"))
        if (number(lane, "pins") != 0)
          found.push_back({"pins", segments[number(lane, "lane")], number(subscription, "session"),
                           number(subscription, "pid"), text(subscription, "process"), text(topic, "name"),
                           number(lane, "pinned_bytes"), number(lane, "oldest_pin_ms"), number(lane, "pins")});
  });
  return found;
}

void print_holding(const Holding& holding) {
  print_json({{"what", holding.what},
              {"segment", holding.segment},
              {"session", holding.session},
              {"pid", holding.pid},
              {"process", holding.process},
              {"topic", holding.topic.empty() ? Json() : Json(holding.topic)},
              {"bytes", holding.bytes},
              {"age_ms", holding.age_ms},
              {"pins", holding.pins}});
}

int show_holders(const Context& context, const std::string& topic) {
  Control control(context);
  std::vector<Holding> all = held_segments(control);
  const std::vector<Holding> pins = held_pins(control);
  all.insert(all.end(), pins.begin(), pins.end());
  if (!topic.empty()) {
    if (list(control.request("topics", {{"name", topic}}), "topics").empty())
      throw Failed(Exit::kNotFound, "not_found",
                   "topic " + topic + " is not there; holdfast ls lists the topics that are");
    std::erase_if(all, [&](const Holding& holding) { return holding.topic != topic; });
  }
  // Largest first; pins go with the segment that they are in.
  std::map<std::uint64_t, std::uint64_t> bytes;
  for (const Holding& holding : all) bytes[holding.segment] = std::max(bytes[holding.segment], holding.bytes);
  std::sort(all.begin(), all.end(), [&](const Holding& a, const Holding& b) {
    if (bytes[a.segment] != bytes[b.segment]) return bytes[a.segment] > bytes[b.segment];
    if (a.segment != b.segment) return a.segment < b.segment;
    return std::make_pair(a.pins, a.session) < std::make_pair(b.pins, b.session);
  });
  Table table({{"PID", Table::Align::kRight},
               {"PROCESS", Table::Align::kLeft, true},
               {"HOLDS"},
               {"BYTES", Table::Align::kRight},
               {"AGE", Table::Align::kRight},
               {"SEGMENT", Table::Align::kRight},
               {"TOPIC", Table::Align::kLeft, true}});
  for (const Holding& holding : all) {
    if (context.json) {
      print_holding(holding);
      continue;
    }
    table.add({holding.pid == 0 ? "-" : std::to_string(holding.pid),
               holding.pid == 0 && holding.process.empty() ? "(broker)" : holding.process,
               holding.pins != 0 ? "  " + counted(holding.pins, "pin") : holding.what,
               // The ring has gone on since, and says no more how large they are.
               holding.pins != 0 && holding.bytes == 0 ? "?" : human_bytes(holding.bytes), human_age(holding.age_ms),
               std::to_string(holding.segment), holding.topic.empty() ? "-" : holding.topic});
  }
  if (!context.json) table.print();
  return 0;
}

}  // namespace

void add_holders(Commands& commands) {
  auto topic = std::make_shared<std::string>();
  CLI::App* holders = commands.app.add_subcommand("holders", "Show who holds which memory");
  holders->add_option("topic", *topic, "Of this topic only")->type_name("");
  holders->final_callback(
      [&commands, topic] { commands.chosen = [&commands, topic] { return show_holders(commands.context, *topic); }; });
}

}  // namespace holdfast::cli
