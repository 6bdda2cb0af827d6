// SPDX-License-Identifier: MIT
//
// Bells and boards (rows 8 and 14): ring, arm, disarm, tickets, and the counterexamples that a naive order fails.
#include "proto/shm/bell.hpp"

#include <gtest/gtest.h>

#include "tests/proto/shm/hook_atomics.hpp"
#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

// Counts instead of making a noise.
struct CountingSound {
  int& tokens;
  void post(Bell&) const { ++tokens; }
  void drain(Bell&) const { tokens = 0; }
};

class Bells : public testing::Test {
 protected:
  void arm_with(std::uint64_t ticket) { arm<NativeAtomics, At::kSleepArm>(bell_, ticket, sound_); }
  void disarm_with(std::uint64_t ticket) { disarm<NativeAtomics, At::kSleepDisarm>(bell_, ticket); }
  void ring_it() { ring<NativeAtomics>(bell_, sound_); }

  Bell bell_{};
  int tokens_ = 0;
  CountingSound sound_{tokens_};
};

TEST_F(Bells, ABellThatIsNotArmedIsSilent) {
  ring_it();
  EXPECT_EQ(tokens_, 0);
}

TEST_F(Bells, AnArmedBellRingsOnce) {
  arm_with(1);
  ring_it();
  ring_it();
  EXPECT_EQ(tokens_, 1);
  EXPECT_EQ(bell_.armed, 0u);
}

TEST_F(Bells, ArmingDrainsOldTokensFirst) {
  arm_with(1);
  ring_it();
  EXPECT_EQ(tokens_, 1);
  arm_with(2);
  EXPECT_EQ(tokens_, 0);
  EXPECT_EQ(bell_.armed, 2u);
}

TEST_F(Bells, ADisarmedBellIsSilent) {
  arm_with(1);
  disarm_with(1);
  ring_it();
  EXPECT_EQ(tokens_, 0);
}

TEST_F(Bells, DisarmingWithAnOldTicketChangesNothing) {
  arm_with(1);
  arm_with(2);
  disarm_with(1);
  EXPECT_EQ(bell_.armed, 2u);
  disarm_with(2);
  EXPECT_EQ(bell_.armed, 0u);
}

TEST_F(Bells, RingersPostBeforeTheyTakeTheTicketDown) {
  arm_with(5);
  const Trace trace;
  ring<HookAtomics>(bell_, sound_);
  EXPECT_EQ(trace.sites(), (std::vector<At>{At::kRingArmed, At::kRingPost, At::kRingDisarm}));
}

// Stopped ringer: it has read the ticket and not posted yet. The next one must ring all the same.
TEST_F(Bells, ARingerStoppedBeforeItsPostSilencesNobody) {
  arm_with(1);
  const AtStep stopped(0, At::kRingArmed, [] { throw Died{}; });
  EXPECT_THROW(ring<HookAtomics>(bell_, sound_), Died);
  EXPECT_EQ(tokens_, 0);
  ring_it();
  EXPECT_EQ(tokens_, 1);
}

// One ringer's late compare-and-swap must not wipe the next arming.
TEST_F(Bells, ALateRingerDoesNotWipeTheNextTicket) {
  arm_with(1);
  {
    const AtStep late(0, At::kRingPost, [&] {
      arm_with(2);  // the waiter woke, and waits again
    });
    ring<HookAtomics>(bell_, sound_);
    EXPECT_TRUE(late.reached());
  }
  EXPECT_EQ(bell_.armed, 2u);
  ring_it();
  EXPECT_EQ(tokens_, 1);
}

TEST_F(Bells, ARingerThatDiedAfterItsPostCausesAtMostOneMore) {
  arm_with(1);
  {
    const AtStep died(0, At::kRingPost, [] { throw Died{}; });
    EXPECT_THROW(ring<HookAtomics>(bell_, sound_), Died);
  }
  EXPECT_EQ(tokens_, 1);
  ring_it();
  ring_it();
  EXPECT_EQ(tokens_, 2);
}

