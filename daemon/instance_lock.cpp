// SPDX-License-Identifier: MIT
#include "daemon/instance_lock.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace holdfast::daemon {

namespace {

// Is the file at `path` the one that `fd` has open? The holder before us may have removed it while we waited.
bool same_file(const std::string& path, int fd) {
  struct stat at_path{};
  struct stat open_file{};
  return ::stat(path.c_str(), &at_path) == 0 && ::fstat(fd, &open_file) == 0 && at_path.st_ino == open_file.st_ino &&
         at_path.st_dev == open_file.st_dev;
}

}  // namespace

std::string InstanceLock::take(const std::string& path) {
  constexpr int kTries = 16;
  path_ = path;
  for (int i = 0; i < kTries; ++i) {
    file_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640));
    if (!file_) return "cannot open " + path + ": " + std::strerror(errno);
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
      char pid[32] = {};
      const ssize_t n = ::pread(file_.get(), pid, sizeof pid - 1, 0);
      std::string holder = n > 0 ? std::string(pid, static_cast<std::size_t>(n)) : std::string("unknown");
      while (!holder.empty() && holder.back() == '\n') holder.pop_back();
      return "another broker of this instance runs, pid " + holder + " (it holds " + path + ")";
    }
    if (!same_file(path, file_.get())) continue;
    const std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(file_.get(), 0) != 0 ||
        ::pwrite(file_.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()))
      return "cannot write " + path + ": " + std::strerror(errno);
    return "";
  }
  return "cannot take " + path + ": it is removed again and again";
}

void InstanceLock::remove() {
  if (file_) ::unlink(path_.c_str());
  file_.reset();
}

}  // namespace holdfast::daemon
