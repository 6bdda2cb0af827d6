// SPDX-License-Identifier: MIT
//
// A real holdfastd for a test: an instance and a directory of its own, nothing left afterwards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

#include "proto/control/descriptor.hpp"
#include "tests/daemon/temporary_directory.hpp"

namespace holdfast::daemon {

class DaemonProcess {
 public:
  DaemonProcess();
  // One of an instance that another one has, too; it has a directory of its own. Requires: goes last, or was not started.
  explicit DaemonProcess(std::string instance);
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;
  // Ends it by SIGTERM, and checks that nothing of it is left in /dev/shm.
  ~DaemonProcess();

  // Starts it and waits until it says that it is ready; false: it ended instead. `descriptors_max`: 0 leaves the limit.
  // `launcher`: a command that gets holdfastd and its arguments behind its own, and becomes it.
  bool start(std::vector<std::string> arguments = {}, std::uint64_t descriptors_max = 0,
             const std::vector<std::string>& launcher = {});
  // The two halves of it.
  bool launch(std::vector<std::string> arguments = {}, std::uint64_t descriptors_max = 0,
              const std::vector<std::string>& launcher = {});
  bool ready();
  // Sends the signal; the exit status, or 128 + the signal that ended it.
  int stop(int signal);

  std::string socket() const { return directory_.file("run/" + instance_ + ".sock"); }
  const std::string& instance() const { return instance_; }
  const TemporaryDirectory& directory() const { return directory_; }
  std::string log() const;
  pid_t pid() const { return pid_; }
  std::vector<std::string> shm_files() const;

 private:
  TemporaryDirectory directory_;
  std::string instance_;
  Descriptor notify_;
  pid_t pid_ = -1;
};

// Runs holdfastd to its end: its exit status, and what it said.
int run_to_end(const std::vector<std::string>& arguments, std::string& output,
               const std::vector<std::string>& launcher = {});

}  // namespace holdfast::daemon
