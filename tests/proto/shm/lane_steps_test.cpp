// SPDX-License-Identifier: MIT
//
// Half-done states, all of them: one party is stopped behind each of its steps in turn, and meanwhile another party does
// all that it can, or the stopped one never goes on. Nothing is torn, nothing that is held changes, nothing is lost that
// was to be kept, and every chunk comes back.
//
// This holds the counterexamples of the ordering rules for one switch between two parties: floor not raised, fields
// late, pin late, cursor late, a roster entry that comes during a scan, batches that give up one of two samples.
#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "tests/proto/shm/hook_atomics.hpp"
#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

struct Case {
  bool lossless;
  bool batch;
  bool inlined;  // all samples inline, or mixed with chunks
  std::uint64_t before;  // samples that are there when the take begins
  std::uint64_t laps;  // samples that are published while it is stopped
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << (c.lossless ? "lossless" : "drop-oldest") << (c.batch ? " batch" : "") << (c.inlined ? " inline" : "") << ", "
       << c.before << " before, " << c.laps << " meanwhile";
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool lossless : {false, true})
    for (const bool batch : {false, true})
      for (const bool inlined : {false, true})
        for (const std::uint64_t before : {0u, 1u, 2u, 7u, 8u, 12u})
          for (const std::uint64_t laps : {1u, 3u, 8u, 9u, 30u})
            all.push_back({lossless, batch, inlined, before, laps});
  return all;
}

constexpr LaneShape kSmall{.ring_slots = 8, .chunks_max = 64, .chunks = 3, .chunk_bytes = 64};

// What a reader holds after a take, checked against what was published.
class Held {
 public:
  template <class A>
  void take(TestReader<A>& reader, bool batch, std::uint64_t& next) {
    const bool was_lossless = reader->lossless();
    Taken taken[4];
    std::size_t count = 0;
    Take result = Take::kEmpty;
    if (batch) {
      result = reader->take_batch(std::span(taken), count);
    } else {
      result = reader->take(taken[0]);
      count = result == Take::kSample ? 1 : 0;
    }
    EXPECT_NE(result, Take::kCorrupt);
    if (result == Take::kLapped) {
      EXPECT_TRUE(!was_lossless || taken[0].turned);
      next += taken[0].missed;
    }
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(taken[i].position, next + i);
      EXPECT_TRUE(reader.intact(taken[i])) << "position " << taken[i].position;
      views_.push_back(taken[i]);
    }
    next += count;
    EXPECT_EQ(reader->cursor(), next);
  }

  template <class A>
  void check(TestReader<A>& reader) {
    for (const Taken& view : views_) EXPECT_TRUE(reader.intact(view)) << "position " << view.position;
  }

  template <class A>
  void release(TestReader<A>& reader) {
    for (const Taken& view : views_) reader.release(view);
    views_.clear();
    EXPECT_EQ(reader.pins(), 0u);
  }

 private:
  std::vector<Taken> views_;
};

template <class A>
std::uint64_t publish(TestWriter<A>& writer, std::uint64_t count, bool inlined) {
  std::uint64_t published = 0;
  while (published < count && (inlined ? writer.publish_inline() : writer.publish_mixed())) ++published;
  return published;
}

// One test for all cases: there are hundreds, and each is short.
template <class Check>
void for_every_case(Check&& check) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    check(c);
    if (testing::Test::HasFailure()) return;
  }
}

void take_with_publishes(const Case& c) {
  const std::size_t steps = for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    auto reader = fresh_reader<HookAtomics>(lane, c.lossless);
    TestWriter<> writer(lane);
    publish(writer, c.before, c.inlined);
    std::uint64_t next = 0;
    Held held;
    bool reached = false;
    {
      const AtStep meanwhile(step, [&] { publish(writer, c.laps, c.inlined); });
      held.take(*reader, c.batch, next);
      reached = meanwhile.reached();
    }
    // What is held stays as it is while everything that can be reused is.
    publish(writer, 30, c.inlined);
    held.check(*reader);
    held.release(*reader);
    const Drained drained = drain(*reader);
    EXPECT_EQ(drained.corrupt + drained.torn, 0u);
    EXPECT_TRUE(drained.in_order);
    EXPECT_EQ(next + drained.taken + drained.missed, writer->position());
    if (c.lossless) {
      EXPECT_EQ(drained.missed, 0u);
    }
    writer.reclaim(writer->position());
    EXPECT_EQ(writer.free_chunks(), lane.shape().chunks);
    return reached;
  });
  EXPECT_GE(steps, 2u);
}

