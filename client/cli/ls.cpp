// SPDX-License-Identifier: MIT
//
// `holdfast ls`, `info` and `stats`: what there is. With --json each object is the broker's own, as docs/protocol.md
// describes it.
#include <algorithm>
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
using Align = Table::Align;

std::string digits(const Json& object, const char* key) { return std::to_string(number(object, key)); }
std::string dash_if_empty(std::string text) { return text.empty() ? "-" : text; }
std::string pid(const Json& object) { return number(object, "pid") == 0 ? "-" : digits(object, "pid"); }

std::uint64_t sum(const Json& objects, const char* key) {
  std::uint64_t total = 0;
  for (const Json& object : objects) total += number(object, key);
  return total;
}

// The type's name without its fields.
std::string type_name(const Json& topic) {
  const auto type = topic.find("type");
  if (type == topic.end() || type->is_null()) return "-";
  const std::string name = type->is_string() ? type->get<std::string>() : text(*type, "name");
  return dash_if_empty(name.substr(0, name.find('{')));
}

std::uint64_t missed(const Json& topic) {
  std::uint64_t total = 0;
  for (const Json& subscription : list(topic, "subscriptions")) total += sum(list(subscription, "lanes"), "missed");
  return total;
}

// ---- ls

int list_topics(Control& control, bool json) {
  Table table({{"TOPIC", Align::kLeft, true},
               {"TYPE", Align::kLeft, true},
               {"PUB", Align::kRight},
               {"SUB", Align::kRight},
               {"SAMPLES", Align::kRight},
               {"MISSED", Align::kRight},
               {"MEMORY", Align::kRight}});
  control.each("topics", [&](const Json& topic) {
    if (json) return print_json(topic);
    const Json& lanes = list(topic, "lanes");
    table.add({text(topic, "name"), type_name(topic), digits(topic, "publishers"), digits(topic, "subscribers"),
               std::to_string(sum(lanes, "head")), std::to_string(missed(topic)), human_bytes(sum(lanes, "bytes"))});
  });
  if (!json) table.print();
  return 0;
}

int list_sessions(Control& control, bool json) {
  Table table({{"SESSION", Align::kRight},
               {"PID", Align::kRight},
               {"UID", Align::kRight},
               {"NAME", Align::kLeft, true},
               {"PUB", Align::kRight},
               {"SUB", Align::kRight},
               {"MEMORY", Align::kRight},
               {"AGE", Align::kRight},
               {"SOCKET"}});
  control.each("sessions", [&](const Json& session) {
    if (json) return print_json(session);
    const auto connected = session.find("connected");
    const bool cut = connected != session.end() && connected->is_boolean() && !connected->get<bool>();
    table.add({digits(session, "session"), digits(session, "pid"), digits(session, "uid"), text(session, "name"),
               digits(session, "publishers"), digits(session, "subscribers"), human_bytes(number(session, "bytes")),
               human_age(number(session, "age_ms")), cut ? "cut" : "ok"});
  });
  if (!json) table.print();
  return 0;
}

int list_segments(Control& control, bool json) {
  Table table({{"SEGMENT", Align::kRight},
               {"KIND"},
               {"BACKING"},
               {"BYTES", Align::kRight},
               {"AGE", Align::kRight},
               {"PID", Align::kRight},
               {"PROCESS", Align::kLeft, true},
               {"TOPIC", Align::kLeft, true}});
  control.each("segments", [&](const Json& segment) {
    if (json) return print_json(segment);
    table.add({digits(segment, "segment"), text(segment, "kind"), text(segment, "backing"),
               human_bytes(number(segment, "bytes")), human_age(number(segment, "age_ms")), pid(segment),
               dash_if_empty(text(segment, "process")), dash_if_empty(text(segment, "topic"))});
  });
  if (!json) table.print();
  return 0;
}

// ---- info

std::string milliseconds(const Json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_integer()) return "-";
  const auto value = at->get<std::int64_t>();
  return value < 0 ? "for ever" : human_age(static_cast<std::uint64_t>(value));
}

void print_options(const Json& topic) {
  const auto yes = [&](const char* key) {
    const auto at = topic.find(key);
    return at != topic.end() && at->is_boolean() && at->get<bool>();
  };
  const auto type = topic.find("type");
  std::string described = "any";
  if (type != topic.end() && type->is_object())
    described = text(*type, "name") + ", " + digits(*type, "bytes") + " bytes, aligned to " + digits(*type, "align");
  else if (type != topic.end() && type->is_string())
    described = type->get<std::string>();
  const std::pair<const char*, std::string> facts[] = {
      {"topic", text(topic, "name")},
      {"type", described},
      {"ring", digits(topic, "ring") + " samples, of which " + digits(topic, "depth") + " kept for late joiners"},
      {"chunks", digits(topic, "chunks_max") + " at most, " + text(topic, "backing")},
      {"clock", dash_if_empty(text(topic, "clock"))},
      {"publishers", digits(topic, "publishers") + (yes("exclusive") ? ", exclusive" : "")},
      {"subscribers", digits(topic, "subscribers")},
      {"linger", milliseconds(topic, "linger_ms")},
      {"stall timeout", milliseconds(topic, "stall_timeout_ms")},
  };
  std::string text;
  for (const auto& [name, value] : facts) {
    text += name + std::string(15 - std::string(name).size(), ' ') + printable(value) + "\n";
  }
  print(text);
}

