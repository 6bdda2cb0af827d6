// SPDX-License-Identifier: MIT
//
// How the server carries out what the state machine wants.
#include <cerrno>
#include <chrono>
#include <utility>

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "daemon/broker/check.hpp"
#include "daemon/server.hpp"

namespace holdfast::daemon {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::size_t kTrimAfter = 1000;  // segments that went
constexpr std::uint64_t kGrowAtOnce = std::uint64_t{32} << 20;  // some 10 ms of posix_fallocate

}  // namespace

// What the segments do: with an answer for the state machine, or without one.
template <class Act>
void Server::run(Act& action) {
  if constexpr (requires { action.operation; }) {
    free_removed();
    broker::SegmentReady ready{action.operation, segments_.run(action)};
    events_.push_front(std::move(ready));
  } else {
    segments_.run(action);
  }
}

// What was removed to make room has to be gone before the room is asked for.
void Server::free_removed() {
  if (segments_.removes()) commit_rows();
}

void Server::run(broker::GrowSegment& grow) {
  free_removed();
  if (segments_.lane_lacks(grow) <= kGrowAtOnce) {
    events_.push_front(broker::SegmentReady{grow.operation, segments_.run(grow)});
    return;
  }
  asio::co_spawn(io_, grow_slowly(grow), asio::detached);
}

// Large growth of a lane, in parts, so that nobody else waits for it.
asio::awaitable<void> Server::grow_slowly(broker::GrowSegment grow) {
  while (true) {
    Segments::Progress progress = segments_.grow_step(grow, kGrowAtOnce);
    if (progress.done) {
      feed(broker::SegmentReady{grow.operation, std::move(progress.outcome)});
      co_return;
    }
    co_await asio::post(io_, asio::use_awaitable);
  }
}

void Server::run(broker::RemoveSegment& remove) {
  reporter_.forget(remove.segment);
  segments_.run(remove);
  ++removed_since_trim_;
}

void Server::run(broker::ResetRecord& reset) {
  reporter_.forget(reset.segment, reset.record);
  segments_.run(reset);
}

void Server::run(broker::PutRow& put) {
  std::string name;
  if (const auto* segment = std::get_if<broker::SegmentFacts>(&put.row)) name = segments_.name(segment->id);
  registry_.put(put.row, name);
}

void Server::run(broker::DeleteRow& row) { registry_.erase(row.table, row.id); }

void Server::run(broker::DeleteReader& row) { registry_.erase_reader(row.handle, row.lane); }

// Returns why what happened last is not written, or "". It is tried again with the next commit.
std::string Server::commit_rows() {
  std::string why = registry_.commit();
  if (why.empty())
    segments_.note_commits(registry_.commits());
  else
    spdlog::error("{}; until it can, requests are refused: make room in the runtime directory", why);
  return why;
}

// An error in place of the reply; what the reply was about does not come to be.
void Server::lose(const broker::Reply& reply, std::string error_line) {
  ++about_.replies_failed;
  answer(reply.connection, {std::move(error_line), {}});
  if (reply.session != 0) events_.push_front(broker::ReplyLost{reply.session, reply.handle});
}

void Server::run(broker::Reply& reply) {
  Outgoing outgoing;
  outgoing.session = reply.session;
  outgoing.handle = reply.handle;
  outgoing.undo = reply.session != 0;
  // The next broker would not know of it, and others could use what it holds.
  if (const std::string why = commit_rows(); !why.empty()) {
    nlohmann::json numbers{{"call", "sqlite3_step"}};
    if (const int error = registry_.system_error(); error != 0) numbers["errno"] = error;
    return lose(reply, control::error_line(reply.id, control::Failure::kSystem, "the broker " + why, numbers));
  }
  broker::check(reply.descriptors.size() <= kDescriptorsPerReplyMax, "a reply has at most 64 descriptors");
  for (const broker::DescriptorRequest& request : reply.descriptors) {
    Descriptor descriptor = segments_.open(request);
    if (!descriptor) {
      const int error = errno;
      const bool none_left = error == EMFILE || error == ENFILE;
      return lose(
          reply, none_left
                     ? control::error_line(reply.id, control::Failure::kBusy,
                                           "the broker has no descriptor left: raise its limit of open files",
                                           {{"limit", "descriptors"}})
                     : control::error_line(reply.id, control::Failure::kSystem,
                                           "opening a segment failed in the broker with errno " + std::to_string(error),
                                           {{"call", "shm_open"}, {"errno", error}}));
    }
    outgoing.descriptors.push_back(std::move(descriptor));
  }
  outgoing.line = control::result_line(reply.id, reply.result);
  answer(reply.connection, std::move(outgoing));
}