void take_with_turn(const Case& c) {
  if (!c.lossless) return;
  for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    auto reader = fresh_reader<HookAtomics>(lane, true);
    TestWriter<> writer(lane);
    publish(writer, c.before, c.inlined);
    std::uint64_t next = 0;
    Held held;
    bool reached = false;
    {
      const AtStep meanwhile(step, [&] {
        lane.turn(reader->seat());
        publish(writer, c.laps, c.inlined);
      });
      held.take(*reader, c.batch, next);
      reached = meanwhile.reached();
    }
    publish(writer, 30, c.inlined);
    held.check(*reader);
    held.release(*reader);
    const Drained drained = drain(*reader);
    EXPECT_EQ(drained.corrupt + drained.torn, 0u);
    EXPECT_EQ((*reader)->lossless(), !reached);
    EXPECT_EQ(next + drained.taken + drained.missed, writer->position());
    EXPECT_LE(drained.turned, 1u);
    return reached;
  });
}

void take_with_death(const Case& c) {
  for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    auto reader = fresh_reader<HookAtomics>(lane, c.lossless);
    auto other = fresh_reader(lane, true);
    TestWriter<> writer(lane);
    publish(writer, c.before, c.inlined);
    bool died = false;
    try {
      const AtStep death(step, [] { throw Died{}; });
      Taken taken[4];
      std::size_t count = 0;
      if (c.batch)
        (*reader)->take_batch(std::span(taken), count);
      else
        (*reader)->take(taken[0]);
    } catch (const Died&) {
      died = true;
    }
    // Survivors go on as far as the dead one lets them; once it is off the roster they go on for ever.
    publish(writer, c.laps, c.inlined);
    lane.unseat(reader->seat());
    drain(*other);
    std::uint64_t published = 0;
    for (int i = 0; i < 40; ++i) {
      published += publish(writer, 1, c.inlined);
      const Drained drained = drain(*other);
      EXPECT_EQ(drained.corrupt + drained.torn + drained.missed, 0u);
    }
    EXPECT_EQ(published, 40u);
    EXPECT_EQ((*other)->cursor(), writer->position());
    writer.reclaim(writer->position());
    EXPECT_EQ(writer.free_chunks(), lane.shape().chunks);
    return died;
  });
}

TEST(LaneSteps, ATakeSurvivesAnythingPublishedInBetween) { for_every_case(take_with_publishes); }
TEST(LaneSteps, ATakeSurvivesTheTurnAndALapInBetween) { for_every_case(take_with_turn); }
TEST(LaneSteps, AReaderMayDieAnywhereInATake) { for_every_case(take_with_death); }

// ---- the writer is stopped ----------------------------------------------------------------------------------------

struct Stopped {
  bool batch;
  std::uint64_t before;  // samples that are there when it begins

  // One publish of what is asked for, chunks reclaimed on the way.
  template <class A>
  void publish_once(TestWriter<A>& writer) const {
    if (batch)
      writer.publish_batch(4);
    else
      writer.publish_mixed();
  }
};

template <class Check>
void for_every_stop(Check&& check) {
  for (const bool batch : {false, true}) {
    for (std::uint64_t before = 0; before < 14; ++before) {
      SCOPED_TRACE((batch ? "a batch after " : "one sample after ") + std::to_string(before));
      check(Stopped{batch, before});
      if (testing::Test::HasFailure()) return;
    }
  }
}

void publish_with_takes(const Stopped& stopped) {
  const std::size_t steps = for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    auto lossless = fresh_reader(lane, true);
    auto drop_oldest = fresh_reader(lane, false);
    TestWriter<HookAtomics> writer(lane);
    std::uint64_t lossless_next = 0;
    std::uint64_t drop_next = 0;
    Held lossless_held;
    Held drop_held;
    const std::uint64_t lag = stopped.before % 3;  // what is left to take while the writer is stopped
    for (std::uint64_t i = 0; i < stopped.before; ++i) {
      EXPECT_TRUE(writer.publish_mixed());
      if (writer->position() <= (*lossless)->cursor() + lag) continue;
      const Drained drained = drain(*lossless, writer->position() - (*lossless)->cursor() - lag);
      EXPECT_EQ(drained.torn + drained.missed + drained.corrupt, 0u);
      lossless_next += drained.taken;
    }
    bool reached = false;
    {
      const AtStep meanwhile(step, [&] {
        lossless_held.take(*lossless, false, lossless_next);
        drop_held.take(*drop_oldest, false, drop_next);
        drop_held.take(*drop_oldest, true, drop_next);
      });
      stopped.publish_once(writer);
      reached = meanwhile.reached();
    }
    publish(writer, 8, false);
    lossless_held.check(*lossless);
    drop_held.check(*drop_oldest);
    lossless_held.release(*lossless);
    drop_held.release(*drop_oldest);
    const Drained one = drain(*lossless);
    EXPECT_EQ(one.corrupt + one.torn + one.missed, 0u);
    EXPECT_EQ(lossless_next + one.taken, writer->position());
    const Drained two = drain(*drop_oldest);
    EXPECT_EQ(two.corrupt + two.torn, 0u);
    EXPECT_EQ(drop_next + two.taken + two.missed, writer->position());
    writer.reclaim(writer->position());
    EXPECT_EQ(writer.free_chunks(), lane.shape().chunks);
    return reached;
  });
  EXPECT_GE(steps, 8u);
}

