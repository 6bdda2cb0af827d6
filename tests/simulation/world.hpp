// SPDX-License-Identifier: MIT
//
// One seed of the simulation: the broker's state machine, a shell in memory, and clients that do what clients do, under
// a scheduler that lets any of them die, stop, lose its connection or an answer, and the broker die after any action, in
// its adoption, too. Time is virtual.
//
// The clients are models: each knows what it was told and what it has given back, and so what must be true. Checked
// after every event, while the broker is dead as well:
//   (1) a file that a living client was told of is there, and no smaller than it was told.
//   (2) a reader that a living client was told of, and has not given back, is on the roster, in the place and with the
//       record that it was told: publishers keep what it holds.
//   (3) the size of a lane on the roster never falls below what its publisher was told.
// And when the broker has answered:
//   (4) what the client holds, the broker has, with the same role, topic, lane and record; what the client has given
//       back or never heard of, it has not.
//   (5) a lane whose publisher lives and has not closed it is open.
//   (6) of a client that the broker was told is dead, nothing is left but lanes that linger.
//   (7) a session without a connection that no client has is gone soon, though its process lives: whether the client said
//       `bye` and the broker died on the way, or it just let go of its lock. But for one whose memory is lost: there is no
//       lock to ask.
// FakeShell adds what holds between tables, files, rows and roster.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::simulation {

class World {
 public:
  explicit World(std::uint64_t seed);

  // Runs at least `events` events and lets everything end. Returns what was wrong, or "".
  std::string run(int events);

 private:
  struct Reader {
    std::uint64_t block;
    std::uint32_t entry;
    std::uint64_t record;
  };
  struct Handle {
    bool publisher = false;
    std::string topic;
    std::uint64_t key = 0;
    broker::LaneId lane = 0;  // publisher
    std::uint64_t block = 0;  // publisher: of its lane
    std::uint64_t bytes = 0;  // publisher: valid bytes that it was told
    std::map<broker::LaneId, Reader> readers;
  };
  struct Client {
    std::uint32_t uid = 1000;
    bool stopped = false;
    bool lost = false;  // the broker has let its session end: the client knows
    broker::ConnectionId connection = 0;  // 0: none
    broker::ConnectionId forgotten = 0;  // one that the client gave up, and the broker still has
    broker::SessionId session = 0;
    std::string token;
    std::uint64_t last_key = 0;
    std::map<broker::HandleId, Handle> handles;
    std::set<broker::SegmentId> segments;  // its own
    std::optional<Handle> pending;  // asked for, and the answer was lost: asked for again after the resumption
  };

  // One event; the broker may die in it.
  void step();
  void act(Client& client);
  void connect(Client& client);
  void greet(Client& client);
  void resume(Client& client);
  bool give_memory(Client& client, nlohmann::json lost);
  std::set<broker::SegmentId> sealed_segments() const;
  void open_publisher(Client& client);
  void open_subscriber(Client& client);
  void keep_publisher(Client& client, Handle handle, const broker::Answer& answer);
  void keep_subscriber(Client& client, Handle handle, const broker::Answer& answer);
  void ask_again(Client& client);
  void learn_lanes(Handle& handle, const nlohmann::json& result);
  void ask_for_lanes(Client& client);
  void release(Client& client);
  void grow(Client& client);
  void give_back(Client& client);
  void turn(Client& client);
  void hang_up(Client& client);
  void close(Client& client);
  void let_go(broker::SessionId session);
  void forget(Client& client);
  void die(std::size_t index);
  void pass(broker::TimeMs ms);
  bool has_client(broker::SessionId session) const;
  void restart();
  void repeat(Client& client);
  // Sends a request. Nothing: the answer was lost with the connection, or with the broker.
  std::optional<broker::Answer> ask(Client& client, const std::string& method, nlohmann::json params);

  broker::HandleId some_handle(Client& client, bool publisher);
  void check_memory();
  void check_client(const Client& client);
  void need(bool holds, const char* what);
  void need(bool holds, const std::string& what) { need(holds, what.c_str()); }

  std::uint64_t pick(std::uint64_t below) { return random_() % below; }
  bool chance(std::uint64_t one_in) { return pick(one_in) == 0; }

  std::string some_topic() { return "t" + std::to_string(pick(topics_)); }

  std::mt19937_64 random_;
  bool stored_;  // sealed segments outlive the broker by themselves; else their clients give them back
  std::uint64_t topics_;  // few seeds have one topic with many subscribers
  std::unique_ptr<broker::FakeShell> shell_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::set<broker::SessionId> dead_;  // their processes are gone or soon will be, the broker does not know yet
  std::map<broker::ConnectionId, std::string> tokens_;
  bool broker_died_ = false;  // in a request; the answer may have been sent before
};

}  // namespace holdfast::simulation
