// SPDX-License-Identifier: MIT
//
// The shell around the state machine: sockets in, events to State, its actions out. One thread, one io_context, one
// coroutine for each connection. A connection has one request under way at a time and its next one is read when the
// reply is sent, so that a peer that does not read holds up itself and nobody else, and queues are bounded by nature.
//
// Invariants:
//   (1) rows are committed before the reply that follows them is sent, and before the files go that they named.
//   (2) there is no timer, and so no wake-up, unless a lane lingers, a session has no connection, files of an unknown
//       broker's sessions are left, a connection has said nothing yet, or systemd asks.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include "daemon/broker/state.hpp"
#include "daemon/registry.hpp"
#include "daemon/reporter.hpp"
#include "daemon/segments.hpp"
#include "daemon/sweep.hpp"
#include "daemon/watcher.hpp"
#include "proto/control/descriptor.hpp"
#include "proto/control/message.hpp"

namespace holdfast::daemon {

inline constexpr std::size_t kDescriptorsPerReplyMax = 64;

class Server {
 public:
  Server(boost::asio::io_context& io, broker::BrokerSetup setup, Segments& segments, Registry& registry, About about);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves connections to this listening socket until drain().
  void listen(Descriptor socket);

  // Takes over the sessions, lanes and handles of an earlier broker, and watches their processes: `lost` are segments
  // whose file was not there, `gone` sessions that are known to have ended. Requires: nothing is served yet.
  void adopt(const broker::RegistryRows& rows, std::set<broker::SegmentId> lost, std::set<broker::SessionId> gone);

  // Removes the segments of sessions that were not adopted when nobody holds these any more.
  void watch_leftovers(std::vector<Leftover> leftovers);

  // Answers what has arrived, opens nothing new, then calls stop() on the io_context, after `deadline_ms` at the latest.
  // `hand_over`: what is there is left for the next broker.
  void drain(broker::TimeMs deadline_ms, bool hand_over);

 private:
  using Socket = boost::asio::local::stream_protocol::socket;
  template <class T>
  using Awaitable = boost::asio::awaitable<T>;

  struct Outgoing {
    std::string line;
    std::vector<Descriptor> descriptors;
    broker::SessionId session = 0;  // what to undo if it cannot be sent
    broker::HandleId handle = 0;
    bool undo = false;
  };
  struct Link {
    Link(boost::asio::io_context& io, Socket connected) : socket(std::move(connected)), answered(io), first_line(io) {}

    broker::ConnectionId id = 0;
    Socket socket;
    control::LineBuffer lines;
    std::vector<Descriptor> brought;  // with the line that comes next
    std::deque<Outgoing> out;
    bool awaits_reply = false;
    bool closing = false;
    boost::asio::steady_timer answered;  // never expires: cancelled when the reply is there
    boost::asio::steady_timer first_line;  // the deadline for one
  };

  Awaitable<void> accept_all();
  Awaitable<void> serve(std::shared_ptr<Link> link);
  Awaitable<bool> answer_lines(Link& link);
  Awaitable<bool> flush(Link& link);
  Awaitable<void> grow_slowly(broker::GrowSegment grow);
  void put_off_alarm();
  void carry_out(broker::Actions actions);
  Awaitable<void> look_after_leftovers();
  bool receive(Link& link, bool& again);
  ssize_t receive_bytes(Link& link);
  void take_memory(Link& link);
  void handle_line(Link& link, const std::string& line);
  bool refuse_connection();
  void connect(Link& link);
  void finish_drain();

  // Runs the state machine until it has no more to do.
  void feed(broker::Event event);
  void run_event(broker::Event event);
  // One action each; whatever is not listed is what the segments do.
  template <class Act>
  void run(Act& action);
  void run(broker::GrowSegment& grow);
  void run(broker::RemoveSegment& remove);
  void run(broker::ResetRecord& reset);
  void run(broker::PutRow& put);
  void run(broker::DeleteRow& row);
  void run(broker::DeleteReader& row);
  void run(broker::Reply& reply);
  void lose(const broker::Reply& reply, std::string error_line);
  void run(broker::ReplyError& reply);
  void run(broker::ReplyReport& reply);
  void run(broker::CloseConnection& close);
  void run(broker::CutConnection& cut);
  void run(broker::SetTimer& set);
  void run(broker::AskLock& ask);
  void run(broker::WatchProcess& watch);
  void run(broker::UnwatchProcess& unwatch);
  void run(broker::Log& log);
  std::string commit_rows();
  void free_removed();
  void answer(broker::ConnectionId connection, Outgoing outgoing);

  boost::asio::io_context& io_;
  Segments& segments_;
  Registry& registry_;
  Reporter reporter_;
  About about_;
  broker::State state_;
  Watcher watcher_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer drain_timer_;
  std::unordered_map<broker::ConnectionId, std::shared_ptr<Link>> links_;
  std::deque<broker::Event> events_;  // to be stepped; answers to actions go to the front
  bool running_ = false;
  bool draining_ = false;
  bool hands_over_ = false;
  broker::ConnectionId last_connection_ = 0;
  std::size_t removed_since_trim_ = 0;
  std::size_t held_descriptors_ = 0;  // of replies that wait for a slow reader
  std::vector<Leftover> leftovers_;
  Descriptor spare_;  // given up for a moment when there are no descriptors left
  std::vector<char> received_;
};

broker::TimeMs monotonic_ms();

}  // namespace holdfast::daemon
