// SPDX-License-Identifier: MIT
//
// What lists say of shared memory that clients write: right where it is right, bounded where it is not.
#include "daemon/reporter.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/broker/limits.hpp"
#include "proto/control/message.hpp"

namespace holdfast::daemon {
namespace {

using nlohmann::json;

class Reports : public testing::Test {
 protected:
  Reports() : segments_("reports-" + std::to_string(::getpid()), 1, none_), reporter_(segments_) {
    segments_.own();
    broker::CreateSegment lane;
    lane.facts.id = 1;
    lane.facts.bytes = lane.facts.reserve_bytes = 8192;
    lane.ring = 64;
    lane.chunks_max = 64;
    EXPECT_FALSE(segments_.run(lane).failure);
    broker::CreateSegment records;
    records.facts.id = 2;
    records.facts.kind = shm::SegmentKind::kSession;
    records.facts.bytes = 8192;
    records.facts.reserve_bytes = 1 << 20;
    EXPECT_FALSE(segments_.run(records).failure);
    segments_.run(broker::ResetRecord{2, 4096, 64, shm::kCursorNone});
    const Descriptor fd = segments_.open({1, true, 0});
    memory_ = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  }
  ~Reports() override { ::munmap(memory_, 8192); }

  shm::LaneHeader& lane() { return *static_cast<shm::LaneHeader*>(memory_); }
  shm::Slot& slot(std::uint64_t index) {
    return reinterpret_cast<shm::Slot*>(static_cast<std::uint8_t*>(memory_) + shm::kRingOffset)[index];
  }
  shm::ReaderRecord& record() { return *const_cast<shm::ReaderRecord*>(segments_.record(2, 4096)); }

  static broker::TopicReport topic() {
    broker::TopicReport report{};
    report.facts.name = "t";
    report.publishers = report.subscribers = report.lanes_count = report.subscriptions_count = 1;
    broker::LaneReport lane{};
    lane.facts.id = 5;
    lane.facts.segment = 1;
    report.lanes.push_back(lane);
    report.subscriptions.push_back({7, 3, 99, "reader", "lossless", {{5, 1, 2, 4096, 64, 64}}, 1});
    return report;
  }

  json reader(broker::TimeMs now) {
    const broker::Report report = broker::Topics{{topic()}, false};
    return reporter_.result(report, about_, now)["topics"][0]["subscriptions"][0]["lanes"][0];
  }

