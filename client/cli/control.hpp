// SPDX-License-Identifier: MIT
//
// Questions to the broker that need no session: a connection, a line out, a line in. Lists are read page by page.
// Main thread. Failures are thrown (outcome.hpp); an interrupt ends every wait.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/cli/context.hpp"
#include "client/cli/files.hpp"
#include "proto/control/message.hpp"

namespace holdfast::cli {

// The instance that the flags and the environment name.
std::string instance_of(const Context& context);

// Where its broker may listen, in order.
std::vector<std::string> socket_paths(const Context& context);

class Control {
 public:
  // Connects to the first path where a broker answers. Failed: kNoBroker names every path tried, kDenied.
  explicit Control(const Context& context);
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // The result of one request. Failed: what the broker answered; kTimedOut after 10 s; kNoBroker if it went away.
  nlohmann::json request(std::string_view method, const nlohmann::json& params = nlohmann::json::object());

  // Every element of a paged list.
  void each(std::string_view method, const std::function<void(const nlohmann::json&)>& visit);
  std::vector<nlohmann::json> all(std::string_view method);

  const std::string& path() const { return path_; }

 private:
  void send(const std::string& line, const class Deadline& deadline);
  std::string receive(const class Deadline& deadline);
  [[noreturn]] void lost(const std::string& why) const;

  File socket_;
  std::string path_;
  control::LineBuffer received_;
  std::uint64_t next_id_ = 1;
};

// Members of a reply; absent or of another type: 0, "", false, an empty list.
std::uint64_t number(const nlohmann::json& object, const char* key);
std::string text(const nlohmann::json& object, const char* key);
const nlohmann::json& list(const nlohmann::json& object, const char* key);

}  // namespace holdfast::cli
