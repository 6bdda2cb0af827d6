// SPDX-License-Identifier: MIT
//
// One broker to an instance: a lock file with an flock, which dies with the process. There are two of them. The one in the
// runtime directory guards socket and registry. The one in /dev/shm guards the segments: those of an instance have names
// that begin alike, whatever the runtime directory, and a broker removes what it does not know. It is one to a uid, as the
// segments are.
//
// The file says to people who has it: the holder's pid and its runtime directory. The pid that a second broker names is
// that of the process that the kernel says holds an fcntl lock on the same file: it is right across pid namespaces, or 0.
// That lock is there to be asked about, and excludes nobody.
#pragma once

#include <string>

#include <sys/types.h>

#include "proto/control/descriptor.hpp"

namespace holdfast::daemon {

class InstanceLock {
 public:
  InstanceLock() = default;
  InstanceLock(const InstanceLock&) = delete;
  InstanceLock& operator=(const InstanceLock&) = delete;
  // Removes the file, under the lock.
  ~InstanceLock();

  // Returns what went wrong, or "". A second broker learns the first one's pid and `runtime_dir`.
  [[nodiscard]] std::string take(const std::string& path, const std::string& runtime_dir);

  // The lock of `instance` in /dev/shm, where anybody may make a file of any name. One that is none of ours locks nobody
  // out: then there is no lock, and `in_the_way` says why.
  [[nodiscard]] std::string take_shared(const std::string& instance, const std::string& runtime_dir,
                                        std::string& in_the_way);

 private:
  std::string lock_file(mode_t mode);
  bool is_ours() const;

  std::string path_;
  Descriptor file_;
};

// Where the lock of an instance lies in /dev/shm, for brokers of our uid.
std::string shared_lock_name(const std::string& instance);

}  // namespace holdfast::daemon
