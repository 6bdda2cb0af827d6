// SPDX-License-Identifier: MIT
//
// The broker's hands in shared memory: files, seals, growth, records, roster, bells.
#include "daemon/segments.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/shm/atomics.hpp"
#include "proto/shm/roster.hpp"

namespace holdfast::daemon {
namespace {

using broker::Outcome;

class SegmentFiles : public testing::Test {
 protected:
  SegmentFiles() : segments_("segments-" + std::to_string(::getpid()), 3, none_) {
    shm::register_membarrier();
    segments_.own();
  }

  broker::CreateSegment plan(shm::SegmentKind kind, std::uint64_t bytes, std::uint64_t reserve, bool sealed = false) {
    broker::CreateSegment create;
    create.facts.id = ++last_;
    create.facts.kind = kind;
    create.facts.sealed = sealed;
    create.facts.bytes = bytes;
    create.facts.reserve_bytes = reserve;
    create.facts.session = 9;
    create.facts.lane = 77;
    create.pid = 1234;
    create.topic = 5;
    create.ring = 64;
    create.chunks_max = 64;
    return create;
  }

  broker::SegmentId make(shm::SegmentKind kind, std::uint64_t bytes, std::uint64_t reserve, bool sealed = false) {
    const broker::CreateSegment create = plan(kind, bytes, reserve, sealed);
    EXPECT_FALSE(segments_.run(create).failure);
    return create.facts.id;
  }

  std::uint64_t size_of(broker::SegmentId id) {
    const Descriptor fd = segments_.open({id, false, 0});
    struct stat file{};
    EXPECT_EQ(::fstat(fd.get(), &file), 0);
    return static_cast<std::uint64_t>(file.st_size);
  }

  broker::SegmentId last_ = 0;
  FdStore none_;
  Segments segments_;
};

TEST_F(SegmentFiles, BeginWithTheirHeader) {
  for (const bool sealed : {false, true}) {
    const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 1 << 20, sealed);
    const shm::LaneHeader* lane = segments_.lane(id);
    ASSERT_NE(lane, nullptr);
    EXPECT_EQ(shm::check_header(lane->segment, shm::SegmentKind::kLane, id), shm::HeaderCheck::kOk);
    EXPECT_EQ(lane->segment.epoch, 3U);
    EXPECT_EQ(lane->session, 9U);
    EXPECT_EQ(lane->lane_id, 77U);
    EXPECT_EQ(lane->ring_slots, 64U);
    EXPECT_EQ(segments_.name(id).empty(), sealed);
    EXPECT_EQ(size_of(id), 8192U);
  }
}

TEST_F(SegmentFiles, AreForTheirOwnerOnly) {
  const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 8192);
  const Descriptor fd = segments_.open({id, true, 0});
  struct stat file{};
  ASSERT_EQ(::fstat(fd.get(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600U);
  EXPECT_EQ(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST_F(SegmentFiles, ReadersGetReadOnlyDescriptors) {
  for (const bool sealed : {false, true}) {
    const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 8192, sealed);
    const Descriptor reader = segments_.open({id, false, 0});
    EXPECT_EQ(::fcntl(reader.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader.get(), 0), MAP_FAILED);
    const Descriptor writer = segments_.open({id, true, 0});
    EXPECT_EQ(::fcntl(writer.get(), F_GETFL) & O_ACCMODE, O_RDWR);
  }
}

TEST_F(SegmentFiles, ASealedLaneCanGrowAndNothingElse) {
  const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 1 << 20, true);
  const Descriptor writer = segments_.open({id, true, 0});
  void* mapped = ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, writer.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_FALSE(segments_.run(broker::SealSegment{1, id}).failure);
  EXPECT_EQ(::ftruncate(writer.get(), 4096), -1);
  EXPECT_EQ(::fallocate(writer.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), -1);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer.get(), 0), MAP_FAILED);
  EXPECT_EQ(::fcntl(writer.get(), F_ADD_SEALS, F_SEAL_GROW), -1);
  ASSERT_FALSE(segments_.run(broker::GrowSegment{1, id, 65536}).failure);
  EXPECT_EQ(size_of(id), 65536U);
  static_cast<volatile char*>(mapped)[65535] = 1;
  ::munmap(mapped, 1 << 20);
}

TEST_F(SegmentFiles, ANamedLaneCannotBeSealed) {
  const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 8192);
  EXPECT_EQ(segments_.run(broker::SealSegment{1, id}).failure, control::Failure::kSystem);
}

