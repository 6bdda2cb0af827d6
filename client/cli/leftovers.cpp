// SPDX-License-Identifier: MIT
#include "client/cli/leftovers.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/files.hpp"
#include "proto/shm/lane_layout.hpp"
#include "proto/shm/session_layout.hpp"

namespace holdfast::cli {

namespace {

constexpr const char* kShm = "/dev/shm";
constexpr const char* kPrefix = "holdfast.";

struct Name {
  std::string instance;
  std::string kind;
};

// holdfast.<instance>.<kind>.<random>, where an instance has no dot. The brokers' lock is the kind "lock", with a uid.
std::optional<Name> parse_name(const std::string& name) {
  std::istringstream parts(name);
  std::string prefix, instance, kind, random, rest;
  std::getline(parts, prefix, '.');
  std::getline(parts, instance, '.');
  std::getline(parts, kind, '.');
  std::getline(parts, random, '.');
  if (prefix != "holdfast" || instance.empty() || random.empty() || std::getline(parts, rest, '.')) return std::nullopt;
  for (const char* known : {"lane", "session", "bells", "roster", kLockKind})
    if (kind == known) return Name{instance, kind};
  return std::nullopt;
}

// Path in /dev/shm → the process that maps it. Processes whose maps we may not read are not among them.
std::map<std::string, std::string> mapped_files() {
  std::map<std::string, std::string> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string pid = entry.path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::istringstream maps(read_proc("/proc/" + pid + "/maps"));
    for (std::string line; std::getline(maps, line);) {
      const std::size_t at = line.find(std::string(kShm) + "/" + kPrefix);
      if (at == std::string::npos) continue;
      std::string process = read_proc("/proc/" + pid + "/comm");
      process.erase(process.find_last_not_of('\n') + 1);
      found.emplace(line.substr(at + std::strlen(kShm) + 1), "mapped by " + process + ", pid " + pid);
    }
  }
  return found;
}

// Who holds the lock that a living session's process holds, or a broker; empty: nobody.
std::string lock_holder(int fd) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  if (::fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return {};
  // 0 or less: in another pid namespace.
  return lock.l_pid > 0 ? "its process lives, pid " + std::to_string(lock.l_pid) : "its process lives";
}

std::uint64_t session_of(int fd, const std::string& kind) {
  std::uint32_t session = 0;
  const off_t at = kind == "lane" ? offsetof(shm::LaneHeader, session) : offsetof(shm::SessionHeader, session);
  if (kind != "lane" && kind != "session") return 0;
  return ::pread(fd, &session, sizeof session, at) == sizeof session ? session : 0;
}

Leftover look_at(const std::string& name, const std::string& kind) {
  Leftover file{name, kind, 0, 0, {}, {}};
  const std::string path = std::string(kShm) + "/" + name;
  struct stat status{};
  const File opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (opened.fd() < 0 || ::fstat(opened.fd(), &status) != 0 || !S_ISREG(status.st_mode)) {
    file.unreadable = opened.fd() < 0 ? std::strerror(errno) : "not a file";
    return file;
  }
  file.bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
  file.session = session_of(opened.fd(), kind);
  if (kind == "session" || kind == kLockKind) file.used_by = lock_holder(opened.fd());
  return file;
}

}  // namespace

std::vector<Leftover> look_at_files(const std::string& instance) {
  std::vector<Leftover> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kShm, ignored)) {
    const std::string name = entry.path().filename().string();
    const auto parsed = parse_name(name);
    if (parsed && parsed->instance == instance) files.push_back(look_at(name, parsed->kind));
  }
  std::set<std::uint64_t> living;
  bool any_lives = false;
  for (const Leftover& file : files) {
    if (file.used_by.empty()) continue;
    any_lives = true;
    if (file.session != 0) living.insert(file.session);
  }
  const auto mapped = files.empty() ? std::map<std::string, std::string>{} : mapped_files();
  for (Leftover& file : files) {
    if (!file.used_by.empty()) continue;
    if (const auto at = mapped.find(file.name); at != mapped.end())
      file.used_by = at->second;
    else if (file.kind == "lane" && living.contains(file.session))
      file.used_by = "its publisher lives, session " + std::to_string(file.session);
    else if (any_lives && (file.kind == "bells" || file.kind == "roster"))
      file.used_by = "a session of the instance lives";
  }
  std::sort(files.begin(), files.end(), [](const Leftover& a, const Leftover& b) { return a.name < b.name; });
  return files;
}

std::vector<std::string> instances_with_files() {
  std::set<std::string> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kShm, ignored))
    if (const auto parsed = parse_name(entry.path().filename().string())) found.insert(parsed->instance);
  return {found.begin(), found.end()};
}

}  // namespace holdfast::cli