// Row 6a and 11, at every step of the writer: the roster entry comes and the reader joins, or the entry is known
// already and the reader joins.
void join_meanwhile(const Stopped& stopped, Start start, bool is_lossless, bool is_known) {
  for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    const std::uint64_t flags = is_lossless ? kEntryLossless : 0;
    Seat seat;
    if (is_known) seat = lane.seat(flags);
    TestWriter<HookAtomics> writer(lane);
    publish(writer, stopped.before, false);
    std::unique_ptr<TestReader<>> reader;
    std::uint64_t next = 0;
    Held held;
    bool reached = false;
    {
      const AtStep meanwhile(step, [&] {
        if (!is_known) seat = lane.seat(flags);
        reader = std::make_unique<TestReader<>>(lane, seat, is_lossless);
        (*reader)->join(start);
        next = (*reader)->cursor();
        held.take(*reader, false, next);
      });
      stopped.publish_once(writer);
      reached = meanwhile.reached();
    }
    if (!reached) return false;
    publish(writer, 20, false);
    held.check(*reader);
    held.release(*reader);
    const Drained drained = drain(*reader);
    EXPECT_EQ(drained.corrupt + drained.torn, 0u) << "step " << step;
    EXPECT_EQ(next + drained.taken + drained.missed, writer->position());
    if (is_lossless) {
      EXPECT_EQ(drained.missed, 0u) << "step " << step;
    }
    return true;
  });
}

void publish_with_join(const Stopped& stopped) {
  for (const Start start : {Start::kOldest, Start::kLatest, Start::kNext})
    for (const bool is_lossless : {true, false})
      for (const bool is_known : {false, true}) join_meanwhile(stopped, start, is_lossless, is_known);
}

// Row 11a: a dead reader goes off the roster, and its record is given to the next one at once.
void publish_with_new_reader(const Stopped& stopped) {
  for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    auto leaving = fresh_reader(lane, true);
    TestWriter<HookAtomics> writer(lane);
    publish(writer, stopped.before, false);
    Taken taken;
    const bool pinned = (*leaving)->take(taken) == Take::kSample;
    std::unique_ptr<TestReader<>> next_one;
    bool reached = false;
    {
      const AtStep meanwhile(step, [&] {
        const Seat seat = leaving->seat();
        lane.unseat(seat);
        lane.seat_again(seat, kEntryLossless);
        next_one = std::make_unique<TestReader<>>(lane, seat, true);
        (*next_one)->join(Start::kOldest);
      });
      stopped.publish_once(writer);
      reached = meanwhile.reached();
    }
    if (!reached) return false;
    publish(writer, 20, false);
    const std::uint64_t joined = lane.record(next_one->seat()).joined;
    const Drained drained = drain(*next_one);
    EXPECT_EQ(drained.corrupt + drained.torn + drained.missed, 0u) << "step " << step << (pinned ? ", pinned" : "");
    EXPECT_EQ(joined + drained.taken, writer->position());
    writer.reclaim(writer->position());
    EXPECT_EQ(writer.free_chunks(), lane.shape().chunks);
    return true;
  });
}

