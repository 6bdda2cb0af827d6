// SPDX-License-Identifier: MIT
//
// Files of an instance in /dev/shm, and whether somebody still uses them. A file is in use if
//   - it is a session's or the lock of a broker, and that process holds the lock on byte 0 (nobody needs to see it for that);
//   - or a process that we can see maps it;
//   - or it is a lane of such a session; or the roster, or bells, while any such session is there.
// Nothing is opened for writing, and no lock is taken. Main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace holdfast::cli {

inline constexpr const char* kLockKind = "lock";

struct Leftover {
  std::string name;  // in /dev/shm
  std::string kind;  // "lane", "session", "bells", "roster", kLockKind
  std::uint64_t bytes = 0;
  std::uint64_t session = 0;  // of lanes and sessions; 0: not known
  std::string used_by;  // why it stays; empty: nobody uses it
  std::string unreadable;  // why it could not be looked at: it stays, too
};

// Every file of the instance. Ordered by name.
std::vector<Leftover> look_at_files(const std::string& instance);

// Which instances have files in /dev/shm.
std::vector<std::string> instances_with_files();

}  // namespace holdfast::cli