TEST_F(SegmentFiles, SealedBellsCannotBeCutShort) {
  const broker::SegmentId id = make(shm::SegmentKind::kBells, 16384, 1 << 20, true);
  const Descriptor peer = segments_.open({id, true, 0});
  EXPECT_EQ(::ftruncate(peer.get(), 0), -1);
  EXPECT_FALSE(segments_.run(broker::GrowSegment{1, id, 32768}).failure);
}

TEST_F(SegmentFiles, MoreThanTheMachineHasIsNoMemoryWithBothNumbers) {
  const std::uint64_t huge = std::uint64_t{1} << 44;
  const Outcome made = segments_.run(plan(shm::SegmentKind::kLane, huge, huge));
  EXPECT_EQ(made.failure, control::Failure::kNoMemory);
  EXPECT_EQ(made.asked_bytes, huge);
  EXPECT_GT(made.free_bytes, 0U);
  EXPECT_LT(made.free_bytes, huge);
  for (const bool sealed : {false, true}) {
    const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, huge, sealed);
    const Outcome grown = segments_.run(broker::GrowSegment{1, id, huge});
    EXPECT_EQ(grown.failure, control::Failure::kNoMemory);
    EXPECT_EQ(grown.asked_bytes, huge - 8192);
    EXPECT_EQ(size_of(id), 8192U);
    EXPECT_FALSE(segments_.run(broker::GrowSegment{1, id, 16384}).failure);
  }
}

TEST_F(SegmentFiles, GrowInSteps) {
  const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 1 << 20);
  const broker::GrowSegment grow{1, id, 8192 + 3 * 65536};
  EXPECT_EQ(segments_.lane_lacks(grow), 3U * 65536U);
  int steps = 0;
  while (true) {
    const Segments::Progress progress = segments_.grow_step(grow, 65536);
    ASSERT_FALSE(progress.outcome.failure);
    ++steps;
    if (progress.done) break;
  }
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(size_of(id), grow.bytes);
  EXPECT_EQ(segments_.lane_lacks(grow), 0U);
}

// A broker that dies between the two leaves a file that no row names: better than a row without its file.
TEST_F(SegmentFiles, GoWhenTheRegistryKnows) {
  make(shm::SegmentKind::kRoster, 16384, 1 << 20);
  const broker::SegmentId id = make(shm::SegmentKind::kSession, 8192, 1 << 20);
  const std::string name = "/" + segments_.name(id);
  EXPECT_FALSE(segments_.removes());
  segments_.run(broker::RemoveSegment{id});
  EXPECT_TRUE(segments_.removes());
  EXPECT_TRUE(Descriptor(::shm_open(name.c_str(), O_RDONLY, 0)));
  segments_.note_commits(1);
  EXPECT_FALSE(segments_.removes());
  EXPECT_FALSE(Descriptor(::shm_open(name.c_str(), O_RDONLY, 0)));
}

// What the registry could not be told of is the next broker's, or goes with a stop for good.
TEST_F(SegmentFiles, RemovedOnesGoWithAStopForGoodOnly) {
  for (const bool for_good : {false, true}) {
    std::string name;
    {
      Segments others("segments-removed-" + std::to_string(::getpid()), 1, none_);
      if (for_good) others.own();
      const broker::CreateSegment create = plan(shm::SegmentKind::kSession, 8192, 1 << 20);
      ASSERT_FALSE(others.run(create).failure);
      name = "/" + others.name(create.facts.id);
      others.run(broker::RemoveSegment{create.facts.id});
    }
    EXPECT_EQ(static_cast<bool>(Descriptor(::shm_open(name.c_str(), O_RDONLY, 0))), !for_good);
    ::shm_unlink(name.c_str());
  }
}

