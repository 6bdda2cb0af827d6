// SPDX-License-Identifier: MIT
//
// A process that kills itself: the program crash_child, whose client library is built with CrashAtomics, told at which
// access to die. The test's side.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <sys/types.h>
#include <nlohmann/json.hpp>

#include "proto/control/descriptor.hpp"
#include "proto/shm/sites.hpp"
#include "tests/integration/process.hpp"

namespace holdfast::crash {

// Where to die, or to stop.
struct Kill {
  const shm::Site* site;
  std::uint64_t nth;
  bool before;
  bool stop = false;
};
std::ostream& operator<<(std::ostream& out, const Kill& kill);

// "CRASH_…=…" for a process that is to die at `kill` and reports on `report_fd`.
std::vector<std::string> crash_environment(const std::optional<Kill>& kill, int report_fd);

// The line that Trap::report() wrote. Read to the end of the pipe: to the death of all who hold it.
struct CrashReport {
  std::string word;                            // "done", or "died <site>"; empty: there was none
  std::map<std::string, std::uint64_t> count;  // executions by site
};
CrashReport read_report(int fd);

class CrashChild {
 public:
  // Starts crash_child with these arguments.
  CrashChild(const std::vector<std::string>& arguments, const std::optional<Kill>& kill);
  CrashChild(const CrashChild&) = delete;
  CrashChild& operator=(const CrashChild&) = delete;
  ~CrashChild();

  integration::Channel& channel() { return channel_; }
  pid_t pid() const { return pid_; }

  // Waits until it has stopped where it was told to. False: it does not. Then: on it goes.
  bool wait_for_stop();
  void go_on();

  // After the channel's end: waits for the process, and fails the test unless it died exactly where it was told to, or,
  // without a kill or with a mere stop, ended with status 0. Returns what it reported.
  CrashReport expect_end();

 private:
  std::optional<Kill> kill_;
  integration::Channel channel_{-1};
  Descriptor report_;
  Descriptor pidfd_;
  pid_t pid_ = -1;
  bool reaped_ = false;
};

}  // namespace holdfast::crash