TEST(LaneBoard, EverySleeperSetsItsBitAndNamesItsBell) {
  Board board{};
  std::uint64_t bells[3] = {};
  announce_sleep<NativeAtomics>(board, bells[0], 0, 7);
  announce_sleep<NativeAtomics>(board, bells[1], 63, 0);
  announce_sleep<NativeAtomics>(board, bells[2], 64 + 5, 63);
  EXPECT_EQ(board.sleepers, std::uint64_t{1} | std::uint64_t{1} << 63 | std::uint64_t{1} << 5);
  EXPECT_EQ(bells[0], 8u);
  EXPECT_EQ(bells[1], 1u);
  EXPECT_EQ(bells[2], 64u);
}

TEST(LaneBoard, TheBellIsNamedBeforeTheBoardIsSet) {
  Board board{};
  std::uint64_t bell = 0;
  const Trace trace;
  announce_sleep<HookAtomics>(board, bell, 0, 0);
  EXPECT_EQ(trace.sites(), (std::vector<At>{At::kSleepBell, At::kSleepBoard}));
}

// A sleeper on one lane, and what the publisher does after each sample.
class Sleeper : public testing::Test {
 protected:
  void prepare(std::uint64_t ticket) {
    arm<NativeAtomics, At::kSleepArm>(lane_.bell(0), ticket, sound_);
    announce_sleep<NativeAtomics>(lane_.board(), lane_.record(reader_->seat()).bell, reader_->seat().index, 0);
  }
  void cancel(std::uint64_t ticket) { disarm<NativeAtomics, At::kSleepDisarm>(lane_.bell(0), ticket); }

  // The publisher's look at the board, step by step in the right order.
  void publish_and_ring() {
    ASSERT_TRUE(writer_.publish_inline());
    if (writer_.sleepers() && writer_->take_board() != 0) ring<NativeAtomics>(lane_.bell(0), sound_);
  }

  TestLane lane_;
  std::unique_ptr<TestReader<>> reader_ = fresh_reader(lane_, false);
  TestWriter<> writer_{lane_};
  int tokens_ = 0;
  CountingSound sound_{tokens_};
};

TEST_F(Sleeper, IsRungByTheNextSample) {
  prepare(1);
  EXPECT_FALSE((*reader_)->ready());
  publish_and_ring();
  EXPECT_EQ(tokens_, 1);
  EXPECT_TRUE((*reader_)->ready());
  publish_and_ring();
  EXPECT_EQ(tokens_, 1);
}

// "Board taken down after the walk": the board is exchanged before anybody is rung, so that an arming during the walk
// sets it anew.
TEST_F(Sleeper, AnArmingDuringTheWalkIsNotLost) {
  prepare(1);
  ASSERT_TRUE(writer_.publish_inline());
  ASSERT_TRUE(writer_.sleepers());
  ASSERT_NE(writer_->take_board(), 0u);
  cancel(1);  // it found the sample itself
  Taken taken;
  ASSERT_EQ((*reader_)->take(taken), Take::kSample);
  ring<NativeAtomics>(lane_.bell(0), sound_);  // the walk finds nobody armed
  EXPECT_EQ(tokens_, 0);
  prepare(2);
  EXPECT_FALSE((*reader_)->ready());
  publish_and_ring();
  EXPECT_EQ(tokens_, 1);
}

// Row 8, every interleaving of one whole publish within going to sleep: it looks and finds, or it is rung.
TEST_F(Sleeper, APublishAtAnyStepOfGoingToSleepIsFoundOrRings) {
  std::uint64_t ticket = 0;
  const std::size_t steps = for_every_step([&](std::size_t step) {
    tokens_ = 0;
    const AtStep publish(step, [&] { publish_and_ring(); });
    arm<HookAtomics, At::kSleepArm>(lane_.bell(0), ++ticket, sound_);
    announce_sleep<HookAtomics>(lane_.board(), lane_.record(reader_->seat()).bell, reader_->seat().index, 0);
    HookAtomics::heavy_fence<At::kSleepFence>();
    const bool found = (*reader_)->ready();
    if (!publish.reached()) return false;
    EXPECT_TRUE(found || tokens_ > 0) << "step " << step;
    drain(*reader_);
    return true;
  });
  EXPECT_GE(steps, 4u);
}

