// SPDX-License-Identifier: MIT
//
// Rows that no broker has written: each is refused with a sentence, or makes a world that holds together.
#include <cstdlib>
#include <functional>
#include <random>

#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"
#include "tests/daemon/broker/full_world.hpp"
#include "tests/sanitized.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  void change(RegistryRows& rows) {
    switch (pick(7)) {
      case 0:
        return with(rows.sessions, [&](SessionFacts& facts) { session(facts); });
      case 1:
        return with(rows.segments, [&](SegmentFacts& facts) { segment(facts); });
      case 2:
        return with(rows.topics, [&](TopicFacts& facts) { topic(facts); });
      case 3:
        return with(rows.lanes, [&](LaneFacts& facts) { lane(facts); });
      case 4:
        return with(rows.handles, [&](HandleFacts& facts) { handle(facts); });
      case 5:
        return with(rows.readers, [&](ReaderFacts& facts) { reader(facts); });
      default:
        return lose_or_double(rows);
    }
  }

 private:
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }

  template <class Table, class Change>
  void with(Table& table, Change&& change) {
    if (!table.empty()) change(table[pick(table.size())]);
  }

  void lose_or_double(RegistryRows& rows) {
    const auto act = [&](auto& table) {
      if (table.empty()) return;
      const auto at = table.begin() + static_cast<std::ptrdiff_t>(pick(table.size()));
      if (pick(2) == 0)
        table.erase(at);
      else
        table.push_back(typename std::decay_t<decltype(table)>::value_type(*at));
    };
    const std::function<void()> tables[] = {[&] { act(rows.sessions); }, [&] { act(rows.segments); },
                                            [&] { act(rows.topics); },   [&] { act(rows.lanes); },
                                            [&] { act(rows.handles); },  [&] { act(rows.readers); }};
    tables[pick(6)]();
  }

  template <class T>
  void number(T& value) {
    const auto old = static_cast<std::uint64_t>(value);
    std::uint64_t made = 0;
    switch (pick(8)) {
      case 0:
        made = 0;
        break;
      case 1:
        made = old + 1;
        break;
      case 2:
        made = old - 1;
        break;
      case 3:
        made = old ^ (std::uint64_t{1} << pick(64));
        break;
      case 4:
        made = ~std::uint64_t{0};
        break;
      case 5:
        made = pick(64);
        break;
      case 6:
        made = old + 128 * pick(64);
        break;
      default:
        made = random_();
    }
    value = static_cast<T>(made);
  }
  void flag(bool& value) { value = !value; }
  void text(std::string& value) {
    if (pick(3) == 0)
      value.assign(pick(5000), 'x');
    else if (!value.empty() && pick(2) == 0)
      value[pick(value.size())] = static_cast<char>(pick(256));
    else
      value.clear();
  }

  void session(SessionFacts& facts) {
    switch (pick(8)) {
      case 0:
        return number(facts.id);
      case 1:
        return number(facts.uid);
      case 2:
        return number(facts.pid);
      case 3:
        return text(facts.name);
      case 4:
        return text(facts.token_hash);
      case 5:
        return flag(facts.membarrier);
      case 6:
        return number(facts.records);
      default:
        return number(facts.bells);
    }
  }
  void segment(SegmentFacts& facts) {
    switch (pick(7)) {
      case 0:
        return number(facts.id);
      case 1:
        return number(facts.kind);
      case 2:
        return flag(facts.sealed);
      case 3:
        return number(facts.bytes);
      case 4:
        return number(facts.reserve_bytes);
      case 5:
        return number(facts.session);
      default:
        return number(facts.lane);
    }
  }
  void topic(TopicFacts& facts) {
    switch (pick(11)) {
      case 0:
        return number(facts.id);
      case 1:
        return text(facts.name);
      case 2:
        return number(facts.block);
      case 3:
        return flag(facts.decided);
      case 4:
        return number(facts.options.ring);
      case 5:
        return number(facts.options.chunks_max);
      case 6:
        return number(facts.options.clock);
      case 7:
        return number(facts.options.backing);
      case 8:
        return number(facts.options.linger_ms);
      case 9:
        return text(facts.type.name);
      default:
        return number(facts.options.depth);
    }
  }
  void lane(LaneFacts& facts) {
    switch (pick(11)) {
      case 0:
        return number(facts.id);
      case 1:
        return number(facts.topic);
      case 2:
        return number(facts.session);
      case 3:
        return text(facts.process);
      case 4:
        return number(facts.publisher);
      case 5:
        return number(facts.segment);
      case 6:
        return number(facts.board);
      case 7:
        return number(facts.bytes_max);
      case 8:
        return number(facts.state);
      case 9:
        return flag(facts.shown);
      default:
        if (pick(3) == 0)
          facts.blocks.resize(pick(4), facts.blocks.empty() ? 128 : facts.blocks.front());
        else if (!facts.blocks.empty())
          number(facts.blocks[pick(facts.blocks.size())]);
    }
  }
  void handle(HandleFacts& facts) {
    switch (pick(7)) {
      case 0:
        return number(facts.id);
      case 1:
        return number(facts.session);
      case 2:
        return number(facts.topic);
      case 3:
        return number(facts.role);
      case 4:
        return number(facts.delivery);
      case 5:
        return number(facts.start);
      default:
        return number(facts.key);
    }
  }
  void reader(ReaderFacts& facts) {
    switch (pick(5)) {
      case 0:
        return number(facts.handle);
      case 1:
        return number(facts.lane);
      case 2:
        return number(facts.record);
      case 3:
        return number(facts.entry);
      default:
        return flag(facts.turned);
    }
  }

  std::mt19937_64 random_;
};

