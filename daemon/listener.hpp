// SPDX-License-Identifier: MIT
//
// The listening socket and the directory it lies in: made at the start, removed at the end, if they were ours to make.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <sys/types.h>

#include "daemon/config.hpp"
#include "proto/control/descriptor.hpp"

namespace holdfast::daemon {

class Listener {
 public:
  Listener() = default;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  // Removes the directory if it was made here and is empty.
  ~Listener();

  // Makes the runtime directory, 0750, if it is not there. Returns what went wrong, or "".
  [[nodiscard]] std::string make_directory(const Config& config);

  // Binds the socket: mode 0600, or 0660 where a group is configured. One that nobody listens on is stale and goes; where
  // somebody does, this is refused. Requires: the instance's lock is held.
  [[nodiscard]] std::string bind(const Config& config);

  // Takes the socket that systemd passed.
  void adopt(Descriptor socket) {
    socket_ = std::move(socket);
    adopted_ = true;
  }

  Descriptor take() { return std::move(socket_); }

  // The group whose members may connect: the configured one, else that of the socket that systemd made, else none.
  [[nodiscard]] std::string find_group(const Config& config, std::optional<std::uint32_t>& group) const;

  // What it has bound, and not what somebody has put in its place.
  void remove_socket();

 private:
  Descriptor socket_;
  std::string made_directory_;
  std::string bound_path_;
  std::pair<dev_t, ino_t> bound_file_{};
  bool adopted_ = false;
};

}  // namespace holdfast::daemon
