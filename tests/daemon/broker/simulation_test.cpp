// SPDX-License-Identifier: MIT
//
// Random sessions under a seed: clients that open, close, release, grow, turn, hang up and die, steps that fail, and a
// broker that dies after any action of any step, of its adoption too, and begins anew on what is left. FakeShell compares
// tables, files, rows and roster after each event. A failing seed replays.
#include <memory>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

class Play {
 public:
  explicit Play(std::uint32_t seed, bool restarts = false)
      : random_(seed),
        restarts_(restarts),
        owned_(std::make_unique<FakeShell>(setup(seed))) {}

  void run(int steps) {
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      if (restarts_ && pick(20) == 0) shell().die_at = static_cast<int>(1 + pick(12));
      try {
        step();
        if (restarts_ && pick(100) == 0) restart();
      } catch (const Died&) {
        restart();
      }
    }
    if (testing::Test::HasFailure()) return;
    // Everybody dies, time passes: nothing is left.
    shell().die_at = 0;
    shell().fail_at = 0;
    std::vector<SessionId> all;
    for (const auto& [id, session] : shell().tables().sessions) all.push_back(id);
    for (const SessionId id : all) shell().end(id);
    for (int i = 0; i < 10; ++i) shell().pass(40'000);
    for (const auto& [id, lane] : shell().tables().lanes)
      EXPECT_LT(shell().tables().topics.at(lane.facts.topic).facts.options.linger_ms, 0) << "what stays stays for ever";
    EXPECT_EQ(shell().segments.size(), 1 + shell().tables().lanes.size());
    EXPECT_TRUE(shell().rows.sessions.empty() && shell().rows.handles.empty() && shell().rows.readers.empty());
  }