// And every interleaving of going to sleep within one publish.
TEST_F(Sleeper, GoingToSleepAtAnyStepOfAPublishFindsOrIsRung) {
  TestLane lane;
  auto reader = fresh_reader(lane, false);
  TestWriter<HookAtomics> writer(lane);
  std::uint64_t ticket = 0;
  const std::size_t steps = for_every_step([&](std::size_t step) {
    tokens_ = 0;
    bool found = false;
    const AtStep sleep(step, [&] {
      arm<NativeAtomics, At::kSleepArm>(lane.bell(0), ++ticket, sound_);
      announce_sleep<NativeAtomics>(lane.board(), lane.record(reader->seat()).bell, reader->seat().index, 0);
      found = (*reader)->ready();
    });
    EXPECT_TRUE(writer.publish_inline());
    if (writer.sleepers() && writer->take_board() != 0) ring<HookAtomics>(lane.bell(0), sound_);
    if (!sleep.reached()) return false;
    // Behind the last look at the board a sleeper has seen the stamp.
    EXPECT_TRUE(found || tokens_ > 0) << "step " << step << ": " << site(sleep.where()).name;
    drain(*reader);
    return true;
  });
  EXPECT_GE(steps, 10u);
}

// Row 14, a waiting writer: every interleaving of a take within the announcement, and the other way round.
class WaitingWriter : public testing::Test {
 protected:
  int tokens_ = 0;
  CountingSound sound_{tokens_};
};

TEST_F(WaitingWriter, ATakeAtAnyStepOfTheAnnouncementIsSeenOrRings) {
  const std::size_t steps = for_every_step([&](std::size_t step) {
    TestLane lane;
    auto reader = fresh_reader(lane, true);
    TestWriter<HookAtomics> writer(lane);
    while (writer.publish_inline()) {
    }
    tokens_ = 0;
    const AtStep take(step, [&] {
      Taken taken;
      EXPECT_EQ((*reader)->take(taken), Take::kSample);
      if ((*reader)->writer_waits() == 1 + 3) ring<NativeAtomics>(lane.bell(3), sound_);
    });
    arm<HookAtomics, At::kRoomArm>(lane.bell(3), 1, sound_);
    writer->announce_wait(3);
    const bool room = writer.room(1) == Room::kOk;
    EXPECT_TRUE(room || tokens_ > 0 || !take.reached()) << "step " << step;
    return take.reached();
  });
  EXPECT_GE(steps, 8u);
}

TEST_F(WaitingWriter, AnAnnouncementAtAnyStepOfMakingRoomIsSeenOrLooksAgain) {
  for (const bool view : {false, true}) {  // the room is in the ring, or the chunk of a view
    const std::size_t steps = for_every_step([&](std::size_t step) {
      TestLane lane({.ring_slots = 8, .chunks = view ? 1u : 8u});
      TestReader<HookAtomics> reader(lane, lane.seat(kEntryLossless, 0), true);
      TestWriter<> writer(lane);
      while (writer.publish_chunk()) {
      }
      Taken taken;
      if (view) {
        EXPECT_EQ(reader->take(taken), Take::kSample);
      }
      tokens_ = 0;
      bool room = false;
      const AtStep wait(step, [&] {
        arm<NativeAtomics, At::kRoomArm>(lane.bell(3), 1, sound_);
        writer->announce_wait(3);
        room = view ? writer.publish_chunk() : writer.room(1) == Room::kOk;
      });
      if (view)
        reader->release(taken.chunk);
      else
        EXPECT_EQ(reader->take(taken), Take::kSample);
      if (reader->writer_waits() == 1 + 3) ring<HookAtomics>(lane.bell(3), sound_);
      EXPECT_TRUE(room || tokens_ > 0 || !wait.reached()) << "step " << step;
      return wait.reached();
    });
    EXPECT_GE(steps, 3u);
  }
}

// "Ring before the record is off the roster": the broker takes a dead reader off first, so that the look after the ring
// finds room.
TEST_F(WaitingWriter, ADeadReaderOffTheRosterIsRoom) {
  TestLane lane;
  auto dead = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  while (writer.publish_inline()) {
  }
  arm<NativeAtomics, At::kRoomArm>(lane.bell(0), 1, sound_);
  writer->announce_wait(0);
  EXPECT_EQ(writer.room(1), Room::kFull);
  lane.unseat(dead->seat());
  ring<NativeAtomics>(lane.bell(0), sound_);
  EXPECT_EQ(tokens_, 1);
  EXPECT_EQ(writer.room(1), Room::kOk);
}

}  // namespace
}  // namespace holdfast::shm
