// SPDX-License-Identifier: MIT
#include "daemon/config.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string_view>

#include <sys/un.h>
#include <toml++/toml.h>

#include "daemon/broker/names.hpp"

namespace holdfast::daemon {

namespace {

std::string at(const std::string& path, const toml::node& node) {
  const auto& begin = node.source().begin;
  return path + ":" + std::to_string(begin.line) + ":" + std::to_string(begin.column) + ": ";
}

// Reads the members of one table; the first thing that is wrong is kept.
class Reader {
 public:
  Reader(const std::string& path, const toml::table& table, std::string prefix)
      : path_(path),
        table_(table),
        prefix_(std::move(prefix)) {}

  void text(const char* key, std::string& value) {
    if (const toml::node* node = find(key)) {
      if (const auto given = node->value<std::string>(); given && node->is_string())
        value = *given;
      else
        wrong(*node, key, "must be a text");
    }
  }

  template <class T>
  void number(const char* key, T& value, std::int64_t min, std::int64_t max) {
    if (const toml::node* node = find(key)) {
      const auto given = node->value<std::int64_t>();
      if (node->is_integer() && given && *given >= min && *given <= max)
        value = static_cast<T>(*given);
      else
        wrong(*node, key, "must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    }
  }

  const toml::table* table(const char* key) {
    const toml::node* node = find(key);
    if (node == nullptr) return nullptr;
    if (!node->is_table()) wrong(*node, key, "must be a table");
    return node->as_table();
  }

  // What is wrong, unknown keys included.
  std::string finish() {
    for (const auto& [key, node] : table_) {
      bool known = false;
      for (const std::string_view name : known_) known = known || name == key.str();
      if (known || !wrong_.empty()) continue;
      const auto& begin = key.source().begin;
      wrong_ = path_ + ":" + std::to_string(begin.line) + ":" + std::to_string(begin.column) + ": unknown key \"" +
               prefix_ + std::string(key.str()) + "\"; known here are";
      for (const std::string_view name : known_) wrong_ += " " + std::string(name);
    }
    return wrong_;
  }

 private:
  const toml::node* find(const char* key) {
    known_.emplace_back(key);
    return table_.get(key);
  }

  void wrong(const toml::node& node, const char* key, const std::string& why) {
    if (wrong_.empty()) wrong_ = at(path_, node) + "\"" + prefix_ + key + "\" " + why;
  }

  const std::string& path_;
  const toml::table& table_;
  std::string prefix_;
  std::vector<std::string_view> known_;
  std::string wrong_;
};

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

}  // namespace

std::string read_config(const std::string& path, Config& config) {
  try {
    const toml::table root = toml::parse_file(path);
    Reader reader(path, root, "");
    reader.text("instance", config.instance);
    reader.text("runtime_dir", config.runtime_dir);
    reader.text("socket", config.socket);
    reader.text("log_level", config.log_level);
    std::string wrong;
    if (const toml::table* limits = reader.table("limits")) {
      Reader inner(path, *limits, "limits.");
      inner.number("sessions", config.sessions, 1, static_cast<std::int64_t>(broker::kSessionsMax));
      inner.number("session_bytes_max", config.session_bytes_max, 0, INT64_MAX);
      inner.number("connections_per_uid", config.connections_per_uid, 1,
                   static_cast<std::int64_t>(broker::kConnectionsMax));
      wrong = inner.finish();
    }
    if (const toml::table* access = reader.table("access")) {
      Reader inner(path, *access, "access.");
      inner.text("group", config.group);
      if (wrong.empty()) wrong = inner.finish();
    }
    const std::string outer = reader.finish();
    return outer.empty() ? wrong : outer;
  } catch (const toml::parse_error& error) {
    const auto& begin = error.source().begin;
    return path + ":" + std::to_string(begin.line) + ":" + std::to_string(begin.column) + ": " +
           std::string(error.description());
  } catch (const std::exception& error) {
    return path + ": " + error.what();
  }
}

std::string complete(Config& config) {
  constexpr std::array<std::string_view, 7> kLevels = {"trace", "debug", "info", "warning", "error", "critical", "off"};
  bool known = false;
  for (const std::string_view level : kLevels) known = known || level == config.log_level;
  if (!known) return "log level \"" + config.log_level + "\" is not one of trace debug info warning error critical off";
  if (config.instance.empty()) {
    const char* given = environment("HOLDFAST_INSTANCE");
    config.instance = given != nullptr ? given : "default";
  }
  if (!broker::is_instance_name(config.instance))
    return "instance \"" + config.instance + "\" must be 1 to 32 of A-Z a-z 0-9 _ -";
  if (config.socket.empty()) {
    if (!config.runtime_dir.empty())
      config.socket = config.runtime_dir + "/" + config.instance + ".sock";
    else if (const char* given = environment("HOLDFAST_SOCKET"))
      config.socket = given;
    else if (const char* runtime = environment("XDG_RUNTIME_DIR"))
      config.socket = std::string(runtime) + "/holdfast/" + config.instance + ".sock";
    else
      config.socket = "/run/holdfast/" + config.instance + ".sock";
  }
  std::error_code error;
  config.socket = std::filesystem::absolute(config.socket, error).string();
  if (config.runtime_dir.empty()) config.runtime_dir = std::filesystem::path(config.socket).parent_path().string();
  if (config.socket.size() >= sizeof(sockaddr_un::sun_path))
    return "the socket's path is longer than " + std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
           " bytes: " + config.socket;
  return "";
}

}  // namespace holdfast::daemon
