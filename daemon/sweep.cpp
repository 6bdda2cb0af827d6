// SPDX-License-Identifier: MIT
#include "daemon/sweep.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/instance_lock.hpp"
#include "proto/control/descriptor.hpp"
#include "proto/shm/lane_layout.hpp"
#include "proto/shm/session_layout.hpp"

namespace holdfast::daemon {

namespace {

Descriptor open_file(const std::string& name) {
  return Descriptor(::shm_open(("/" + name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0));
}

// Anybody may make a file of any name here, and other uids have brokers of their own, of the same instance perhaps.
bool is_ours(int directory, const char* name) {
  struct stat status{};
  return ::fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_uid == ::geteuid();
}

// "holdfast.<instance>.<kind>.<random>": the segments of this instance, and no others. The lock is not to be touched:
// closing it would let go of a part of it.
std::vector<std::string> names_of(const std::string& instance) {
  const std::string prefix = "holdfast." + instance + ".";
  const std::string lock = shared_lock_name(instance);
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/dev/shm"), [](DIR* d) { return ::closedir(d); });
  if (directory == nullptr) return names;
  while (const dirent* entry = ::readdir(directory.get())) {
    std::string name = entry->d_name;
    if (name.starts_with(prefix) && name != lock && is_ours(::dirfd(directory.get()), entry->d_name))
      names.push_back(std::move(name));
  }
  return names;
}

bool is_kind(const std::string& name, const std::string& instance, const char* kind) {
  return name.starts_with("holdfast." + instance + "." + kind + ".");
}

// Whose this file says that it is; 0: nobody's.
broker::SessionId session_in(int fd, const std::string& name, const std::string& instance) {
  broker::SessionId session = 0;
  const bool is_session = is_kind(name, instance, "session");
  if (!is_session && !is_kind(name, instance, "lane")) return 0;
  const off_t offset = is_session ? offsetof(shm::SessionHeader, session) : offsetof(shm::LaneHeader, session);
  return ::pread(fd, &session, sizeof session, offset) == sizeof session ? session : 0;
}

}  // namespace

pid_t lock_holder(int fd) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  if (::fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return -1;
  return std::max<pid_t>(lock.l_pid, 0);
}

bool is_held(const Leftover& leftover) {
  const Descriptor file = open_file(leftover.records);
  return file ? lock_holder(file.get()) >= 0 : errno != ENOENT;
}

void remove_segment_file(const std::string& name) { ::shm_unlink(("/" + name).c_str()); }

bool segment_file_is_missing(const std::string& name) { return !open_file(name) && errno == ENOENT; }

Swept sweep(const std::string& instance, const std::set<std::string>& adopted) {
  Swept swept;
  std::vector<std::string> names = names_of(instance);
  std::erase_if(names, [&](const std::string& name) { return adopted.contains(name); });
  std::map<broker::SessionId, Leftover> live;
  for (const std::string& name : names) {
    if (!is_kind(name, instance, "session")) continue;
    const Descriptor file = open_file(name);
    if (!file) continue;
    const broker::SessionId session = session_in(file.get(), name, instance);
    if (lock_holder(file.get()) >= 0 && session != 0) live[session] = {session, name, {}};
  }
  for (const std::string& name : names) {
    const Descriptor file = open_file(name);
    const broker::SessionId session = file ? session_in(file.get(), name, instance) : 0;
    if (const auto holder = live.find(session); holder != live.end()) {
      holder->second.names.push_back(name);
      continue;
    }
    remove_segment_file(name);
    ++swept.removed;
  }
  for (auto& [session, leftover] : live) swept.left.push_back(std::move(leftover));
  return swept;
}

}  // namespace holdfast::daemon
