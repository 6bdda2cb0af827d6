// SPDX-License-Identifier: MIT
#include "tests/integration/fd_keeper.hpp"

#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/integration/passed_fds.hpp"
#include "tests/integration/socket_address.hpp"

namespace holdfast::integration {

namespace {

constexpr std::size_t kFdsMax = 16;  // of one message
const std::string kSettle = "HOLDFAST_TEST_SETTLE=1";

Descriptor bound(const std::string& path) {
  Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  ::unlink(path.c_str());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw Broken("bind " + path + ": " + std::strerror(errno));
  return socket;
}

void send_to(const std::string& path, const std::string& text) {
  const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  ::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
           sizeof address);
}

// The value of NAME=value on a line of its own, or "".
std::string value_of(const std::string& message, const std::string& name) {
  std::istringstream lines(message);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(name + "=", 0) == 0) return line.substr(name.size() + 1);
  return "";
}

}  // namespace

FdKeeper::FdKeeper(std::string path, std::size_t limit)
    : path_(std::move(path)),
      limit_(limit),
      socket_(bound(path_)),
      ready_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { listen(); }) {}

FdKeeper::~FdKeeper() {
  ::shutdown(socket_.get(), SHUT_RDWR);  // the directory may be gone by now
  thread_.join();
  ::unlink(path_.c_str());
}

void FdKeeper::listen() {
  while (true) {
    char text[4096];
    alignas(cmsghdr) char control[CMSG_SPACE(kFdsMax * sizeof(int))];
    iovec part{text, sizeof text};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
    if (n == 0) return;
    if (n < 0) continue;
    std::vector<Descriptor> fds;
    collect_fds(header, fds);
    obey(std::string(text, static_cast<std::size_t>(n)), std::move(fds));
  }
}

void FdKeeper::obey(const std::string& message, std::vector<Descriptor> fds) {
  const std::uint64_t one = 1;
  if (value_of(message, "READY") == "1") [[maybe_unused]]
    const ssize_t written = ::write(ready_.get(), &one, sizeof one);
  const std::lock_guard lock(mutex_);
  if (message == kSettle) {
    ++settles_;
    settled_.notify_all();
  }
  const std::string name = value_of(message, "FDNAME");
  if (value_of(message, "FDSTOREREMOVE") == "1") kept_.erase(name);
  if (value_of(message, "FDSTORE") != "1") return;
  for (Descriptor& fd : fds)
    if (kept_.size() < limit_) kept_.insert_or_assign(name, std::move(fd));
}

void FdKeeper::take_ready() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = ::read(ready_.get(), &count, sizeof count);
}

void FdKeeper::settle() {
  std::unique_lock lock(mutex_);
  const std::size_t before = settles_;
  lock.unlock();
  send_to(path_, kSettle);
  lock.lock();
  if (!settled_.wait_for(lock, kSoon, [&] { return settles_ > before; }))
    throw Broken("the keeper of descriptors hangs");
}

std::vector<std::string> FdKeeper::names() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, fd] : kept_) names.push_back(name);
  return names;
}

std::map<std::string, Descriptor> FdKeeper::duplicates() {
  const std::lock_guard lock(mutex_);
  std::map<std::string, Descriptor> copies;
  for (const auto& [name, fd] : kept_) copies.emplace(name, Descriptor(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)));
  return copies;
}

void FdKeeper::forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  kept_.erase(name);
}

void FdKeeper::forget_all() {
  const std::lock_guard lock(mutex_);
  kept_.clear();
}

}  // namespace holdfast::integration
