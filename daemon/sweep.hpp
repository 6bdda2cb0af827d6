// SPDX-License-Identifier: MIT
//
// At its start the broker removes what earlier brokers of its instance have left in /dev/shm, it has not adopted, and no
// live session holds.
// A session is alive if somebody holds the fcntl lock on byte 0 of its session segment: the kernel drops it with the
// process. What live sessions hold stays, until they have ended.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include <sys/types.h>

#include "daemon/broker/rows.hpp"

namespace holdfast::daemon {

struct Leftover {
  broker::SessionId session;
  std::string records;  // the name of its session segment
  std::vector<std::string> names;  // that one, and those of its lanes
};

struct Swept {
  std::size_t removed = 0;
  std::vector<Leftover> left;
};

// Removes every file of this instance and our uid that is neither in `adopted` nor of a session that lives: those are
// `left`, and go when nobody holds their session any more. They are found where a registry was set aside.
Swept sweep(const std::string& instance, const std::set<std::string>& adopted);

// Does somebody hold this session? Nobody is taken for dead because we could not look.
bool is_held(const Leftover& leftover);

// The process that holds the session lock of this file: -1 nobody, 0 somebody that we cannot see.
pid_t lock_holder(int fd);

void remove_segment_file(const std::string& name);
// False as well where it cannot be said.
bool segment_file_is_missing(const std::string& name);

}  // namespace holdfast::daemon