void Server::run(broker::ReplyError& reply) {
  commit_rows();
  ++about_.replies_failed;
  answer(reply.connection, {control::error_line(reply.id, reply.failure, reply.sentence, reply.numbers), {}});
}

void Server::run(broker::ReplyReport& reply) {
  answer(reply.connection,
         {control::result_line(reply.id, reporter_.result(reply.report, about_, monotonic_ms())), {}});
}

void Server::run(broker::CloseConnection& close) {
  if (const auto at = links_.find(close.connection); at != links_.end()) at->second->closing = true;
}

void Server::run(broker::CutConnection& cut) {
  const auto at = links_.find(cut.connection);
  if (at == links_.end()) return;
  error_code ignored;
  at->second->socket.shutdown(Socket::shutdown_receive, ignored);
}

void Server::run(broker::SetTimer& set) {
  timer_.cancel();
  if (!set.at) return;
  timer_.expires_at(std::chrono::steady_clock::time_point(std::chrono::milliseconds(*set.at)));
  timer_.async_wait([this](const error_code& error) {
    if (!error) feed(broker::Tick{});
  });
}

void Server::run(broker::AskLock& ask) {
  const auto at = state_.tables().sessions.find(ask.session);
  if (at != state_.tables().sessions.end() && segments_.session_holder(at->second.facts.records) < 0)
    events_.push_back(broker::SessionEnded{ask.session});
}

void Server::run(broker::WatchProcess& watch) {
  if (draining_) return;
  const auto at = links_.find(watch.connection);
  broker::check(at != links_.end(), "a connection that hung up is still there");
  const broker::SessionId session = watch.session;
  const int socket = at->second->socket.native_handle();
  PeerProcess process = peer_process(socket);
  if (process.answer == PeerProcess::Answer::kUnknown && (process.error == EMFILE || process.error == ENFILE)) {
    spare_.reset();
    process = peer_process(socket);
  }
  if (process.answer == PeerProcess::Answer::kUnknown) {
    // An older kernel: the lock on the session's segment says who lives.
    const Descriptor file = segments_.open({state_.tables().sessions.at(session).facts.records, false, 0});
    const pid_t pid = file ? lock_holder(file.get()) : -1;
    process.answer = PeerProcess::Answer::kGone;
    if (pid > 0) process.pidfd = open_process(pid);
    if (process.pidfd && lock_holder(file.get()) == pid) process.answer = PeerProcess::Answer::kThere;
  }
  if (process.answer == PeerProcess::Answer::kGone) {
    events_.push_back(broker::SessionEnded{session});
    return;
  }
  watcher_.watch(session, std::move(process.pidfd), [this, session] { feed(broker::SessionEnded{session}); });
}

void Server::run(broker::UnwatchProcess& unwatch) { watcher_.forget(unwatch.session); }

void Server::run(broker::Log& log) {
  switch (log.level) {
    case broker::Log::Level::kDebug:
      return spdlog::debug(log.text);
    case broker::Log::Level::kNotice:
      return spdlog::info(log.text);
    case broker::Log::Level::kWarning:
      return spdlog::warn(log.text);
  }
}

void Server::run_event(broker::Event event) { carry_out(state_.step(monotonic_ms(), std::move(event))); }

void Server::carry_out(broker::Actions actions) {
  for (broker::Action& action : actions) std::visit([this](auto& act) { run(act); }, action);
  commit_rows();
  // malloc gives back by itself only what lies on top, and the rows of many topics lie between others.
  if (removed_since_trim_ < kTrimAfter) return;
  removed_since_trim_ = 0;
  ::malloc_trim(0);
}

}  // namespace holdfast::daemon