TEST(Adopt, TheWorldAsItWas) {
  const FullWorld world;
  ASSERT_EQ(check_rows(world.rows()), "");
  FakeShell next(world.shell(), world.rows());
  next.adopt();
  EXPECT_EQ(next.tables().sessions.size(), world.shell().tables().sessions.size());
  EXPECT_EQ(next.tables().lanes.size(), world.shell().tables().lanes.size());
  EXPECT_EQ(next.count<StoreEntry>(), 0U) << "what is right is not written";
}

// A client may let go of its session while there is no broker, or when the next one has just looked.
TEST(Adopt, SessionsAreAskedUntilTheyResume) {
  FakeShell shell;
  const SessionId one = shell.session_of(shell.client());
  const SessionId other = shell.session_of(shell.client());
  FakeShell next(shell, std::set<SessionId>{});
  next.adopt();
  EXPECT_EQ(next.timer, next.now + kAskLocksMs);
  next.let_go.insert(one);
  next.pass(kAskLocksMs);
  EXPECT_FALSE(next.tables().sessions.contains(one));
  EXPECT_TRUE(next.tables().sessions.contains(other));
}

// Its cursors and pins are seen by who has them mapped, and by nobody else: what it reads stays as it is, and no later
// publisher has to wait for it.
TEST(Adopt, SessionWhoseRecordsAreLostKeepsItsPlacesAndGetsNoNewLane) {
  BrokerSetup setup;
  setup.uid = 1000;
  FakeShell shell(setup);
  const ConnectionId writer = shell.client(1000);
  const ConnectionId reader = shell.client(1000);
  const LaneId lane = shell.lane_of(shell.publish(writer, "t"));
  const HandleId subscriber = shell.subscribe(reader, "t", "lossless");
  const SessionId session = shell.session_of(reader);
  FakeShell next(shell, {}, {shell.tables().sessions.at(session).facts.records});
  next.adopt();
  EXPECT_TRUE(next.lane(lane).readers.contains(subscriber)) << "its views are held";
  const ConnectionId later = next.client(1000);
  const LaneId fresh = next.lane_of(next.publish(later, "t"));
  EXPECT_TRUE(next.lane(fresh).readers.empty());
  EXPECT_EQ(next.roster_entry(next.lane(fresh).blocks.front(), 0), 0u);
  next.let_go.insert(session);
  next.pass(kAskLocksMs);
  EXPECT_TRUE(next.tables().sessions.contains(session)) << "there is no lock to ask";
  next.end(session);
  EXPECT_TRUE(next.lane(lane).readers.empty()) << "with its process";
}

