// SPDX-License-Identifier: MIT
//
// The control socket without the library: lines out, lines and descriptors back. What an attacker, or `nc`, can do.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "proto/control/descriptor.hpp"
#include "tests/integration/within.hpp"

namespace holdfast::integration {

struct Reply {
  nlohmann::json document;
  std::vector<Descriptor> fds;  // in the order of result.fds

  bool failed() const { return document.contains("error"); }
  const nlohmann::json& result() const;  // throws Broken with the error where there is none
  // The descriptor of this kind, or -1.
  int fd(const char* kind) const;
};

class RawControl {
 public:
  explicit RawControl(const std::string& path);

  Reply request(const char* method, const nlohmann::json& params = nlohmann::json::object());
  // Says hello as a client of this protocol and layout. Keeps nothing.
  Reply hello(const char* name = "raw");

  void send(std::string_view text);
  Reply receive();
  // True once the broker has closed the connection, after any lines that it still sent.
  bool closed_by_broker();

 private:
  // More bytes, or false at the end of the connection.
  bool receive_some();

  Descriptor socket_;
  std::string received_;
  std::vector<Descriptor> fds_;
  std::uint64_t next_id_ = 1;
};

}  // namespace holdfast::integration
