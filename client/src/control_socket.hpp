// SPDX-License-Identifier: MIT
//
// One connection to the broker: requests go out as lines, replies come back in order, with descriptors.
// Not for two threads at once: Session serialises.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/src/descriptor.hpp"
#include "proto/control/message.hpp"

namespace holdfast::client {

struct Reply {
  nlohmann::json result;
  std::vector<Descriptor> fds;  // in the order of result["fds"]
};

class ControlSocket {
 public:
  ControlSocket() = default;
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  ~ControlSocket();

  // Connects to the first of `paths` that answers. Failure: HF_E_NO_BROKER, naming every path and why.
  [[nodiscard]] int connect(const std::vector<std::string>& paths, std::int64_t timeout_ns);

  // Sends one request and waits for its reply. A failure of the transport closes the connection for good.
  [[nodiscard]] int request(const char* method, const nlohmann::json& params, Reply& reply);

  const std::string& path() const { return path_; }
  int fd() const { return socket_.get(); }
  void close();

 private:
  int send_line(const std::string& line);
  int receive_line(std::string& line, std::vector<Descriptor>& fds);
  int lost(const std::string& why);

  Descriptor socket_;
  std::string path_;
  control::LineBuffer received_;
  std::uint64_t next_id_ = 1;
  std::int64_t timeout_ns_ = 0;
};

// Where to look for the broker of `instance`, in order. `socket`: the caller's choice, may be empty.
std::vector<std::string> socket_paths(const std::string& socket, const std::string& instance);

}  // namespace holdfast::client