 private:
  FakeShell& shell() { return *owned_; }

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
    const SessionId id = shell().session_of(connection);
    if (id == 0 || pick(20) == 0) return pick(50);
    const Session& session = shell().tables().sessions.at(id);
    std::vector<HandleId> handles(session.publishers.begin(), session.publishers.end());
    handles.insert(handles.end(), session.subscribers.begin(), session.subscribers.end());
    return handles.empty() ? 0 : handles[pick(handles.size())];
  }

  LaneId some_lane(HandleId handle) {
    const auto at = shell().tables().subscribers.find(handle);
    if (at == shell().tables().subscribers.end() || at->second.lanes.empty()) return pick(50);
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
    shell().failure.failure = pick(2) == 0 ? control::Failure::kNoMemory : control::Failure::kSystem;
    shell().failure.call = "posix_fallocate";
    shell().fail_at = pick(5) == 0 ? static_cast<int>(1 + pick(4)) : 0;
    shell().fail_count = 1 + static_cast<int>(pick(3));
    shell().cursor = pick(3);
    if (connections_.empty() || pick(12) == 0) {
      connections_.push_back(shell().connect(pick(3) == 0 ? 0 : 1000));
      return;
    }
    const std::size_t at = pick(connections_.size());
    const ConnectionId connection = connections_[at];
    if (shell().session_of(connection) == 0) {
      (void)shell().call(connection, "hello", {{"protocol", 1}, {"layout", 1}, {"membarrier", pick(4) != 0}});
      return;
    }
    const std::string topic = "t" + std::to_string(pick(4));
    const HandleId handle = some_handle(connection);
    switch (pick(14)) {
      case 0:
      case 1:
        (void)shell().call(connection, "publisher.open", {{"topic", topic}, {"options", some_options()}});
        return;
      case 2:
      case 3:
        (void)shell().call(connection, "subscriber.open",
                           {{"topic", topic},
                            {"delivery", pick(2) == 0 ? "lossless" : "drop_oldest"},
                            {"start", pick(2) == 0 ? "next" : "oldest"}});
        return;
      case 4:
        (void)shell().call(connection, "publisher.mapped", {{"handle", handle}});
        return;
      case 5:
        (void)shell().call(connection, "subscriber.lanes", {{"handle", handle}, {"after", pick(20)}});
        return;
      case 6:
        (void)shell().call(connection, "subscriber.release", {{"handle", handle}, {"lane", some_lane(handle)}});
        return;
      case 7:
        (void)shell().call(connection, "lane.grow", {{"handle", handle}, {"bytes", 4096 * (1 + pick(20))}});
        return;
      case 8:
        (void)shell().call(connection, "lane.turn", {{"handle", handle}, {"entry", pick(14)}, {"cursor", pick(3)}});
        return;
      case 9:
        (void)shell().call(connection, "close", {{"handle", handle}});
        return;
      case 10:
        (void)shell().call(connection, "bell.open", {{"bell", pick(64)}});
        return;
      case 11:
        shell().pass(static_cast<TimeMs>(pick(3000)));
        return;
      case 12:
        return hang_up(at);
      default:
        if (pick(3) == 0) return die(at);
        (void)shell().call(connection, "topics");
        return;
    }
  }

  // The next broker; it may die, too, before it has adopted everything. Some processes have died meanwhile; the others
  // resume their sessions, or wait with it.
  void restart() {
    std::set<SessionId> gone;
    for (const auto& [id, facts] : shell().rows.sessions)
      if (pick(5) == 0) gone.insert(id);
    for (int tries = 0;; ++tries) {
      owned_ = std::make_unique<FakeShell>(*owned_, gone);
      try {
        shell().adopt(tries < 3 ? static_cast<int>(pick(30)) : 0);
        break;
      } catch (const Died&) {
      }
    }
    connections_.clear();
    for (const auto& [id, facts] : std::map(shell().rows.sessions))
      if (pick(4) != 0 && !testing::Test::HasFailure()) resume(id, facts.uid);
  }

  void resume(SessionId id, std::uint32_t uid) {
    const ConnectionId connection = shell().connect(uid);
    // The token that the session was given: connect() says which.
    Answer begun;
    for (ConnectionId first = 1; first < connection && begun.result.is_null(); ++first) {
      const std::string token = "token-" + std::to_string(first);
      if (hash_token(token) == shell().rows.sessions.at(id).token_hash)
        begun = shell().call(connection, "resume.begin",
                             {{"protocol", 1}, {"layout", 1}, {"session", id}, {"token", token}});
    }
    ASSERT_TRUE(begun.ok() && !begun.result.is_null()) << begun.sentence;
    std::vector<HandleId> held;
    const Session& session = shell().tables().sessions.at(id);
    for (const auto& handles : {session.publishers, session.subscribers})
      for (const HandleId handle : handles)
        if (pick(8) != 0) held.push_back(handle);
    held.push_back(1'000'000'000);
    const Answer listed = shell().call(connection, "resume.handles", {{"handles", held}});
    ASSERT_TRUE(listed.ok()) << listed.sentence;
    EXPECT_EQ(listed.result["unknown"], json::array({1'000'000'000}));
    const Answer done = shell().call(connection, "resume.end");
    ASSERT_TRUE(done.ok()) << done.sentence;
    EXPECT_EQ(shell().session_of(connection), id);
    const Session& after = shell().tables().sessions.at(id);
    EXPECT_EQ(after.publishers.size() + after.subscribers.size(), held.size() - 1);
    connections_.push_back(connection);
  }

  void hang_up(std::size_t at) {
    const ConnectionId connection = connections_[at];
    connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(at));
    const SessionId session = shell().session_of(connection);
    if (pick(3) == 0) (void)shell().call(connection, "bye");
    shell().feed(Disconnected{connection});
    if (pick(2) == 0) shell().end(session);
  }

  void die(std::size_t at) {
    const ConnectionId connection = connections_[at];
    const SessionId session = shell().session_of(connection);
    connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(at));
    shell().feed(Disconnected{connection});
    shell().end(session);
  }

  std::mt19937 random_;
  bool restarts_;
  std::unique_ptr<FakeShell> owned_;
  std::vector<ConnectionId> connections_;
};

class Simulation : public testing::TestWithParam<std::uint32_t> {};

TEST_P(Simulation, TablesFilesRowsAndRosterAgree) { Play(GetParam()).run(1500); }
TEST_P(Simulation, TheNextBrokerGoesOnWhereverThisOneDied) { Play(GetParam(), true).run(1500); }

INSTANTIATE_TEST_SUITE_P(Seeds, Simulation, testing::Range(1U, 25U));

}  // namespace
}  // namespace holdfast::broker