TEST_F(SegmentFiles, AreGoneWhenTheyAreRemoved) {
  const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 8192);
  const std::string name = "/" + segments_.name(id);
  segments_.run(broker::RemoveSegment{id});
  segments_.note_commits(1);
  EXPECT_EQ(::shm_open(name.c_str(), O_RDONLY, 0), -1);
  EXPECT_FALSE(segments_.open({id, true, 0}));
  EXPECT_EQ(segments_.lane(id), nullptr);
  EXPECT_EQ(segments_.record(id, 4096), nullptr);
  EXPECT_EQ(segments_.name(id), "");
  // What still names it does nothing.
  segments_.run(broker::RemoveSegment{id});
  segments_.run(broker::EndLane{id, shm::LaneState::kAborted});
  segments_.run(broker::RingBells{{id}});
  segments_.run(broker::ClearBoard{id, 12288});
  segments_.run(broker::ResetRecord{id, 4096, 64, 0});
  EXPECT_TRUE(segments_.run(broker::GrowSegment{1, id, 65536}).failure);
  EXPECT_TRUE(segments_.run(broker::SealSegment{1, id}).failure);
  EXPECT_TRUE(segments_.run(broker::ReadCursor{1, id, 4096}).failure);
  EXPECT_TRUE(segments_.run(broker::OpenEvent{1, id, 0, 1}).failure);
  EXPECT_EQ(segments_.lane_lacks({1, id, 65536}), 0U);
  EXPECT_EQ(segments_.map_ring(id, 64).get_address(), nullptr);
}

TEST_F(SegmentFiles, NothingIsLeftWhenTheyEnd) {
  std::string name;
  {
    Segments others("segments-other-" + std::to_string(::getpid()), 1, none_);
    others.own();
    const broker::CreateSegment create = plan(shm::SegmentKind::kRoster, 16384, 1 << 20);
    ASSERT_FALSE(others.run(create).failure);
    name = "/" + others.name(create.facts.id);
  }
  EXPECT_EQ(::shm_open(name.c_str(), O_RDONLY, 0), -1);
}

// A start that fails leaves what it found.
TEST_F(SegmentFiles, WhatIsAdoptedIsTheSameFileAndStaysUntilItIsOwned) {
  const std::string instance = "segments-adopted-" + std::to_string(::getpid());
  const broker::CreateSegment create = plan(shm::SegmentKind::kSession, 8192, 1 << 20);
  std::string name;
  {
    Segments first(instance, 1, none_);
    ASSERT_FALSE(first.run(create).failure);
    name = first.name(create.facts.id);
  }
  {
    Segments second(instance, 2, none_);
    EXPECT_EQ(second.adopt(create.facts, name), "");
    EXPECT_EQ(second.name(create.facts.id), name);
    EXPECT_NE(second.record(create.facts.id, 4096), nullptr);
  }
  Segments third(instance, 3, none_);
  const auto refused = [&](broker::SegmentFacts facts, const std::string& given) {
    EXPECT_NE(third.adopt(facts, given), "");
    EXPECT_EQ(third.record(facts.id, 0), nullptr);
  };
  broker::SegmentFacts facts = create.facts;
  refused(facts, "holdfast.other.session.0123456789abcdef");
  refused(facts, name + "/../x");
  refused(facts, "");
  facts.bytes = 1 << 20;
  refused(facts, name);
  facts = create.facts;
  ++facts.id;
  refused(facts, name);
  facts = create.facts;
  facts.kind = shm::SegmentKind::kBells;
  refused(facts, name);
  facts = create.facts;
  facts.sealed = true;
  refused(facts, name);
  EXPECT_EQ(third.adopt(create.facts, name), "");
  third.own();
}

// A copy of a sealed segment's descriptor, as the store passes it to the next broker.
FdStore store_of(broker::SegmentId id, Descriptor fd) {
  FdStore::Found found;
  found.emplace(id, std::move(fd));
  return {0, std::move(found)};
}

TEST_F(SegmentFiles, SealedOnesAreAdoptedFromTheStore) {
  const std::string instance = "segments-sealed-" + std::to_string(::getpid());
  for (const auto kind : {shm::SegmentKind::kLane, shm::SegmentKind::kSession, shm::SegmentKind::kBells}) {
    const broker::CreateSegment create = plan(kind, 16384, 1 << 20, true);
    Segments first(instance, 1, none_);
    ASSERT_FALSE(first.run(create).failure);
    if (kind == shm::SegmentKind::kLane) {
      ASSERT_FALSE(first.run(broker::SealSegment{1, create.facts.id}).failure);
    }
    FdStore store = store_of(create.facts.id, first.open({create.facts.id, true, 0}));
    Segments second(instance, 2, store);
    EXPECT_EQ(second.adopt(create.facts, ""), "");
    EXPECT_NE(second.lane(create.facts.id), nullptr);
    EXPECT_FALSE(second.run(broker::GrowSegment{1, create.facts.id, 65536}).failure);
    if (kind != shm::SegmentKind::kLane) continue;
    // Nobody can write its header any more. What an earlier broker had begun is done.
    second.run(broker::EndLane{create.facts.id, shm::LaneState::kAborted});
    EXPECT_EQ(second.lane(create.facts.id)->state, static_cast<std::uint64_t>(shm::LaneState::kOpen));
    EXPECT_FALSE(second.run(broker::SealSegment{1, create.facts.id}).failure);
    EXPECT_NE(second.adopt(create.facts, ""), "") << "each once";
  }
}

