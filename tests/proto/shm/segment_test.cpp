// SPDX-License-Identifier: MIT
//
// Segment headers, the native policy, and the arithmetic of the layouts.
#include "proto/shm/segment.hpp"

#include <cerrno>
#include <cstddef>
#include <thread>

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "proto/shm/lane_layout.hpp"
#include "tests/proto/shm/hook_atomics.hpp"

namespace holdfast::shm {
namespace {

TEST(SegmentHeader, IsOkOnceItIsWritten) {
  SegmentHeader header{};
  EXPECT_EQ(check_header(header, SegmentKind::kLane, 9), HeaderCheck::kNotReady);
  write_header(header, SegmentKind::kLane, 8192, 9, 3);
  EXPECT_EQ(check_header(header, SegmentKind::kLane, 9), HeaderCheck::kOk);
  EXPECT_EQ(header.bytes, 8192u);
  EXPECT_EQ(header.epoch, 3u);
  EXPECT_EQ(header.generation, 1u);
}

TEST(SegmentHeader, OfAnotherKindIdMagicOrLayoutIsRefused) {
  SegmentHeader header{};
  write_header(header, SegmentKind::kLane, 8192, 9, 3);
  EXPECT_EQ(check_header(header, SegmentKind::kRoster, 9), HeaderCheck::kWrong);
  EXPECT_EQ(check_header(header, SegmentKind::kLane, 10), HeaderCheck::kWrong);
  header.layout_version = kLayoutVersion + 1;
  EXPECT_EQ(check_header(header, SegmentKind::kLane, 9), HeaderCheck::kVersion);
  header.magic ^= 1;
  EXPECT_EQ(check_header(header, SegmentKind::kLane, 9), HeaderCheck::kWrong);
}

TEST(SegmentHeader, GetsItsMagicLast) {
  SegmentHeader header{};
  HookAtomics::before = [&](At) {
    EXPECT_EQ(header.magic, 0u);
    EXPECT_EQ(header.epoch, 3u);
    EXPECT_EQ(header.segment_id, 9u);
    EXPECT_EQ(header.layout_version, kLayoutVersion);
  };
  write_header<HookAtomics>(header, SegmentKind::kBells, 8192, 9, 3);
  HookAtomics::before = nullptr;
  EXPECT_EQ(header.magic, kMagic);
}

TEST(NativePolicy, EveryOrderHasItsBuiltin) {
  EXPECT_EQ(builtin_order(Order::kRelaxed), __ATOMIC_RELAXED);
  EXPECT_EQ(builtin_order(Order::kAcquire), __ATOMIC_ACQUIRE);
  EXPECT_EQ(builtin_order(Order::kRelease), __ATOMIC_RELEASE);
  EXPECT_EQ(builtin_order(Order::kAcqRel), __ATOMIC_ACQ_REL);
  EXPECT_EQ(builtin_order(Order::kSeqCst), __ATOMIC_SEQ_CST);
  EXPECT_EQ(builtin_order(static_cast<Order>(99)), __ATOMIC_SEQ_CST);
}

TEST(NativePolicy, LoadsEightBytesInMemoryOrder) {
  alignas(8) const std::uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(NativeAtomics::load_bytes8<At::kReclaimPin>(bytes), 0x0807060504030201u);
}

TEST(NativePolicy, ExchangesAndComparesAsTheyAreNamed) {
  std::uint64_t word = 5;
  EXPECT_EQ(NativeAtomics::exchange<At::kRingBoard>(word, std::uint64_t{6}), 5u);
  EXPECT_EQ(NativeAtomics::fetch_or<At::kSleepBoard>(word, std::uint64_t{9}), 6u);
  EXPECT_EQ(word, 15u);
  EXPECT_FALSE(NativeAtomics::compare_exchange<At::kRingDisarm>(word, std::uint64_t{14}, std::uint64_t{1}));
  EXPECT_EQ(word, 15u);
  EXPECT_TRUE(NativeAtomics::compare_exchange<At::kRingDisarm>(word, std::uint64_t{15}, std::uint64_t{1}));
  EXPECT_EQ(word, 1u);
  NativeAtomics::store_full<At::kTakePin, At::kTakePinFence>(word, std::uint64_t{4});
  EXPECT_EQ(word, 4u);
  NativeAtomics::light_fence<At::kTakeModeBarrier>(true);
  NativeAtomics::step<At::kRingPost>();
}

TEST(NativePolicy, MembarrierCanBeRegisteredHere) {
  EXPECT_TRUE(register_membarrier());
  NativeAtomics::heavy_fence<At::kJoinFence>();
}

// Some system-call filters refuse membarrier, others only what is not MEMBARRIER_CMD_QUERY: a thread under each.
TEST(NativePolicy, MembarrierThatIsRefusedIsNoticed) {
  for (const int refused : {MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, MEMBARRIER_CMD_GLOBAL_EXPEDITED}) {
    bool filtered = false;
    bool registered = true;
    std::thread([&] {
      sock_filter program[] = {
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 3),
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(refused), 0, 1),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      };
      const sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
      filtered =
          ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
      registered = register_membarrier();
    }).join();
    if (!filtered) GTEST_SKIP() << "this kernel takes no system-call filter";
    EXPECT_FALSE(registered);
  }
}

TEST(Sites, HaveNamesThatDiffer) {
  for (std::size_t i = 0; i < kSiteCount; ++i)
    for (std::size_t j = 0; j < i; ++j) EXPECT_STRNE(kSites[i].name, kSites[j].name);
}

TEST(LaneLayout, StampsAndPositionsAreInverse) {
  for (const std::uint64_t position : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40, kPositionMax}) {
    EXPECT_EQ(position_of(stamp_of(position)), position);
    EXPECT_EQ(stamp_of(position) % 2, 0u);
    EXPECT_NE(stamp_of(position), 0u);
  }
}

TEST(LaneLayout, ChunksBeginOnAPageBehindTheRing) {
  for (std::uint32_t ring = kRingSlotsMin; ring <= kRingSlotsMax; ring *= 2) {
    EXPECT_TRUE(is_power_of_two(ring));
    EXPECT_EQ(chunks_offset(ring) % kPage, 0u);
    EXPECT_GE(chunks_offset(ring), kRingOffset + std::uint64_t{ring} * sizeof(Slot));
  }
  EXPECT_EQ(chunks_offset(kRingSlotsDefault), 2 * kPage);
  EXPECT_FALSE(is_power_of_two(0));
  EXPECT_FALSE(is_power_of_two(12));
}

TEST(LaneLayout, AttributesFollowThePayloadAtEightBytes) {
  EXPECT_EQ(attributes_offset(0), 0u);
  EXPECT_EQ(attributes_offset(1), 8u);
  EXPECT_EQ(attributes_offset(8), 8u);
  EXPECT_EQ(attributes_offset(kPayloadBytesMax), std::uint64_t{1} << 48);
}

}  // namespace
}  // namespace holdfast::shm
