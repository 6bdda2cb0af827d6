// SPDX-License-Identifier: MIT
//
// A process that the campaign started: its end is waited for by pidfd, and it never outlives the campaign.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

#include "proto/control/descriptor.hpp"
#include "tests/soak/waiting.hpp"

namespace holdfast::soak {

struct Launch {
  std::string program;
  std::vector<std::string> arguments;  // the first is its name
  int inherited = -1;  // becomes descriptor 3
  int output = -1;     // becomes its standard output and error
  int when_we_die = 9;
};

class Child {
 public:
  // Returns when exec has happened. Throws Broken.
  explicit Child(const Launch& launch);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();  // SIGKILL, if it still runs

  void signal(int signal) const;
  // SIGKILL, and it is gone when this returns.
  void kill();
  // True: it has ended, and is reaped.
  bool ended(nanoseconds within = nanoseconds(0));
  // Waits until it stops: the signal that stopped it; 0: it has ended, and is reaped. Requires: this thread traces it.
  int await_stop();
  int status() const { return status_; }  // as wait() has it. Requires: ended
  pid_t pid() const { return pid_; }
  bool running() const { return pid_ > 0; }

 private:
  pid_t pid_ = -1;
  Descriptor pidfd_;
  int status_ = 0;
};

}  // namespace holdfast::soak