// As a client gives it back. Two rows never get one file.
TEST_F(SegmentFiles, SealedOnesAreAdoptedFromTheirClients) {
  const std::string instance = "segments-given-" + std::to_string(::getpid());
  const broker::CreateSegment lane = plan(shm::SegmentKind::kLane, 16384, 1 << 20, true);
  Segments first(instance, 1, none_);
  ASSERT_FALSE(first.run(lane).failure);
  const auto copy = [&] { return first.open({lane.facts.id, true, 0}); };
  EXPECT_EQ(Segments::sealed_segment(copy().get()), lane.facts.id);
  const Descriptor other(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(Segments::sealed_segment(other.get()), 0U);
  Segments second(instance, 2, none_);
  EXPECT_EQ(second.adopt(lane.facts, "", copy()), "");
  auto* header = const_cast<shm::LaneHeader*>(second.lane(lane.facts.id));
  broker::SegmentFacts twin = lane.facts;
  header->segment.segment_id = ++twin.id;
  EXPECT_NE(second.adopt(twin, "", copy()), "") << "its publisher can write its header";
}

TEST_F(SegmentFiles, WhatTheStoreHasIsLookedAt) {
  const std::string instance = "segments-looked-" + std::to_string(::getpid());
  const broker::CreateSegment lane = plan(shm::SegmentKind::kLane, 16384, 1 << 20, true);
  const broker::CreateSegment session = plan(shm::SegmentKind::kSession, 16384, 1 << 20, true);
  Segments first(instance, 1, none_);
  ASSERT_FALSE(first.run(lane).failure);
  ASSERT_FALSE(first.run(session).failure);
  const auto refused = [&](broker::SegmentFacts facts, Descriptor fd) {
    FdStore store = store_of(facts.id, std::move(fd));
    Segments second(instance, 2, store);
    EXPECT_NE(second.adopt(facts, ""), "");
    EXPECT_EQ(second.lane(facts.id), nullptr);
  };
  broker::SegmentFacts facts = session.facts;
  facts.bytes = 1 << 20;
  refused(facts, first.open({session.facts.id, true, 0}));
  refused(session.facts, first.open({lane.facts.id, true, 0}));
  refused(session.facts, {});
  refused(session.facts, first.open({session.facts.id, false, 0}));
  // Sealed by somebody else, or not at all.
  const Descriptor mine = first.open({lane.facts.id, true, 0});
  ASSERT_EQ(::fcntl(mine.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  refused(lane.facts, first.open({lane.facts.id, true, 0}));
  refused(lane.facts, Descriptor(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  refused(lane.facts, Descriptor(::open("/dev/null", O_RDWR | O_CLOEXEC)));
}

// From its first moment: the broker has its header mapped.
TEST_F(SegmentFiles, SealedLanesCannotBeCutShortBeforeTheyAreMapped) {
  const broker::SegmentId id = make(shm::SegmentKind::kLane, 16384, 1 << 20, true);
  const Descriptor fd = segments_.open({id, true, 0});
  EXPECT_EQ(::ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
}

TEST_F(SegmentFiles, LanesEndOnce) {
  const broker::SegmentId id = make(shm::SegmentKind::kLane, 8192, 8192);
  segments_.run(broker::EndLane{id, shm::LaneState::kFinished});
  segments_.run(broker::EndLane{id, shm::LaneState::kAborted});
  EXPECT_EQ(segments_.lane(id)->state, static_cast<std::uint64_t>(shm::LaneState::kFinished));
}

TEST_F(SegmentFiles, CountersOutliveTheirLanesAndRecords) {
  const broker::SegmentId lane = make(shm::SegmentKind::kLane, 8192, 8192);
  const_cast<shm::LaneHeader*>(segments_.lane(lane))->head = 5;
  const_cast<shm::LaneHeader*>(segments_.lane(lane))->payload_bytes = 500;
  segments_.run(broker::RemoveSegment{lane});
  const broker::SegmentId records = make(shm::SegmentKind::kSession, 8192, 1 << 20);
  auto* record = const_cast<shm::ReaderRecord*>(segments_.record(records, 4096));
  record->missed = 7;
  record->pins[3] = 1;
  record->cursor = 9;
  EXPECT_EQ(segments_.run(broker::ReadCursor{1, records, 4096}).value, 9U);
  segments_.run(broker::ResetRecord{records, 4096, 64, shm::kCursorNone});
  EXPECT_EQ(record->missed, 0U);
  EXPECT_EQ(record->pins[3], 0);
  EXPECT_EQ(record->cursor, shm::kCursorNone);
  EXPECT_EQ(segments_.totals().samples, 5U);
  EXPECT_EQ(segments_.totals().payload_bytes, 500U);
  EXPECT_EQ(segments_.totals().missed, 7U);
}

TEST_F(SegmentFiles, RosterBlocksAreWritten) {
  const broker::SegmentId id = make(shm::SegmentKind::kRoster, 16384, 1 << 20);
  const Descriptor fd = segments_.open({id, false, 0});
  const void* mapped = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const auto& roster = *static_cast<const shm::RosterHeader*>(mapped);
  EXPECT_EQ(roster.valid_bytes, 16384U);
  const shm::RosterBlock* block = shm::roster_block<shm::NativeAtomics>(roster, 256);
  ASSERT_NE(block, nullptr);
  segments_.run(broker::StoreEntry{256, 11, 42});
  segments_.run(broker::StoreSize{256, 8192});
  segments_.run(broker::StoreFlags{256, 1});
  segments_.run(broker::StoreNext{256, 384});
  segments_.run(broker::BumpChanges{256});
  EXPECT_EQ(block->entries[11], 42U);
  EXPECT_EQ(block->size, 8192U);
  EXPECT_EQ(block->flags, 1U);
  EXPECT_EQ(block->next, 384U);
  EXPECT_EQ(block->changes, 1U);
  segments_.run(broker::ClearBlock{256});
  EXPECT_EQ(block->entries[11], 0U);
  EXPECT_EQ(block->size + block->flags + block->next, 0U);
  EXPECT_EQ(block->changes, 1U) << "a counter never goes back";
  EXPECT_FALSE(segments_.run(broker::GrowSegment{1, id, 65536}).failure);
  EXPECT_EQ(roster.valid_bytes, 65536U);
  ::munmap(const_cast<void*>(mapped), 1 << 20);
}

TEST_F(SegmentFiles, ArmedBellsAreRung) {
  const broker::SegmentId id = make(shm::SegmentKind::kBells, 16384, 1 << 20);
  const Descriptor fd = segments_.open({id, true, 0});
  void* mapped = ::mmap(nullptr, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto& bells = *static_cast<shm::BellSegment*>(mapped);
  bells.bells[1].armed = 17;
  ASSERT_FALSE(segments_.run(broker::OpenEvent{1, id, 2, 900}).failure);
  EXPECT_EQ(bells.bells[2].event, 900U);
  bells.bells[2].armed = 18;
  segments_.run(broker::RingBells{{id}});
  EXPECT_EQ(bells.bells[1].armed, 0U);
  EXPECT_EQ(bells.bells[2].armed, 0U);
  EXPECT_EQ(::sem_trywait(&bells.bells[1].semaphore), 0);
  EXPECT_EQ(::sem_trywait(&bells.bells[0].semaphore), -1) << "nobody waits there";
  const Descriptor event = segments_.open({0, true, 900});
  ASSERT_TRUE(event);
  std::uint64_t tokens = 0;
  EXPECT_EQ(::read(event.get(), &tokens, sizeof tokens), static_cast<ssize_t>(sizeof tokens));
  EXPECT_EQ(tokens, 1U);
  EXPECT_FALSE(segments_.open({0, true, 901}));
  segments_.run(broker::RemoveSegment{id});
  EXPECT_FALSE(segments_.open({0, true, 900}));
  ::munmap(mapped, 16384);
}

TEST_F(SegmentFiles, BoardsAreClearedBeforeTheyAreGiven) {
  const broker::SegmentId id = make(shm::SegmentKind::kBells, 16384, 1 << 20);
  const Descriptor fd = segments_.open({id, true, 0});
  void* mapped = ::mmap(nullptr, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto* board = reinterpret_cast<shm::Board*>(static_cast<std::uint8_t*>(mapped) + shm::kBoardsOffset);
  board->sleepers = 99;
  segments_.run(broker::ClearBoard{id, shm::kBoardsOffset});
  EXPECT_EQ(board->sleepers, 0U);
  ::munmap(mapped, 16384);
}

}  // namespace
}  // namespace holdfast::daemon