// Sessions of another user, whose memory nobody kept for the next broker.
class LostMemory : public testing::Test {
 protected:
  LostMemory() : shell_(setup()) {
    writer_ = shell_.client(0);
    reader_ = shell_.client(0);
    publisher_ = shell_.publish(writer_, "t");
    EXPECT_TRUE(shell_.call(writer_, "publisher.mapped", {{"handle", publisher_}}).ok());
    subscriber_ = shell_.subscribe(reader_, "t", "lossless");
  }

  static BrokerSetup setup() {
    BrokerSetup setup;
    setup.uid = 1000;
    return setup;
  }

  std::set<SegmentId> sealed() const {
    std::set<SegmentId> sealed;
    for (const auto& [id, facts] : shell_.rows.segments)
      if (facts.sealed) sealed.insert(id);
    return sealed;
  }

  // resume.begin: what is asked for.
  static json begin(FakeShell& shell, ConnectionId connection, ConnectionId before, SessionId session) {
    const Answer answer = shell.call(
        connection, "resume.begin",
        {{"protocol", 1}, {"layout", 1}, {"session", session}, {"token", "token-" + std::to_string(before)}});
    EXPECT_TRUE(answer.ok()) << answer.sentence;
    return answer.result["lost"];
  }

  FakeShell shell_;
  ConnectionId writer_ = 0;
  ConnectionId reader_ = 0;
  HandleId publisher_ = 0;
  HandleId subscriber_ = 0;
};

TEST_F(LostMemory, IsAskedForAndEverythingIsAsBefore) {
  const SessionId writing = shell_.session_of(writer_);
  const LaneId lane = shell_.lane_of(publisher_);
  FakeShell next(shell_, {}, sealed());
  next.adopt();
  EXPECT_FALSE(next.lane(lane).ended());
  EXPECT_EQ(next.lane(lane).readers.size(), 1u) << "its publisher still respects who reads it";
  // A newcomer gets its reader, and the lane when it is back.
  const ConnectionId late = next.client(1000);
  const Answer early = next.call(late, "subscriber.open", {{"topic", "t"}, {"start", "oldest"}});
  ASSERT_TRUE(early.ok());
  EXPECT_TRUE(early.result["lanes"].empty());
  EXPECT_FALSE(early.result["more"].get<bool>());

  const ConnectionId again = next.connect(0);
  const json lost = begin(next, again, writer_, writing);
  EXPECT_EQ(lost.size(), 3u) << "records, bells, lane";
  for (const json& id : lost) EXPECT_TRUE(next.gives_back(again, id.get<SegmentId>()));
  EXPECT_FALSE(next.gives_back(again, lost[0].get<SegmentId>())) << "once";
  EXPECT_TRUE(next.call(again, "resume.memory").result["lost"].empty());
  EXPECT_TRUE(next.call(again, "resume.handles", {{"handles", {publisher_}}}).result["unknown"].empty());
  EXPECT_EQ(next.call(again, "resume.end").result["dropped"], 0);
  const Answer now = next.call(late, "subscriber.lanes", {{"handle", early.result["handle"]}});
  EXPECT_EQ(now.result["lanes"].size(), 1u);
}

TEST_F(LostMemory, OfOthersIsNotTaken) {
  FakeShell next(shell_, {}, sealed());
  next.adopt();
  const SegmentId others = next.tables().sessions.at(shell_.session_of(reader_)).facts.records;
  const ConnectionId again = next.connect(0);
  begin(next, again, writer_, shell_.session_of(writer_));
  EXPECT_FALSE(next.gives_back(again, others));
  EXPECT_FALSE(next.gives_back(next.client(0), others));
}

