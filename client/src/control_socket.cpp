// SPDX-License-Identifier: MIT
#include "client/src/control_socket.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client/src/deadline.hpp"
#include "client/src/failure.hpp"
#include "client/src/fork_guard.hpp"
#include "proto/control/errors.hpp"
#include "proto/control/message.hpp"

namespace holdfast::client {

namespace {

constexpr std::size_t kDescriptorsMax = 64;  // of one reply

// Connects, or says why not.
int connect_to(const std::string& path, Descriptor& socket, std::string& why) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    why = "longer than " + std::to_string(sizeof(address.sun_path) - 1) + " bytes";
    return HF_E_INVALID;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  socket = Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) {
    why = std::strerror(errno);
    return HF_E_SYSTEM;
  }
  int result = 0;
  do {
    result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return HF_OK;
  why = std::strerror(errno);
  const bool denied = errno == EACCES || errno == EPERM;
  socket.reset();
  return denied ? HF_E_DENIED : HF_E_NO_BROKER;
}

// Appends what came as SCM_RIGHTS. False if the kernel had to drop some: no descriptors left in this process.
bool collect_descriptors(msghdr& message, std::vector<Descriptor>& fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return (message.msg_flags & MSG_CTRUNC) == 0;
}

}  // namespace

std::vector<std::string> socket_paths(const std::string& socket, const std::string& instance) {
  if (!socket.empty()) return {socket};
  if (const char* given = std::getenv("HOLDFAST_SOCKET"); given != nullptr && *given != '\0') return {given};
  std::vector<std::string> paths;
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime != '\0')
    paths.push_back(std::string(runtime) + "/holdfast/" + instance + ".sock");
  paths.push_back("/run/holdfast/" + instance + ".sock");
  return paths;
}

ControlSocket::~ControlSocket() { close(); }

void ControlSocket::close() {
  if (!socket_) return;
  forget_in_child(socket_.get());
  socket_.reset();
}

int ControlSocket::connect(const std::vector<std::string>& paths, std::int64_t timeout_ns) {
  timeout_ns_ = timeout_ns;
  std::string tried;
  int code = HF_E_NO_BROKER;
  for (const std::string& path : paths) {
    std::string why;
    const int result = connect_to(path, socket_, why);
    if (result == HF_OK) {
      path_ = path;
      close_in_child(socket_.get());
      return HF_OK;
    }
    if (result == HF_E_DENIED) code = HF_E_DENIED;
    tried += (tried.empty() ? "" : ", ") + path + " (" + why + ")";
  }
  return fail(code,
              "no broker answers; tried " + tried + ". Start holdfastd, or set HOLDFAST_SOCKET or HOLDFAST_INSTANCE");
}

int ControlSocket::request(const char* method, const nlohmann::json& params, Reply& reply) {
  if (!socket_)
    return fail(HF_E_NO_BROKER, "the broker at " + path_ +
                                    " is gone; what is attached goes on without it, open a new client for the rest");
  const std::uint64_t id = next_id_++;
  const std::string line = control::request_line(id, method, params);
  if (line.size() > control::kLineBytesMax)
    return fail(HF_E_TOO_LARGE, std::string("the request ") + method + " has " + std::to_string(line.size()) +
                                    " bytes, the limit is " + std::to_string(control::kLineBytesMax));
  if (const int sent = send_line(line); sent != HF_OK) return sent;
  std::string answer;
  if (const int received = receive_line(answer, reply.fds); received != HF_OK) return received;
  auto parsed = control::parse_line(answer);
  auto* document = std::get_if<nlohmann::json>(&parsed);
  if (document == nullptr || !document->is_object()) return lost("it answered with something that is no reply");
  if (const auto error = document->find("error"); error != document->end() && error->is_object()) {
    const int code = error->value("code", 0);
    const auto* known = control::find_error(code);
    std::string sentence = error->value("message", std::string("the broker gave no reason"));
    return fail(known != nullptr ? known->c_abi : HF_E_PROTOCOL, std::move(sentence));
  }
  const auto result = document->find("result");
  if (result == document->end() || !result->is_object() || document->value("id", std::uint64_t{0}) != id)
    return lost("it answered another question");
  reply.result = std::move(*result);
  return HF_OK;
}

int ControlSocket::send_line(const std::string& line) {
  const Deadline deadline(timeout_ns_);
  std::size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t n = ::send(socket_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN) {
      pollfd writable{socket_.get(), POLLOUT, 0};
      if (::poll(&writable, 1, deadline.poll_ms()) == 0) return lost("it does not read our request");
    } else if (errno != EINTR) {
      return lost(std::strerror(errno));
    }
  }
  return HF_OK;
}

int ControlSocket::receive_line(std::string& line, std::vector<Descriptor>& fds) {
  const Deadline deadline(timeout_ns_);
  while (true) {
    if (auto next = received_.next()) {
      line = std::move(*next);
      return HF_OK;
    }
    pollfd readable{socket_.get(), POLLIN, 0};
    const int polled = ::poll(&readable, 1, deadline.poll_ms());
    if (polled == 0) return lost("it did not answer in time");
    if (polled < 0) {
      if (errno == EINTR) continue;
      return lost(std::strerror(errno));
    }
    char bytes[16384];
    alignas(cmsghdr) char control_bytes[CMSG_SPACE(kDescriptorsMax * sizeof(int))];
    iovec part{bytes, sizeof bytes};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control_bytes;
    message.msg_controllen = sizeof control_bytes;
    const ssize_t n = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return lost(n == 0 ? "it closed the connection" : std::strerror(errno));
    if (!collect_descriptors(message, fds)) return lost("this process has no descriptors left; raise ulimit -n");
    if (!received_.append({bytes, static_cast<std::size_t>(n)})) return lost("its answer is longer than a line may be");
  }
}

int ControlSocket::lost(const std::string& why) {
  close();
  return fail(HF_E_NO_BROKER, "lost the broker at " + path_ + ": " + why +
                                  ". What is attached goes on without it, open a new client for the rest");
}

}  // namespace holdfast::client
