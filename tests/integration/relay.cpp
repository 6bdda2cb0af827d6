// SPDX-License-Identifier: MIT
#include "tests/integration/relay.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/integration/passed_fds.hpp"
#include "tests/integration/socket_address.hpp"
#include "tests/integration/within.hpp"

namespace holdfast::integration {

namespace {

Descriptor new_socket() { return Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

}  // namespace

Relay::Relay(const std::string& path, const std::string& target)
    : path_(path),
      target_(target),
      listener_(new_socket()),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  const sockaddr_un address = address_of(path_);
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener_.get(), 8) != 0)
    throw Broken("no relay at " + path_ + ": " + std::strerror(errno));
  thread_ = std::thread([this] { run(); });
}

Relay::~Relay() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
  ::unlink(path_.c_str());
}

void Relay::before_next_answer(std::function<void()> call) {
  const std::lock_guard lock(mutex_);
  before_answer_ = std::move(call);
}

void Relay::cut() {
  {
    const std::lock_guard lock(mutex_);
    cut_ = true;
  }
  ::eventfd_write(wake_.get(), 1);
}

void Relay::take_connection() {
  Pair pair{Descriptor(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)), new_socket()};
  const sockaddr_un address = address_of(target_);
  // A broker that is away: the client's connection ends, as it would without us.
  if (!pair.client || ::connect(pair.broker.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return;
  pairs_.push_back(std::move(pair));
}

// False: this connection is over.
bool Relay::pass_on(int from, int to, bool answer) {
  char bytes[65536];
  alignas(cmsghdr) char ancillary[CMSG_SPACE(64 * sizeof(int))];
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  const ssize_t n = ::recvmsg(from, &message, MSG_CMSG_CLOEXEC);
  if (n <= 0) return false;
  collect_fds(message, kept_);
  std::function<void()> before;
  if (answer) {
    const std::lock_guard lock(mutex_);
    before = std::exchange(before_answer_, nullptr);
  }
  if (before) before();
  part.iov_len = static_cast<std::size_t>(n);
  return ::sendmsg(to, &message, MSG_NOSIGNAL) == n && !before;
}

void Relay::run() {
  while (true) {
    connections_ = pairs_.size();
    std::vector<pollfd> watched{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Pair& pair : pairs_) {
      watched.push_back({pair.client.get(), POLLIN, 0});
      watched.push_back({pair.broker.get(), POLLIN, 0});
    }
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) return;
    {
      const std::lock_guard lock(mutex_);
      if (over_) return;
      if (std::exchange(cut_, false)) {
        pairs_.clear();
        eventfd_t ignored = 0;
        ::eventfd_read(wake_.get(), &ignored);
        continue;
      }
    }
    std::size_t at = 2;
    for (auto pair = pairs_.begin(); pair != pairs_.end(); at += 2) {
      const bool goes_on = (watched[at].revents == 0 || pass_on(pair->client.get(), pair->broker.get(), false)) &&
                           (watched[at + 1].revents == 0 || pass_on(pair->broker.get(), pair->client.get(), true));
      pair = goes_on ? std::next(pair) : pairs_.erase(pair);
    }
    if (watched[1].revents != 0) take_connection();
  }
}

}  // namespace holdfast::integration
