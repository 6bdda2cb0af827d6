// SPDX-License-Identifier: MIT
#include "daemon/config.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string_view>

#include <grp.h>
#include <sys/un.h>
#include <toml++/toml.h>

#include "proto/control/names.hpp"

namespace holdfast::daemon {

namespace {

std::string at(const std::string& path, const toml::node& node) {
  const auto& begin = node.source().begin;
  return path + ":" + std::to_string(begin.line) + ":" + std::to_string(begin.column) + ": ";
}

// What is wrong with a text, or "".
using Check = std::string (*)(const std::string& value);

std::string check_level(const std::string& value) {
  constexpr std::array<std::string_view, 7> kLevels = {"trace", "debug", "info", "warning", "error", "critical", "off"};
  if (std::find(kLevels.begin(), kLevels.end(), value) != kLevels.end()) return "";
  return "must be one of trace debug info warning error critical off";
}

std::string check_instance(const std::string& value) {
  return control::is_instance_name(value) ? "" : control::kInstanceNameRule;
}

std::string check_path(const std::string& value) {
  return value.find('\0') == std::string::npos ? "" : "must be a path: it has a byte of 0";
}

std::string check_group(const std::string& value) {
  return value.empty() || group_id(value) ? ""
                                          : "must be the name or number of a group, and there is no \"" + value + "\"";
}

// Reads the members of one table; the first thing that is wrong is kept.
class Reader {
 public:
  Reader(const std::string& path, const toml::table& table, std::string prefix)
      : path_(path),
        table_(table),
        prefix_(std::move(prefix)) {}

  void text(const char* key, std::string& value, Check check) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto given = node->value<std::string>();
    const std::string why = given && node->is_string() ? check(*given) : "must be a text";
    if (why.empty())
      value = *given;
    else
      wrong(*node, key, why);
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
  std::error_code none;
  if (std::filesystem::is_directory(path, none)) return path + ": is a directory";
  try {
    const toml::table root = toml::parse_file(path);
    Reader reader(path, root, "");
    reader.text("instance", config.instance, check_instance);
    reader.text("runtime_dir", config.runtime_dir, check_path);
    reader.text("socket", config.socket, check_path);
    reader.text("log_level", config.log_level, check_level);
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
      inner.text("group", config.group, check_group);
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
  if (const std::string why = check_level(config.log_level); !why.empty())
    return "log level \"" + config.log_level + "\" " + why;
  if (config.instance.empty()) {
    const char* given = environment("HOLDFAST_INSTANCE");
    config.instance = given != nullptr ? given : "default";
  }
  if (const std::string why = check_instance(config.instance); !why.empty())
    return "instance \"" + config.instance + "\" " + why;
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

std::string check_places(const Config& config) {
  namespace fs = std::filesystem;
  std::error_code none;
  const fs::path directory(config.runtime_dir);
  if (fs::exists(directory, none) && !fs::is_directory(directory, none))
    return "the runtime directory " + config.runtime_dir + " is no directory";
  const fs::path parent = fs::path(config.socket).parent_path();
  // The runtime directory is made, another one is not.
  if (parent != directory && !fs::is_directory(parent, none))
    return "the socket's directory " + parent.string() + " is not there";
  if (fs::exists(config.socket, none) && !fs::is_socket(config.socket, none))
    return config.socket + " is there and is no socket";
  return "";
}

std::optional<std::uint32_t> group_id(const std::string& name) {
  // A number where the group has no name here, as in a container.
  std::uint32_t number = 0;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) return number;
  const ::group* found = ::getgrnam(name.c_str());
  if (found == nullptr) return std::nullopt;
  return found->gr_gid;
}

}  // namespace holdfast::daemon
