// SPDX-License-Identifier: MIT
#include "daemon/server.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "daemon/broker/check.hpp"
#include "daemon/broker/envelope.hpp"

namespace holdfast::daemon {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::size_t kReceiveBytes = 16'384;
constexpr int kRequestsPerTurn = 16;  // of one connection, before others have theirs
constexpr std::size_t kHeldDescriptorsMax = 1'024;  // in replies that wait for slow readers
constexpr int kPeerGroups = 59;  // SO_PEERGROUPS

std::string fresh_token() {
  std::uint8_t bytes[16];
  broker::check(::getrandom(bytes, sizeof bytes, 0) == sizeof bytes, "the kernel gives random bytes");
  std::string token;
  for (const std::uint8_t byte : bytes) {
    token.push_back("0123456789abcdef"[byte >> 4]);
    token.push_back("0123456789abcdef"[byte & 15]);
  }
  return token;
}

broker::Peer peer_of(int socket) {
  broker::Peer peer;
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
    peer.uid = peer.gid = UINT32_MAX;
    return peer;
  }
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  peer.groups.resize(64);
  for (int i = 0; i < 2; ++i) {
    bytes = static_cast<socklen_t>(peer.groups.size() * sizeof peer.groups[0]);
    const int result = ::getsockopt(socket, SOL_SOCKET, kPeerGroups, peer.groups.data(), &bytes);
    const bool longer = result != 0 && errno == ERANGE;
    peer.groups.resize(result == 0 || longer ? bytes / sizeof peer.groups[0] : 0);
    if (!longer) break;
  }
  return peer;
}

// One send with descriptors on the first byte.
ssize_t send_with(int socket, std::string_view bytes, const std::vector<Descriptor>& descriptors) {
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsPerReplyMax * sizeof(int))] = {};
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      const int fd = descriptors[i].get();
      std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

