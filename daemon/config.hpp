// SPDX-License-Identifier: MIT
//
// What the broker is told: command line over configuration file over environment over defaults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "daemon/broker/limits.hpp"

namespace holdfast::daemon {

struct Config {
  std::string instance;
  std::string runtime_dir;
  std::string socket;
  std::string log_level = "info";
  std::size_t sessions = broker::kSessionsMax;
  std::uint64_t session_bytes_max = 0;  // 0: no quota
  std::size_t connections_per_uid = broker::kConnectionsPerUidDefault;
  std::string group;  // name or number: whose members may connect, too; empty: that of a socket from systemd, else none
};

// Reads a TOML file over `config`. Returns what is wrong, with line and column, or "".
[[nodiscard]] std::string read_config(const std::string& path, Config& config);

// Fills in what nobody has said: instance, socket and runtime directory. Returns what is wrong, or "".
[[nodiscard]] std::string complete(Config& config);

// Looks for files and directories that are in the way of a start, or missing, without making any. What is wrong, or "".
[[nodiscard]] std::string check_places(const Config& config);

// The group of this name or number; none: there is no such group here.
std::optional<std::uint32_t> group_id(const std::string& name);

}  // namespace holdfast::daemon
