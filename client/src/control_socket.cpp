// SPDX-License-Identifier: MIT
#include "client/src/control_socket.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>
#include <variant>

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "client/src/failure.hpp"
#include "client/src/fork_guard.hpp"
#include "client/src/json_fields.hpp"
#include "proto/control/errors.hpp"
#include "proto/control/message.hpp"

namespace holdfast::client {

namespace {

constexpr std::size_t kDescriptorsMax = 64;  // of one line

// How long connect() waits where the broker has more connections to take than its backlog holds. 0 would be for ever.
void bound_connect(int socket, std::int64_t timeout_ns) {
  const std::int64_t us = std::max<std::int64_t>(1, timeout_ns / 1000);
  const timeval bound{static_cast<time_t>(us / 1'000'000), static_cast<suseconds_t>(us % 1'000'000)};
  (void)::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
}

// Connects, or says why not.
int connect_to(const std::string& path, std::int64_t timeout_ns, Descriptor& socket, std::string& why) {
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
  bound_connect(socket.get(), timeout_ns);
  int result = 0;
  do {
    result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return HF_OK;
  why = errno == EAGAIN ? "it takes no connection" : std::strerror(errno);
  const bool denied = errno == EACCES || errno == EPERM;
  socket.reset();
  return denied ? HF_E_DENIED : HF_E_NO_BROKER;
}

// Appends what came as SCM_RIGHTS. False if the kernel had to drop some: no descriptors left in this process.
bool collect_descriptors(msghdr& message, std::deque<Descriptor>& fds) {
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
  if (socket_) {
    forget_in_child(socket_.get());
    socket_.reset();
  }
  unsent_.clear();
  unsent_fds_.clear();
  received_ = {};
  received_fds_.clear();
  const auto given_up = std::exchange(given_up_, {});
  for (const auto& [id, request] : given_up) {
    Reply none;
    none.code = HF_E_NO_BROKER;
    if (request.late) request.late(none);
  }
}

void ControlSocket::abandon() {
  socket_.release();
  given_up_.clear();
}

int ControlSocket::connect(const std::vector<std::string>& paths, std::int64_t timeout_ns, std::int64_t connect_ns) {
  timeout_ns_ = timeout_ns;
  left_by_broker_ = false;
  std::string tried;
  int code = HF_E_NO_BROKER;
  for (const std::string& path : paths) {
    std::string why;
    const int result = connect_to(path, connect_ns >= 0 ? connect_ns : timeout_ns, socket_, why);
    if (result == HF_OK) {
      path_ = path;
      close_in_child(socket_.get());
      return HF_OK;
    }
    if (result == HF_E_DENIED) code = HF_E_DENIED;
    tried += (tried.empty() ? "" : ", ") + path + " (" + why + ")";
  }
  return fail(code, "no broker answers; tried " + tried);
}

int ControlSocket::request(const char* method, const nlohmann::json& params, Reply& reply, std::int64_t timeout_ns,
                           LateReply late, std::vector<int> fds) {
  if (!socket_) return fail(HF_E_NO_BROKER, "there is no connection to the broker at " + path_);
  if (const int result = take_late(); result != HF_OK) return result;
  const std::uint64_t id = next_id_++;
  std::string line = control::request_line(id, method, params);
  if (line.size() > control::kLineBytesMax)
    return fail(HF_E_TOO_LARGE, std::string("the request ") + method + " has " + std::to_string(line.size()) +
                                    " bytes, the limit is " + std::to_string(control::kLineBytesMax));
  const std::int64_t asked_ns = monotonic_ns();
  const Deadline deadline(timeout_ns);
  const std::size_t bytes = line.size();
  int result = flush(deadline);
  if (result == HF_OK) {
    unsent_ = std::move(line);
    unsent_fds_ = std::move(fds);
    result = flush(deadline);
    // Not even begun: it can be taken back. Else its end goes out before the next.
    if (result == HF_TIMEOUT && unsent_.size() < bytes) given_up_[id] = {asked_ns, std::exchange(late, nullptr)};
    if (unsent_.size() == bytes) unsent_.clear();
    unsent_fds_.clear();
  }
  if (result == HF_TIMEOUT) {
    Reply none;
    none.code = HF_E_NO_BROKER;
    if (late) late(none);
  }
  while (result == HF_OK) {
    Answer answer;
    result = next_answer(deadline, answer);
    if (result == HF_TIMEOUT) given_up_[id] = {asked_ns, std::move(late)};
    if (result != HF_OK) break;
    if (answer.unnumbered || answer.id == id) return settle(answer, reply);
    result = hand_out(answer);
  }
  return result == HF_TIMEOUT ? give_up(method, timeout_ns) : result;
}

int ControlSocket::give_up(const char* method, std::int64_t timeout_ns) {
  const std::int64_t ms = (timeout_ns + 999'999) / 1'000'000;
  return fail(HF_TIMEOUT, "the broker at " + path_ + " has not answered " + method +
                              (ms > 0 ? " within " + std::to_string(ms) + " ms" : " yet") + advice_.late);
}

std::int64_t ControlSocket::owed_until_ns() const {
  if (given_up_.empty()) return std::numeric_limits<std::int64_t>::max();
  return given_up_.begin()->second.asked_ns + timeout_ns_;
}

int ControlSocket::take_late(const Deadline& deadline) {
  const Deadline now(0);
  while (socket_) {
    Answer answer;
    int result = next_answer(given_up_.empty() ? now : deadline, answer);
    if (result == HF_TIMEOUT) return HF_OK;
    if (result == HF_OK) {
      Reply none;
      result = answer.unnumbered ? settle(answer, none) : hand_out(answer);
    }
    if (result != HF_OK) return result;
  }
  return HF_OK;
}

// The answer is that of the request under way.
int ControlSocket::settle(Answer& answer, Reply& reply) {
  if (const auto error = answer.document.find("error"); error != answer.document.end() && error->is_object()) {
    std::string sentence;
    const int code = refusal(*error, sentence);
    // It is on its way out (`draining`): as good as gone, and the next one can be asked.
    if (code == HF_E_NO_BROKER) {
      close();
      left_by_broker_ = true;
    }
    return fail(code, std::move(sentence));
  }
  const auto result = answer.document.find("result");
  if (result == answer.document.end() || !result->is_object())
    return lost("it answered with something that is no reply");
  reply.result = std::move(*result);
  reply.fds = std::move(answer.fds);
  return HF_OK;
}

int ControlSocket::refusal(const nlohmann::json& error, std::string& sentence) const {
  const auto code = error.find("code");
  const auto* known =
      code != error.end() && code->is_number_integer() ? control::find_error(code->get<int>()) : nullptr;
  sentence = text(error, "message");
  if (sentence.empty()) sentence = "the broker gave no reason";
  return known != nullptr ? known->c_abi : HF_E_PROTOCOL;
}

// The answer is that of a request that was given up.
int ControlSocket::hand_out(Answer& answer) {
  const auto at = given_up_.find(answer.id);
  if (at == given_up_.end()) return lost("it answered another question");
  const LateReply late = std::move(at->second.late);
  given_up_.erase(at);
  Reply reply;
  if (const auto result = answer.document.find("result"); result != answer.document.end() && result->is_object()) {
    reply.result = std::move(*result);
    reply.fds = std::move(answer.fds);
  } else {
    const auto error = answer.document.find("error");
    reply.code = refusal(error != answer.document.end() ? *error : nlohmann::json(), reply.sentence);
  }
  if (late) late(reply);
  return HF_OK;
}

// Descriptors go with the first byte of their line.
ssize_t ControlSocket::send_some() {
  alignas(cmsghdr) char control_bytes[CMSG_SPACE(kDescriptorsMax * sizeof(int))] = {};
  iovec part{unsent_.data(), unsent_.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!unsent_fds_.empty()) {
    const std::size_t bytes = unsent_fds_.size() * sizeof(int);
    message.msg_control = control_bytes;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(header), unsent_fds_.data(), bytes);
  }
  const ssize_t n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n > 0) unsent_fds_.clear();
  return n;
}

int ControlSocket::flush(const Deadline& deadline) {
  while (!unsent_.empty()) {
    const ssize_t n = send_some();
    if (n > 0) {
      unsent_.erase(0, static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      pollfd writable{socket_.get(), POLLOUT, 0};
      if (::poll(&writable, 1, deadline.poll_ms()) == 0) return HF_TIMEOUT;
    } else if (errno != EINTR) {
      const std::string why = std::strerror(errno);
      left_by_broker_ = errno == EPIPE || errno == ECONNRESET;
      return hung_up(why);
    }
  }
  return HF_OK;
}

// The next line, parsed, with the descriptors that it lists: those came with its first byte.
int ControlSocket::next_answer(const Deadline& deadline, Answer& answer) {
  std::optional<std::string> line;
  while (!(line = received_.next()))
    if (const int result = receive_some(deadline); result != HF_OK) return result;
  auto parsed = control::parse_line(*line);
  auto* document = std::get_if<nlohmann::json>(&parsed);
  if (document == nullptr || !document->is_object()) return lost("it answered with something that is no reply");
  const auto id = document->find("id");
  answer.unnumbered = (id == document->end() || id->is_null()) && document->contains("error");
  answer.id = number(*document, "id");
  if (const auto result = document->find("result"); result != document->end()) {
    for (std::size_t left = list(*result, "fds").size(); left > 0 && !received_fds_.empty(); --left) {
      answer.fds.push_back(std::move(received_fds_.front()));
      received_fds_.pop_front();
    }
  }
  answer.document = std::move(*document);
  if (received_.size() == 0) received_fds_.clear();  // more than it listed
  return HF_OK;
}

int ControlSocket::receive_some(const Deadline& deadline) {
  pollfd readable{socket_.get(), POLLIN, 0};
  const int polled = ::poll(&readable, 1, deadline.poll_ms());
  if (polled == 0) return HF_TIMEOUT;
  if (polled < 0) return errno == EINTR ? HF_OK : lost(std::strerror(errno));
  char bytes[16384];
  alignas(cmsghdr) char control_bytes[CMSG_SPACE(kDescriptorsMax * sizeof(int))];
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control_bytes;
  message.msg_controllen = sizeof control_bytes;
  const ssize_t n = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return HF_OK;
  if (n <= 0) {
    left_by_broker_ = n == 0 || errno == ECONNRESET;
    return lost(n == 0 ? "it closed the connection" : std::strerror(errno));
  }
  if (!collect_descriptors(message, received_fds_))
    return lost("this process has no descriptors left; raise ulimit -n");
  if (!received_.append({bytes, static_cast<std::size_t>(n)})) return lost("its answer is longer than a line may be");
  return HF_OK;
}

// A broker that takes no more connections says so, and hangs up without reading what we send.
int ControlSocket::hung_up(const std::string& why) {
  Answer answer;
  Reply none;
  if (next_answer(Deadline(0), answer) != HF_OK || !answer.unnumbered) return socket_ ? lost(why) : HF_E_NO_BROKER;
  const int refused = settle(answer, none);
  close();
  return refused;
}

int ControlSocket::lost(const std::string& why) {
  close();
  return fail(HF_E_NO_BROKER, "lost the broker at " + path_ + ": " + why + advice_.lost);
}

}  // namespace holdfast::client
