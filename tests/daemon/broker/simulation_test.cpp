// SPDX-License-Identifier: MIT
//
// Random sessions under a seed: clients that open, close, release, grow, turn, hang up and die, and steps that fail.
// FakeShell compares tables, files, rows and roster after each event. A failing seed replays.
#include <random>

#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

class Play {
 public:
  explicit Play(std::uint32_t seed) : random_(seed), shell_(setup(seed)) {}

  void run(int steps) {
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) step();
    // Everybody dies, time passes: nothing is left.
    shell_.fail_at = 0;
    std::vector<SessionId> all;
    for (const auto& [id, session] : shell_.tables().sessions) all.push_back(id);
    for (const SessionId id : all) shell_.end(id);
    for (int i = 0; i < 10; ++i) shell_.pass(40'000);
    for (const auto& [id, lane] : shell_.tables().lanes)
      EXPECT_LT(shell_.tables().topics.at(lane.facts.topic).facts.options.linger_ms, 0) << "what stays stays for ever";
    EXPECT_EQ(shell_.segments.size(), 1 + shell_.tables().lanes.size());
    EXPECT_TRUE(shell_.rows.sessions.empty() && shell_.rows.handles.empty() && shell_.rows.readers.empty());
  }

 private:
  static BrokerSetup setup(std::uint32_t seed) {
    BrokerSetup setup;
    setup.uid = 1000;
    setup.session_bytes_max = seed % 3 == 0 ? 200'000 : 0;
    setup.sessions_max = 6;
    return setup;
  }

  std::uint64_t pick(std::uint64_t below) { return random_() % below; }

  // A handle of this session, sometimes of nobody.
  HandleId some_handle(ConnectionId connection) {
    const SessionId id = shell_.session_of(connection);
    if (id == 0 || pick(20) == 0) return pick(50);
    const Session& session = shell_.tables().sessions.at(id);
    std::vector<HandleId> handles(session.publishers.begin(), session.publishers.end());
    handles.insert(handles.end(), session.subscribers.begin(), session.subscribers.end());
    return handles.empty() ? 0 : handles[pick(handles.size())];
  }

  LaneId some_lane(HandleId handle) {
    const auto at = shell_.tables().subscribers.find(handle);
    if (at == shell_.tables().subscribers.end() || at->second.lanes.empty()) return pick(50);
    return *std::next(at->second.lanes.begin(), static_cast<std::ptrdiff_t>(pick(at->second.lanes.size())));
  }

  json some_options() {
    json options = json::object();
    if (pick(8) == 0) options["ring"] = 8 << pick(5);
    if (pick(8) == 0) options["chunks_max"] = 64 << pick(6);
    if (pick(3) == 0) options["linger_ms"] = pick(4) == 0 ? -1 : static_cast<int>(pick(3)) * 1000;
    if (pick(8) == 0) options["exclusive"] = pick(2) == 0;
    if (pick(6) == 0) options["backing"] = "sealed";
    return options;
  }

  void step() {
    shell_.failure.failure = pick(2) == 0 ? control::Failure::kNoMemory : control::Failure::kSystem;
    shell_.failure.call = "posix_fallocate";
    shell_.fail_at = pick(5) == 0 ? static_cast<int>(1 + pick(4)) : 0;
    shell_.fail_count = 1 + static_cast<int>(pick(3));
    shell_.cursor = pick(3);
    if (connections_.empty() || pick(12) == 0) {
      connections_.push_back(shell_.connect(pick(3) == 0 ? 0 : 1000));
      return;
    }
    const std::size_t at = pick(connections_.size());
    const ConnectionId connection = connections_[at];
    if (shell_.session_of(connection) == 0) {
      (void)shell_.call(connection, "hello", {{"protocol", 1}, {"layout", 1}, {"membarrier", pick(4) != 0}});
      return;
    }
    const std::string topic = "t" + std::to_string(pick(4));
    const HandleId handle = some_handle(connection);
    switch (pick(14)) {
      case 0:
      case 1:
        (void)shell_.call(connection, "publisher.open", {{"topic", topic}, {"options", some_options()}});
        return;
      case 2:
      case 3:
        (void)shell_.call(connection, "subscriber.open",
                          {{"topic", topic},
                           {"delivery", pick(2) == 0 ? "lossless" : "drop_oldest"},
                           {"start", pick(2) == 0 ? "next" : "oldest"}});
        return;
      case 4:
        (void)shell_.call(connection, "publisher.mapped", {{"handle", handle}});
        return;
      case 5:
        (void)shell_.call(connection, "subscriber.lanes", {{"handle", handle}, {"after", pick(20)}});
        return;
      case 6:
        (void)shell_.call(connection, "subscriber.release", {{"handle", handle}, {"lane", some_lane(handle)}});
        return;
      case 7:
        (void)shell_.call(connection, "lane.grow", {{"handle", handle}, {"bytes", 4096 * (1 + pick(20))}});
        return;
      case 8:
        (void)shell_.call(connection, "lane.turn", {{"handle", handle}, {"entry", pick(14)}, {"cursor", pick(3)}});
        return;
      case 9:
        (void)shell_.call(connection, "close", {{"handle", handle}});
        return;
      case 10:
        (void)shell_.call(connection, "bell.open", {{"bell", pick(64)}});
        return;
      case 11:
        shell_.pass(static_cast<TimeMs>(pick(3000)));
        return;
      case 12:
        return hang_up(at);
      default:
        if (pick(3) == 0) return die(at);
        (void)shell_.call(connection, "topics");
        return;
    }
  }

  void hang_up(std::size_t at) {
    const ConnectionId connection = connections_[at];
    connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(at));
    const SessionId session = shell_.session_of(connection);
    if (pick(3) == 0) (void)shell_.call(connection, "bye");
    shell_.feed(Disconnected{connection});
    if (pick(2) == 0) shell_.end(session);
  }

  void die(std::size_t at) {
    const ConnectionId connection = connections_[at];
    const SessionId session = shell_.session_of(connection);
    connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(at));
    shell_.feed(Disconnected{connection});
    shell_.end(session);
  }

  std::mt19937 random_;
  FakeShell shell_;
  std::vector<ConnectionId> connections_;
};

class Simulation : public testing::TestWithParam<std::uint32_t> {};

TEST_P(Simulation, TablesFilesRowsAndRosterAgree) { Play(GetParam()).run(1500); }

INSTANTIATE_TEST_SUITE_P(Seeds, Simulation, testing::Range(1U, 25U));

}  // namespace
}  // namespace holdfast::broker