Descriptor open_spare() { return Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

broker::TimeMs monotonic_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Server::Server(asio::io_context& io, broker::BrokerSetup setup, Segments& segments, Registry& registry, About about)
    : io_(io),
      segments_(segments),
      registry_(registry),
      reporter_(segments),
      about_(std::move(about)),
      state_(std::move(setup)),
      watcher_(io),
      acceptor_(io),
      timer_(io),
      drain_timer_(io),
      spare_(open_spare()),
      received_(kReceiveBytes) {}

void Server::listen(Descriptor socket) {
  acceptor_.assign(asio::local::stream_protocol(), socket.release());
  acceptor_.non_blocking(true);
  asio::co_spawn(io_, accept_all(), asio::detached);
}

asio::awaitable<void> Server::accept_all() {
  constexpr auto kPause = std::chrono::milliseconds(50);
  while (true) {
    error_code error;
    Socket socket(io_);
    co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (draining_ || error == asio::error::operation_aborted) co_return;
    if ((error.value() == EMFILE || error.value() == ENFILE) && refuse_connection()) {
      continue;
    } else if (error == asio::error::connection_aborted || error == asio::error::interrupted) {
      continue;
    } else if (error) {
      // The kernel has no memory for it. The connection waits; so do we, instead of asking again at once.
      asio::steady_timer pause(io_, kPause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    } else {
      auto link = std::make_shared<Link>(io_, std::move(socket));
      asio::co_spawn(io_, serve(std::move(link)), asio::detached);
    }
  }
}

// No descriptor is left: the spare one is given up for as long as it takes to say so. False: not even that helps.
bool Server::refuse_connection() {
  spare_.reset();
  bool refused = false;
  {
    const Descriptor socket(::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket) {
      refused = true;
      ++about_.replies_failed;
      send_with(
          socket.get(),
          control::error_line(nullptr, control::Failure::kBusy,
                              "the broker has no descriptor left: close connections, or raise its limit of open files",
                              {{"limit", "descriptors"}}),
          {});
    }
  }
  spare_ = open_spare();
  return refused;
}

void Server::connect(Link& link) {
  link.id = ++last_connection_;
  broker::Connected event;
  event.connection = link.id;
  event.peer = peer_of(link.socket.native_handle());
  event.token = fresh_token();
  feed(std::move(event));
}

asio::awaitable<void> Server::serve(std::shared_ptr<Link> link) {
  link->socket.non_blocking(true);
  links_.emplace(last_connection_ + 1, link);
  connect(*link);
  link->first_line.expires_after(std::chrono::milliseconds(broker::kFirstLineDeadlineMs));
  link->first_line.async_wait([weak = std::weak_ptr<Link>(link)](const error_code& error) {
    const auto late = weak.lock();
    if (error || late == nullptr) return;
    error_code ignored;
    late->socket.shutdown(Socket::shutdown_both, ignored);
  });
  bool going = co_await flush(*link) && !link->closing;
  while (going) {
    bool again = false;
    const bool received = receive(*link, again);
    going = co_await answer_lines(*link) && received;
    if (!going || !again) continue;
    error_code error;
    co_await link->socket.async_wait(Socket::wait_read, asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
  }
  link->first_line.cancel();
  feed(broker::Disconnected{link->id});
  error_code ignored;
  link->socket.close(ignored);
  links_.erase(link->id);
  if (draining_ && links_.empty()) finish_drain();
}

// Asio leaves the kernel's timer as it was when a wait is cancelled, which would wake us for nothing. A wait for ever sets
// it to the longest time that asio knows.
void Server::put_off_alarm() {
  asio::steady_timer never(io_, asio::steady_timer::time_point::max());
  never.async_wait([](const error_code&) {});
}

// What is there. Descriptors that a peer sends are dropped by the kernel, since this is recv, but for those that it has
// just been asked for: the memory of its own session, which nobody kept for us.
ssize_t Server::receive_bytes(Link& link) {
  const int socket = link.socket.native_handle();
  if (!state_.awaits_memory(link.id)) return ::recv(socket, received_.data(), received_.size(), MSG_DONTWAIT);
  alignas(cmsghdr) char control[CMSG_SPACE(broker::kDescriptorsPerRequest * sizeof(int))];
  iovec part{received_.data(), received_.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      Descriptor owned(fd);
      if (link.brought.size() < broker::kDescriptorsPerRequest) link.brought.push_back(std::move(owned));
    }
  }
  return n;
}

// Each is looked at as what the descriptor store gives at the start.
void Server::take_memory(Link& link) {
  for (Descriptor& fd : std::exchange(link.brought, {})) {
    const broker::SegmentFacts* facts = state_.awaited_segment(link.id, Segments::sealed_segment(fd.get()));
    if (facts == nullptr) continue;
    const broker::SegmentId id = facts->id;
    const std::string why = segments_.adopt(*facts, "", std::move(fd));
    if (why.empty())
      feed(broker::SegmentBack{id});
    else
      spdlog::warn("segment {} of an earlier broker came back from its client and is lost: {}", id, why);
  }
}

// Takes what is there, if there is any. False: no more comes.
// `again`: nothing is there now.
bool Server::receive(Link& link, bool& again) {
  const ssize_t n = receive_bytes(link);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    again = errno == EAGAIN;
    return true;
  }
  if (n <= 0) return false;
  if (link.lines.append({received_.data(), static_cast<std::size_t>(n)})) return true;
  // Answered after the lines before it.
  link.closing = true;
  return true;
}

// Answers every complete line. False: the connection is over.
asio::awaitable<bool> Server::answer_lines(Link& link) {
  int turn = 0;
  while (auto line = link.lines.next()) {
    if (link.first_line.cancel() > 0) put_off_alarm();
    const bool too_long_follows = std::exchange(link.closing, false);
    handle_line(link, *line);
    while (link.awaits_reply) {
      error_code ignored;
      link.answered.expires_at(asio::steady_timer::time_point::max());
      co_await link.answered.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (!co_await flush(link) || link.closing) co_return false;
    link.closing = too_long_follows;
    if (++turn % kRequestsPerTurn == 0) co_await asio::post(io_, asio::use_awaitable);
  }
  if (!link.closing) co_return true;
  ++about_.replies_failed;
  link.out.push_back({control::error_line(nullptr, control::Failure::kParse,
                                          "a line has at most " + std::to_string(control::kLineBytesMax) + " bytes"),
                      {}});
  co_await flush(link);
  co_return false;
}

void Server::handle_line(Link& link, const std::string& line) {
  ++about_.requests;
  auto parsed = control::parse_line(line);
  if (const auto* error = std::get_if<control::ParseError>(&parsed)) {
    ++about_.replies_failed;
    link.out.push_back({control::error_line(nullptr, control::Failure::kParse, error->sentence), {}});
    link.closing = true;
    return;
  }
  auto opened = broker::open_envelope(std::move(std::get<nlohmann::json>(parsed)));
  if (auto* bad = std::get_if<broker::BadEnvelope>(&opened)) {
    ++about_.replies_failed;
    link.out.push_back({control::error_line(bad->id, bad->refusal.failure, bad->refusal.sentence), {}});
    return;
  }
  if (!link.brought.empty()) take_memory(link);
  auto& envelope = std::get<broker::Envelope>(opened);
  const nlohmann::json id = envelope.id;
  link.awaits_reply = true;
  try {
    feed(broker::Request{link.id, std::move(envelope.id), std::move(envelope.method), std::move(envelope.params)});
  } catch (const std::bad_alloc&) {
    answer(link.id, {control::error_line(id, control::Failure::kNoMemory, "the broker's own memory is used up",
                                         {{"asked_bytes", 0}, {"free_bytes", 0}}),
                     {}});
  }
}

// Sends what is to be sent. False: the peer does not take it.
asio::awaitable<bool> Server::flush(Link& link) {
  while (!link.out.empty()) {
    Outgoing& outgoing = link.out.front();
    std::size_t sent = 0;
    while (sent < outgoing.line.size()) {
      const ssize_t n =
          send_with(link.socket.native_handle(), std::string_view(outgoing.line).substr(sent), outgoing.descriptors);
      if (n > 0) {
        sent += static_cast<std::size_t>(n);
        outgoing.descriptors.clear();
        continue;
      }
      if (errno == EINTR) continue;
      error_code error;
      const bool wait = errno == EAGAIN && held_descriptors_ + outgoing.descriptors.size() <= kHeldDescriptorsMax;
      if (wait) {
        const std::size_t held = outgoing.descriptors.size();
        held_descriptors_ += held;
        co_await link.socket.async_wait(Socket::wait_write, asio::redirect_error(asio::use_awaitable, error));
        held_descriptors_ -= held;
      }
      if (wait && !error) continue;
      const Outgoing lost = std::move(outgoing);
      link.out.clear();
      ++about_.replies_failed;
      if (lost.undo && sent == 0) feed(broker::ReplyLost{lost.session, lost.handle});
      co_return false;
    }
    link.out.pop_front();
  }
  co_return true;
}

void Server::answer(broker::ConnectionId connection, Outgoing outgoing) {
  const auto at = links_.find(connection);
  if (at == links_.end()) return;
  Link& link = *at->second;
  link.out.push_back(std::move(outgoing));
  if (std::exchange(link.awaits_reply, false)) link.answered.cancel();
}

void Server::feed(broker::Event event) {
  events_.push_back(std::move(event));
  if (running_) return;
  running_ = true;
  struct Done {
    Server& server;
    ~Done() { server.running_ = false; }
  } const done{*this};
  while (!events_.empty()) {
    broker::Event next = std::move(events_.front());
    events_.pop_front();
    run_event(std::move(next));
  }
}

void Server::adopt(const broker::RegistryRows& rows, std::set<broker::SegmentId> lost,
                   std::set<broker::SessionId> gone) {
  std::vector<std::pair<broker::SessionId, Descriptor>> processes;
  for (const broker::SessionFacts& session : rows.sessions) {
    if (gone.contains(session.id)) continue;
    Descriptor process;
    pid_t pid = 0;
    if (lost.contains(session.records)) {
      // Its lock cannot be asked. The pid may be another process's by now: then it is kept longer than it has to be. One
      // that we do not see is kept until it comes back.
      pid = session.pid;
      if (pid > 0) process = open_process(pid);
      if (pid > 0 && !process) pid = -1;
    } else {
      pid = segments_.session_holder(session.records);
      // The pid belongs to the holder if the lock is still there when we have its pidfd.
      if (pid > 0) process = open_process(pid);
      if (pid > 0 && segments_.session_holder(session.records) < 0) pid = -1;
    }
    if (pid < 0)
      gone.insert(session.id);
    else if (process)
      processes.emplace_back(session.id, std::move(process));
  }
  carry_out(state_.adopt(monotonic_ms(), rows, segments_.roster_blocks(), gone, std::move(lost)));
  for (const broker::SegmentFacts& segment : rows.segments)
    if (!state_.tables().segments.contains(segment.id)) ++about_.swept_segments;
  for (auto& [session, process] : processes)
    watcher_.watch(session, std::move(process), [this, id = session] { feed(broker::SessionEnded{id}); });
  spdlog::info("adopted {} sessions with {} topics and {} lanes; {} sessions had ended",
               state_.tables().sessions.size(), state_.tables().topics.size(), state_.tables().lanes.size(),
               gone.size());
}

void Server::watch_leftovers(std::vector<Leftover> leftovers) {
  leftovers_ = std::move(leftovers);
  if (!leftovers_.empty()) asio::co_spawn(io_, look_after_leftovers(), asio::detached);
}

// Their processes may live on: a program that was told that its broker began anew closes its client and opens another.
asio::awaitable<void> Server::look_after_leftovers() {
  asio::steady_timer pause(io_);
  while (!leftovers_.empty()) {
    error_code error;
    pause.expires_after(std::chrono::milliseconds(broker::kAskLocksMs));
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (draining_) co_return;
    std::erase_if(leftovers_, [this](const Leftover& leftover) {
      if (is_held(leftover)) return false;
      for (const std::string& name : leftover.names) remove_segment_file(name);
      about_.swept_segments += leftover.names.size();
      return true;
    });
  }
}

void Server::drain(broker::TimeMs deadline_ms, bool hand_over) {
  if (draining_) return;
  draining_ = true;
  hands_over_ = hand_over;
  feed(broker::Drain{});
  error_code ignored;
  acceptor_.close(ignored);
  watcher_.stop();
  timer_.cancel();
  // What has arrived is still read; then the connections end by themselves.
  for (auto& [id, link] : links_) {
    link->socket.shutdown(Socket::shutdown_receive, ignored);
    link->first_line.cancel();
  }
  if (links_.empty()) return finish_drain();
  drain_timer_.expires_after(std::chrono::milliseconds(deadline_ms));
  drain_timer_.async_wait([this](const error_code& error) {
    if (!error) finish_drain();
  });
}

void Server::finish_drain() {
  drain_timer_.cancel();
  for (const Leftover& leftover : leftovers_)
    for (const std::string& name : leftover.names)
      if (!hands_over_) remove_segment_file(name);
  leftovers_.clear();
  io_.stop();
}

}  // namespace holdfast::daemon