void print_lanes(const Json& topic) {
  Table table({{"LANE", Align::kRight},
               {"STATE"},
               {"PID", Align::kRight},
               {"PROCESS", Align::kLeft, true},
               {"SAMPLES", Align::kRight},
               {"PAYLOAD", Align::kRight},
               {"MEMORY", Align::kRight},
               {"READERS", Align::kRight},
               {"FULL", Align::kRight}});
  for (const Json& lane : list(topic, "lanes"))
    table.add({digits(lane, "lane"), text(lane, "state"), pid(lane), text(lane, "process"), digits(lane, "head"),
               human_bytes(number(lane, "payload_bytes")), human_bytes(number(lane, "bytes")), digits(lane, "readers"),
               digits(lane, "full")});
  if (table.size() == 0) return;
  print("\n");
  table.print();
  if (number(topic, "lanes_count") > table.size())
    print("… " + std::to_string(number(topic, "lanes_count") - table.size()) + " more lanes\n");
}

void print_subscriptions(const Json& topic) {
  Table table({{"PID", Align::kRight},
               {"PROCESS", Align::kLeft, true},
               {"DELIVERY"},
               {"LANE", Align::kRight},
               {"LAG", Align::kRight},
               {"MISSED", Align::kRight},
               {"TAKEN", Align::kRight},
               {"PINS", Align::kRight},
               {"OLDEST", Align::kRight}});
  for (const Json& subscription : list(topic, "subscriptions")) {
    const std::string process = text(subscription, "process");
    const std::string delivery = text(subscription, "delivery");
    if (list(subscription, "lanes").empty())
      table.add({pid(subscription), process, delivery, "-", "-", "-", "-", "-", "-"});
    for (const Json& lane : list(subscription, "lanes"))
      table.add({pid(subscription), process, delivery, digits(lane, "lane"), digits(lane, "lag"),
                 digits(lane, "missed"), digits(lane, "taken"), digits(lane, "pins"),
                 number(lane, "pins") == 0 ? "-" : human_age(number(lane, "oldest_pin_ms"))});
  }
  if (table.size() == 0) return;
  print("\n");
  table.print();
  const std::uint64_t listed = list(topic, "subscriptions").size();
  if (number(topic, "subscriptions_count") > listed)
    print("… " + std::to_string(number(topic, "subscriptions_count") - listed) + " more subscribers\n");
}

int show_topic(const Context& context, const std::string& name) {
  Control control(context);
  const Json reply = control.request("topics", {{"name", name}});
  const Json& topics = list(reply, "topics");
  if (topics.empty())
    throw Failed(Exit::kNotFound, "not_found",
                 "topic " + name + " is not there; holdfast ls lists the topics that are");
  if (context.json) {
    print_json(topics.front());
    return 0;
  }
  print_options(topics.front());
  print_lanes(topics.front());
  print_subscriptions(topics.front());
  return 0;
}

// ---- stats

std::string shown(const std::string& key, const Json& value) {
  if (value.is_number_unsigned()) {
    const auto count = value.get<std::uint64_t>();
    if (key.find("bytes") != std::string::npos)
      return key == "quota_bytes_max" && count == 0 ? "none" : std::to_string(count) + "  (" + human_bytes(count) + ")";
    if (key.size() > 3 && key.substr(key.size() - 3) == "_ms")
      return std::to_string(count) + "  (" + human_age(count) + ")";
  }
  return value.is_string() ? value.get<std::string>() : value.dump();
}

int show_stats(const Context& context) {
  const Json stats = Control(context).request("stats");
  if (context.json) {
    print_json(stats);
    return 0;
  }
  Table table({{"NAME"}, {"VALUE"}});
  for (const auto& [key, value] : stats.items())
    if (!value.is_object()) table.add({key, shown(key, value)});
  for (const auto& [key, value] : stats.items())
    if (value.is_object())
      for (const auto& [inner, limit] : value.items()) table.add({key + "." + inner, shown(inner, limit)});
  table.print();
  return 0;
}

}  // namespace

void add_ls(Commands& commands) {
  struct Options {
    bool sessions = false;
    bool segments = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* ls = commands.app.add_subcommand("ls", "List topics");
  auto* sessions = ls->add_flag("--sessions", options->sessions, "List connected processes instead");
  ls->add_flag("--segments", options->segments, "List shared-memory files instead")->excludes(sessions);
  ls->final_callback([&commands, options] {
    commands.chosen = [&commands, options] {
      Control control(commands.context);
      if (options->sessions) return list_sessions(control, commands.context.json);
      if (options->segments) return list_segments(control, commands.context.json);
      return list_topics(control, commands.context.json);
    };
  });
}

void add_info(Commands& commands) {
  auto topic = std::make_shared<std::string>();
  CLI::App* info = commands.app.add_subcommand("info", "Show one topic: options, lanes, subscribers");
  info->add_option("topic", *topic, "Name of the topic")->required()->type_name("");
  info->final_callback(
      [&commands, topic] { commands.chosen = [&commands, topic] { return show_topic(commands.context, *topic); }; });
}

void add_stats(Commands& commands) {
  CLI::App* stats = commands.app.add_subcommand("stats", "Show the broker's numbers and limits");
  stats->final_callback([&commands] { commands.chosen = [&commands] { return show_stats(commands.context); }; });
}

}  // namespace holdfast::cli