  FdStore none_;
  Segments segments_;
  Reporter reporter_;
  About about_;
  void* memory_;
};

TEST_F(Reports, AReaderBeforeItsFirstTake) {
  const json shown = reader(100);
  EXPECT_TRUE(shown["cursor"].is_null() && shown["lag"].is_null() && shown["oldest_pin_ms"].is_null());
  EXPECT_EQ(shown["pins"], 0);
  EXPECT_EQ(shown["taken"], 0);
}

TEST_F(Reports, LagTakenAndMissed) {
  lane().head = 100;
  record().joined = 10;
  record().cursor = 70;
  record().missed = 5;
  const json shown = reader(100);
  EXPECT_EQ(shown["cursor"], 70);
  EXPECT_EQ(shown["lag"], 30);
  EXPECT_EQ(shown["taken"], 55);
  EXPECT_EQ(shown["missed"], 5);
}

TEST_F(Reports, PinsAgeFromWhenTheyWereFirstSeen) {
  lane().head = 2;
  slot(0).size = 1000;
  slot(0).words[0] = 8;
  slot(1).size = 500;
  slot(1).words[0] = 9;
  record().pins[8] = 1;
  json shown = reader(100);
  EXPECT_EQ(shown["pins"], 1);
  EXPECT_EQ(shown["pinned_bytes"], 1000);
  EXPECT_EQ(shown["oldest_pin_ms"], 0);
  record().pins[9] = 1;
  shown = reader(350);
  EXPECT_EQ(shown["pins"], 2);
  EXPECT_EQ(shown["pinned_bytes"], 1500);
  EXPECT_EQ(shown["oldest_pin_ms"], 250);
  record().pins[8] = 0;
  EXPECT_EQ(reader(400)["oldest_pin_ms"], 50);
  record().pins[9] = 0;
  EXPECT_TRUE(reader(500)["oldest_pin_ms"].is_null());
  record().pins[9] = 1;
  EXPECT_EQ(reader(600)["oldest_pin_ms"], 0);
  reporter_.forget(2, 4096);
  EXPECT_EQ(reader(700)["oldest_pin_ms"], 0);
  reporter_.forget(2);
  EXPECT_EQ(reader(800)["oldest_pin_ms"], 0);
}

TEST_F(Reports, NonsenseStaysBounded) {
  lane().head = ~std::uint64_t{0};
  record().cursor = 3;
  record().joined = 99;
  record().missed = ~std::uint64_t{0};
  for (std::uint32_t i = 0; i < 64; ++i) {
    slot(i).size = ~std::uint64_t{0} & ~shm::kFlagInline;
    slot(i).words[0] = i % 2 == 0 ? ~std::uint64_t{0} : i;
    record().pins[i] = 0xff;
  }
  const json shown = reader(100);
  EXPECT_EQ(shown["taken"], 0);
  EXPECT_EQ(shown["pins"], 64);
  EXPECT_GT(shown["pinned_bytes"].get<std::uint64_t>(), 0U);
}

TEST_F(Reports, WhatIsGoneIsShownEmpty) {
  segments_.run(broker::RemoveSegment{1});
  const broker::Report report = broker::Topics{{topic()}, false};
  const json shown = reporter_.result(report, about_, 1)["topics"][0];
  EXPECT_EQ(shown["lanes"][0]["head"], 0);
  EXPECT_TRUE(shown["subscriptions"][0]["lanes"][0]["cursor"].is_null());
}

TEST_F(Reports, StatsSumUpWhatIsAndWhatWas) {
  lane().head = 10;
  lane().payload_bytes = 1000;
  record().missed = 3;
  broker::Stats stats{};
  stats.lane_segments = {1, 99};
  stats.readers = {{2, 4096}, {99, 4096}};
  const broker::Report report = stats;
  json shown = reporter_.result(report, about_, 1);
  EXPECT_EQ(shown["samples"], 10);
  EXPECT_EQ(shown["payload_bytes"], 1000);
  EXPECT_EQ(shown["missed"], 3);
  segments_.run(broker::ResetRecord{2, 4096, 64, shm::kCursorNone});
  segments_.run(broker::RemoveSegment{1});
  shown = reporter_.result(report, about_, 1);
  EXPECT_EQ(shown["samples"], 10);
  EXPECT_EQ(shown["missed"], 3);
}

TEST_F(Reports, AFullTopicFitsALine) {
  broker::TopicReport full = topic();
  const std::string name(64, '\x01');  // six bytes each in JSON
  full.facts.type = {std::string(broker::kTypeNameBytesMax, '\x01'), 8, 8, "00000000000000ff"};
  for (int i = 0; i < 64; ++i) {
    full.lanes.push_back(full.lanes[0]);
    full.lanes.back().facts.process = name;
    full.subscriptions.push_back(full.subscriptions[0]);
    full.subscriptions.back().process = name;
    full.subscriptions.back().readers.resize(64, full.subscriptions[0].readers[0]);
  }
  const broker::Report report = broker::Topics{{full, full, full}, true};
  const json shown = reporter_.result(report, about_, 1);
  EXPECT_LE(control::result_line(1, shown).size(), control::kLineBytesMax);
  EXPECT_EQ(shown["topics"].size(), 1U);
  EXPECT_EQ(shown["next"], "t");
}

}  // namespace
}  // namespace holdfast::daemon