TEST_F(LostMemory, ALaneThatDoesNotComeBackEndsAsAborted) {
  const SessionId writing = shell_.session_of(writer_);
  const LaneId lane = shell_.lane_of(publisher_);
  FakeShell next(shell_, {}, {shell_.lane(lane).facts.segment});
  next.adopt();
  const ConnectionId again = next.connect(0);
  EXPECT_EQ(begin(next, again, writer_, writing).size(), 1u);
  EXPECT_TRUE(next.call(again, "resume.memory").result["lost"].empty()) << "each is asked for once";
  EXPECT_EQ(next.call(again, "resume.handles", {{"handles", {publisher_}}}).result["unknown"], json{publisher_});
  EXPECT_TRUE(next.call(again, "resume.end").ok());
  EXPECT_EQ(next.lane(lane).facts.state, shm::LaneState::kAborted);
  // Who reads it drains it, and lets it go.
  ASSERT_EQ(next.lane(lane).readers.size(), 1u);
  const ConnectionId reading = next.connect(0);
  begin(next, reading, reader_, shell_.session_of(reader_));
  ASSERT_TRUE(next.call(reading, "resume.handles", {{"handles", {subscriber_}}}).ok());
  ASSERT_TRUE(next.call(reading, "resume.end").ok());
  EXPECT_TRUE(next.call(reading, "subscriber.release", {{"handle", subscriber_}, {"lane", lane}}).ok());
  EXPECT_FALSE(next.tables().lanes.contains(lane));
}

TEST_F(LostMemory, ASessionWithoutItsOwnIsRefusedAndKeepsItsPlaces) {
  const LaneId lane = shell_.lane_of(publisher_);
  FakeShell next(shell_, {}, sealed());
  next.adopt();
  const ConnectionId again = next.connect(0);
  begin(next, again, reader_, shell_.session_of(reader_));
  ASSERT_TRUE(next.call(again, "resume.handles", {{"handles", {subscriber_}}}).ok());
  EXPECT_EQ(next.call(again, "resume.end").error, "not_found");
  EXPECT_EQ(next.lane(lane).readers.size(), 1u);
  next.end(shell_.session_of(reader_));
  EXPECT_TRUE(next.lane(lane).readers.empty());
}

TEST_F(LostMemory, OfTheDeadIsGoneWhenItsReadersAre) {
  const LaneId lane = shell_.lane_of(publisher_);
  const SessionId reading = shell_.session_of(reader_);
  FakeShell next(shell_, {shell_.session_of(writer_)}, sealed());
  next.adopt();
  ASSERT_TRUE(next.tables().lanes.contains(lane));
  EXPECT_TRUE(next.lane(lane).ended());
  next.end(reading);
  EXPECT_FALSE(next.tables().lanes.contains(lane));
}

// As a campaign: HOLDFAST_COUNT rows, from HOLDFAST_SEED on.
TEST(Adopt, MutatedRowsAreRefusedOrHoldTogether) {
  const std::uint64_t count = campaign_number("HOLDFAST_COUNT", kSanitized ? 4'000 : 20'000);
  const std::uint64_t first = campaign_number("HOLDFAST_SEED", 1);
  const FullWorld world;
  const RegistryRows rows = world.rows();
  std::uint64_t adopted = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("HOLDFAST_COUNT=1 HOLDFAST_SEED=" + std::to_string(seed));
    Mutator mutator(seed);
    RegistryRows mutated = rows;
    for (std::uint64_t i = 0; i <= seed % 3; ++i) mutator.change(mutated);
    if (!check_rows(mutated).empty()) continue;
    ++adopted;
    FakeShell next(world.shell(), mutated);
    next.adopt();
    // And all of it can end.
    std::vector<SessionId> sessions;
    for (const auto& [id, session] : next.tables().sessions) sessions.push_back(id);
    for (const SessionId id : sessions) next.end(id);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(adopted, 0U) << "some changes are harmless";
  EXPECT_LT(adopted, count);
  std::printf("registry rows: %llu mutated, %llu refused, %llu adopted, 0 crashed\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(count - adopted),
              static_cast<unsigned long long>(adopted));
}

}  // namespace
}  // namespace holdfast::broker
