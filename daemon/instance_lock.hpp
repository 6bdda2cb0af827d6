// SPDX-License-Identifier: MIT
//
// One broker to an instance: a lock file with an flock and the holder's pid. The lock dies with the process.
#pragma once

#include <string>

#include "daemon/descriptor.hpp"

namespace holdfast::daemon {

class InstanceLock {
 public:
  InstanceLock() = default;
  InstanceLock(const InstanceLock&) = delete;
  InstanceLock& operator=(const InstanceLock&) = delete;

  // Returns what went wrong, or "". A second broker learns the first one's pid.
  [[nodiscard]] std::string take(const std::string& path);

  // Removes the file, under the lock.
  void remove();

 private:
  std::string path_;
  Descriptor file_;
};

}  // namespace holdfast::daemon
