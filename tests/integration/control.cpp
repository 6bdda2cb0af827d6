// SPDX-License-Identifier: MIT
#include "tests/integration/control.hpp"

#include <cerrno>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/integration/passed_fds.hpp"

namespace holdfast::integration {

const nlohmann::json& Reply::result() const {
  if (failed() || !document.contains("result")) throw Broken("the broker refused: " + document.dump());
  return document["result"];
}

int Reply::fd(const char* kind) const {
  if (failed() || !result().contains("fds")) return -1;
  const nlohmann::json& listed = result()["fds"];
  for (std::size_t i = 0; i < listed.size() && i < fds.size(); ++i)
    if (listed[i].value("kind", "") == kind) return fds[i].get();
  return -1;
}

RawControl::RawControl(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw Broken("the path of the socket is too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw Broken("connect " + path + ": " + std::strerror(errno));
}

Reply RawControl::request(const char* method, const nlohmann::json& params) {
  send(nlohmann::json{{"jsonrpc", "2.0"}, {"id", next_id_++}, {"method", method}, {"params", params}}.dump() + "\n");
  return receive();
}

Reply RawControl::hello(const char* name) {
  return request("hello", {{"protocol", 1}, {"layout", 1}, {"name", name}, {"exe", "/none"}, {"membarrier", true}});
}

void RawControl::send(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Broken(std::string("send: ") + std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

Reply RawControl::receive() {
  while (true) {
    if (const std::size_t end = received_.find('\n'); end != std::string::npos) {
      Reply reply;
      reply.document = nlohmann::json::parse(received_.substr(0, end));
      received_.erase(0, end + 1);
      reply.fds = std::move(fds_);
      fds_.clear();
      return reply;
    }
    if (!receive_some()) throw Broken("the broker closed the connection");
  }
}

bool RawControl::closed_by_broker() {
  while (receive_some()) {
  }
  return true;
}

bool RawControl::receive_some() {
  pollfd readable{socket_.get(), POLLIN, 0};
  const auto ms = static_cast<int>(std::chrono::duration_cast<milliseconds>(kSoon).count());
  if (::poll(&readable, 1, ms) <= 0) throw Broken("the broker does not answer");
  char bytes[16384];
  alignas(cmsghdr) char ancillary[CMSG_SPACE(64 * sizeof(int))];
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  const ssize_t n = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  if (n <= 0) return false;
  collect_fds(message, fds_);
  received_.append(bytes, static_cast<std::size_t>(n));
  return true;
}

}  // namespace holdfast::integration
