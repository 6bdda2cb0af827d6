// SPDX-License-Identifier: MIT
#include "daemon/watcher.hpp"

#include <cerrno>
#include <utility>

#include <sys/socket.h>
#include <sys/syscall.h>

namespace holdfast::daemon {

namespace {

constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD, Linux 6.5, not in the headers yet

}  // namespace

void Watcher::watch(std::uint64_t key, Descriptor pidfd, std::function<void()> ended) {
  auto& descriptor = watches_[key];
  descriptor = std::make_unique<boost::asio::posix::stream_descriptor>(io_, pidfd.release());
  descriptor->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                         [this, key, ended = std::move(ended)](const boost::system::error_code& error) {
                           if (error == boost::asio::error::operation_aborted) return;
                           watches_.erase(key);
                           ended();
                         });
}

PeerProcess peer_process(int socket) {
  int fd = -1;
  socklen_t bytes = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, kPeerPidfd, &fd, &bytes) == 0)
    return {PeerProcess::Answer::kThere, Descriptor(fd), 0};
  // The kernel knows the process and has no pidfd to give: it is gone, and nobody waits for it any more.
  if (errno == ESRCH || errno == EINVAL) return {PeerProcess::Answer::kGone, {}, 0};
  return {PeerProcess::Answer::kUnknown, {}, errno};
}

Descriptor open_process(pid_t pid) { return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

}  // namespace holdfast::daemon
