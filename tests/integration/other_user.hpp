// SPDX-License-Identifier: MIT
//
// Processes of other users: a broker that lets a group in, and how one of our processes becomes a member. Needs root.
#pragma once

#include <string>

#include <grp.h>
#include <sys/types.h>
#include <unistd.h>

namespace holdfast::integration {

inline constexpr const char* kGroup = "users";  // whose members may connect
inline constexpr uid_t kOtherUser = 54322;  // not the overflow uid, which the broker refuses

// The configuration of a broker that others may use, too.
inline const std::string kShared = std::string("[access]\ngroup = \"") + kGroup + "\"\n";

// This process becomes another user, in that group or in none that matters.
inline bool become_other_user(bool in_group, uid_t user = kOtherUser) {
  const ::group* group = ::getgrnam(kGroup);
  const gid_t gid = in_group && group != nullptr ? group->gr_gid : user;
  return group != nullptr && ::setgroups(0, nullptr) == 0 && ::setresgid(gid, gid, gid) == 0 &&
         ::setresuid(user, user, user) == 0;
}

// Why this process cannot play another user, or "".
inline std::string no_other_user() {
  if (::geteuid() != 0) return "not_run: needs root to become another user";
  if (::getgrnam(kGroup) == nullptr) return std::string("not_run: there is no group ") + kGroup;
  return "";
}

}  // namespace holdfast::integration