void publish_with_death(const Stopped& stopped) {
  const std::size_t steps = for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    auto lossless = fresh_reader(lane, true);
    auto drop_oldest = fresh_reader(lane, false);
    std::uint64_t whole = 0;
    std::uint64_t lossless_next = 0;
    bool died = false;
    {
      TestWriter<HookAtomics> writer(lane);
      for (std::uint64_t i = 0; i < stopped.before; ++i) {
        EXPECT_TRUE(writer.publish_mixed());
        lossless_next += drain(*lossless).taken;
      }
      whole = writer->position();
      try {
        const AtStep death(step, [] { throw Died{}; });
        stopped.publish_once(writer);
        writer->finish();
      } catch (const Died&) {
        died = true;
      }
    }
    // What is stamped is published, in order, without a gap.
    std::uint64_t stamped = whole;
    while (lane.slot(stamped).stamp == stamp_of(stamped)) ++stamped;
    lane.abort();
    const Drained one = drain(*lossless);
    EXPECT_EQ(one.corrupt + one.torn + one.missed, 0u);
    EXPECT_EQ(lossless_next + one.taken, stamped);
    EXPECT_TRUE(one.end == Take::kAborted || one.end == Take::kFinished);
    const Drained two = drain(*drop_oldest);
    EXPECT_EQ(two.corrupt + two.torn, 0u);
    EXPECT_EQ(two.taken + two.missed, stamped);
    EXPECT_EQ(two.end, one.end);
    return died;
  });
  EXPECT_GE(steps, 8u);
}

void take_with_growth(const Stopped& stopped) {
  for_every_step([&](std::size_t step) {
    LaneShape shape = kSmall;
    shape.chunks_reserve = 5;
    TestLane lane(shape);
    auto reader = fresh_reader<HookAtomics>(lane, false);
    TestWriter<> writer(lane);
    publish(writer, stopped.before, false);
    std::uint64_t next = 0;
    Held held;
    bool reached = false;
    {
      const AtStep meanwhile(step, [&] {
        const std::uint32_t first = lane.grow(5);
        for (std::uint32_t i = 0; i < 5; ++i) writer.give(first + i);
        publish(writer, 9, false);
      });
      held.take(*reader, stopped.batch, next);
      reached = meanwhile.reached();
    }
    held.release(*reader);
    const Drained drained = drain(*reader);
    EXPECT_EQ(drained.corrupt + drained.torn, 0u);
    EXPECT_EQ(next + drained.taken + drained.missed, writer->position());
    return reached;
  });
}

TEST(LaneSteps, ReadersTakeOnlyWhatIsWhole) { for_every_stop(publish_with_takes); }
TEST(LaneSteps, AReaderMayJoinAnywhere) { for_every_stop(publish_with_join); }
TEST(LaneSteps, AReaderMayGoAndItsRecordBeReusedAnywhere) { for_every_stop(publish_with_new_reader); }
TEST(LaneSteps, AWriterMayDieAnywhere) { for_every_stop(publish_with_death); }
TEST(LaneSteps, TheLaneMayGrowAnywhereInATake) { for_every_stop(take_with_growth); }

// ---- joining and leaving readers that die -------------------------------------------------------------------------

TEST(LaneDeath, AReaderMayDieAnywhereInJoiningReleasingOrLeaving) {
  const std::size_t steps = for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    TestWriter<> writer(lane);
    publish(writer, 3, false);
    TestReader<HookAtomics> reader(lane, lane.seat(kEntryLossless), true);
    bool died = false;
    try {
      const AtStep death(step, [] { throw Died{}; });
      reader->join(Start::kOldest);
      Taken taken;
      EXPECT_EQ(reader->take(taken), Take::kSample);
      reader.release(taken);
      (void)reader->writer_waits();
      reader->leave();
    } catch (const Died&) {
      died = true;
    }
    lane.unseat(reader.seat());
    EXPECT_EQ(publish(writer, 50, false), 50u);
    writer.reclaim(writer->position());
    EXPECT_EQ(writer.free_chunks(), lane.shape().chunks);
    return died;
  });
  EXPECT_GE(steps, 10u);
}

// A publisher that dies while it waits for room has its lane ended like any other, and its readers drain it.
TEST(LaneDeath, AWaitingWriterMayDieAnywhere) {
  const std::size_t steps = for_every_step([&](std::size_t step) {
    TestLane lane(kSmall);
    auto reader = fresh_reader(lane, true);
    TestWriter<HookAtomics> writer(lane);
    while (writer.publish_inline()) {
    }
    const std::uint64_t position = writer->position();
    bool died = false;
    try {
      const AtStep death(step, [] { throw Died{}; });
      writer->announce_wait(0);
      (void)writer.room(1);
      writer->end_wait();
    } catch (const Died&) {
      died = true;
    }
    lane.abort();
    const Drained drained = drain(*reader);
    EXPECT_EQ(drained.taken, position);
    EXPECT_EQ(drained.end, Take::kAborted);
    return died;
  });
  EXPECT_GE(steps, 5u);
}

}  // namespace
}  // namespace holdfast::shm
