// SPDX-License-Identifier: MIT
//
// Other processes of a test. Each is this test program executed anew in a *role*, a function that is registered by name;
// it talks with the test over a socket, one JSON document per message, and dies with the test.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>
#include <nlohmann/json.hpp>

#include "proto/control/descriptor.hpp"
#include "tests/integration/within.hpp"

namespace holdfast::integration {

using Arguments = std::vector<std::string>;

// One end of the conversation. One thread at a time.
class Channel {
 public:
  explicit Channel(int fd) : socket_(fd) {}

  void send(const nlohmann::json& message);
  // The next message; null at the end of the conversation. Throws Broken when nothing comes `within`.
  nlohmann::json receive(nanoseconds within = kSoon);
  bool has_message() const;
  void close() { socket_.reset(); }
  int fd() const { return socket_.get(); }

 private:
  Descriptor socket_;
};

// Registers `run` under `name`. Its status is the process's.
class Role {
 public:
  Role(const char* name, int (*run)(Channel& test, const Arguments& arguments));
};

// In main(): runs the role that the command line names. False: it names none.
bool run_role(int argc, char** argv, int& status);

class Process {
 public:
  // `own_pids`: in a pid namespace of its own, where it is pid 1; throws NoNamespace where there is none to be had.
  Process(const char* role, const Arguments& arguments, bool own_pids = false);
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  // Ends the conversation. A process that was not killed must then end with status 0: else the test fails.
  ~Process();

  Channel& channel() { return channel_; }
  // Sends, and receives the answer. Throws Broken if the process has ended instead.
  nlohmann::json call(const nlohmann::json& message);

  void kill(int signal);
  // Waits for its end: the status as wait() has it.
  int wait();
  pid_t pid() const { return pid_; }

 private:
  std::string role_;
  Channel channel_{-1};
  pid_t pid_ = -1;
  Descriptor pidfd_;
  bool killed_ = false;
  bool waited_ = false;
};

// Waits on a pidfd, then reaps. Throws Broken when the process does not end `within`.
int wait_for_exit(int pidfd, pid_t pid, nanoseconds within = kSoon);
Descriptor open_pidfd(pid_t pid);

}  // namespace holdfast::integration
