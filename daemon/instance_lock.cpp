// SPDX-License-Identifier: MIT
#include "daemon/instance_lock.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/sweep.hpp"

namespace holdfast::daemon {

namespace {

// Smaller than any segment: one of ours that somebody has linked to a lock's name is none.
constexpr off_t kLockBytesMax = 8191;

// Is the file at `path` the one that `fd` has open? The holder before us may have removed it while we waited.
bool same_file(const std::string& path, int fd) {
  struct stat at_path{};
  struct stat open_file{};
  return ::lstat(path.c_str(), &at_path) == 0 && ::fstat(fd, &open_file) == 0 && at_path.st_ino == open_file.st_ino &&
         at_path.st_dev == open_file.st_dev;
}

// What the file says: first the pid, then the runtime directory. For people, so without anything that moves a cursor.
struct Words {
  std::string pid;
  std::string runtime_dir;
};

Words read_words(int fd) {
  char bytes[kLockBytesMax];
  const ssize_t n = ::pread(fd, bytes, sizeof bytes, 0);
  const std::string text(bytes, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  const std::size_t line = text.find('\n');
  if (line == std::string::npos) return {};
  Words words{text.substr(0, line), text.substr(line + 1, text.find('\n', line + 1) - line - 1)};
  std::replace_if(
      words.runtime_dir.begin(), words.runtime_dir.end(), [](unsigned char c) { return c < ' ' || c == 127; }, '?');
  return words;
}

// Who has the lock that we did not get. It is asked for until file and kernel agree, since the holder may have taken it
// only just now: 100 ms at most.
std::string holder_of(int fd) {
  constexpr int kLooks = 100;
  constexpr timespec kPause{0, 1'000'000};
  pid_t pid = -1;
  Words words;
  bool agreed = false;
  for (int i = 0; i < kLooks && !agreed; ++i) {
    if (i > 0) ::nanosleep(&kPause, nullptr);
    pid = lock_holder(fd);
    words = read_words(fd);
    agreed = !words.pid.empty() && (pid == 0 || std::to_string(pid) == words.pid);
  }
  if (pid > 0) words.pid = std::to_string(pid);
  std::string holder = pid == 0 ? "in another pid namespace" : words.pid.empty() ? "pid unknown" : "pid " + words.pid;
  if (agreed && !words.runtime_dir.empty()) holder += ", runtime directory " + words.runtime_dir;
  return holder;
}

// For people, see holder_of(): where there is no room for it, the lock holds all the same.
void write_words(int fd, const std::string& runtime_dir) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  ::fcntl(fd, F_SETLK, &lock);
  std::error_code unknown;
  const std::string directory = std::filesystem::absolute(runtime_dir, unknown).string();
  const std::string text = std::to_string(::getpid()) + "\n" + (unknown ? runtime_dir : directory) + "\n";
  if (::ftruncate(fd, 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(fd, text.data(), text.size(), 0);
  }
}

}  // namespace

InstanceLock::~InstanceLock() {
  if (file_) ::unlink(path_.c_str());
}

// Opens the file at path_ and locks it. Returns what went wrong, or "".
std::string InstanceLock::lock_file(mode_t mode) {
  constexpr int kTries = 16;
  for (int i = 0; i < kTries; ++i) {
    file_ = Descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, mode));
    if (!file_) return "cannot open " + path_ + ": " + std::strerror(errno);
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
      const std::string holder = holder_of(file_.get());
      file_.reset();
      return "another broker of this instance runs, " + holder + " (it holds " + path_ +
             "): use it, stop it first, or give this one another --instance";
    }
    if (same_file(path_, file_.get())) return "";
  }
  file_.reset();
  return "cannot take " + path_ + ": it is removed again and again";
}

std::string InstanceLock::take(const std::string& path, const std::string& runtime_dir) {
  path_ = path;
  std::string wrong = lock_file(0640);
  if (wrong.empty()) write_words(file_.get(), runtime_dir);
  return wrong;
}

std::string InstanceLock::take_shared(const std::string& instance, const std::string& runtime_dir,
                                      std::string& in_the_way) {
  path_ = "/dev/shm/" + shared_lock_name(instance);
  std::string wrong = lock_file(0600);
  struct stat found{};
  const bool planted = !wrong.empty() && ::lstat(path_.c_str(), &found) == 0 && found.st_uid != ::geteuid();
  if (planted || (wrong.empty() && !is_ours())) {
    file_.reset();
    in_the_way = path_ +
                 " is somebody else's file: another broker of this instance with another runtime directory is "
                 "not noticed, so start none; have the file removed";
    return "";
  }
  if (wrong.empty()) write_words(file_.get(), runtime_dir);
  return wrong;
}

// A file that a broker of our uid has made for this, and nobody has linked here.
bool InstanceLock::is_ours() const {
  struct stat status{};
  return ::fstat(file_.get(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::geteuid() &&
         (status.st_mode & 077) == 0 && status.st_nlink == 1 && status.st_size <= kLockBytesMax;
}

std::string shared_lock_name(const std::string& instance) {
  return "holdfast." + instance + ".lock." + std::to_string(::geteuid());
}

}  // namespace holdfast::daemon
