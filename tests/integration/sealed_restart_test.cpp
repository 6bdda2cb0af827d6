// SPDX-License-Identifier: MIT
//
// Restarts of a broker whose segments are sealed: they have no name, so the next one gets them from whoever keeps
// descriptors for it, as systemd does for a service.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/other_user.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

constexpr std::size_t kStore = 8192;
constexpr uid_t kReaderUser = kOtherUser + 1;
constexpr std::uint64_t kMiB = 1 << 20;
const nlohmann::json kSealed = {{"backing", HF_BACKING_SEALED}};

void restart(PrivateBroker& broker) {
  broker.kill();
  broker.start();
}

PublisherOptions sealed() {
  PublisherOptions options;
  options.backing = HF_BACKING_SEALED;
  return options;
}

bool connected(const PrivateBroker& broker, std::uint32_t id) {
  const nlohmann::json listed = broker.request("sessions").at("sessions");
  return std::any_of(listed.begin(), listed.end(), [&](const nlohmann::json& session) {
    return session.at("session") == id && session.at("connected");
  });
}

// Descriptors of this process that lead to sealed memory.
int open_memfds() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    count += target.rfind("/memfd:holdfast.", 0) == 0 ? 1 : 0;
  }
  return count;
}

void expect_whole(const Seen& seen, std::uint64_t samples) {
  EXPECT_EQ(seen.samples, samples);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.corrupt, 0u);
}

TEST(SealedRestart, LanesComeBackFromTheStore) {
  PrivateBroker broker("", false, kStore);
  RemoteClient writer(broker, "writer");
  RemoteClient reader(broker, "reader");
  ASSERT_EQ(writer.open_publisher("kept", kSealed).at("code"), HF_OK);
  ASSERT_EQ(reader.subscribe("kept").at("code"), HF_OK);
  reader.begin_taking_until_ended(1);
  writer.publish(50, 20'000, 1);
  for (std::uint32_t round = 0; round < 5; ++round) {
    broker.kill();
    writer.publish(20, 20'000, 100 + 100 * round);
    broker.start();
    EXPECT_EQ(broker.stats().at("lanes"), 1);
    // The lane grows, and new readers are shown it.
    writer.publish(5, kMiB + round * kMiB, 150 + 100 * round);
    RemoteClient late(broker, "late");
    ASSERT_EQ(late.subscribe("kept", true, HF_START_NEXT).at("code"), HF_OK);
    writer.publish(10, 20'000, 170 + 100 * round);
    expect_whole(late.take(10), 10);
  }
  writer.close_publisher();
  const Seen seen = reader.finish_taking();
  expect_whole(seen, 50 + 5 * 35);
  EXPECT_EQ(seen.finished, 1u);
}

// The broker that sees the publisher die cannot write the lane: its readers find the end on the roster.
TEST(SealedRestart, DeathsAreSeenBySleepersAndByWhoOnlyLooks) {
  PrivateBroker broker("", false, kStore);
  Client client = broker.client("looks");
  Subscriber looks = client.subscriber_or_throw("dying");
  RemoteClient sleeps(broker, "sleeps");
  ASSERT_EQ(sleeps.subscribe("dying").at("code"), HF_OK);
  std::optional<RemoteClient> writer(std::in_place, broker, "writer");
  ASSERT_EQ(writer->open_publisher("dying", kSealed).at("code"), HF_OK);
  sleeps.begin_taking_until_ended(1);
  writer->publish(3, 20'000);
  restart(broker);
  writer->publish(3, 20'000, 4);
  writer->kill();
  const Seen seen = sleeps.finish_taking();
  expect_whole(seen, 6);
  EXPECT_EQ(seen.aborted, 1u);
  View view;
  std::uint64_t samples = 0;
  std::optional<Status> end;
  ASSERT_TRUE(eventually([&] {
    const Status status = looks.take(view).or_throw();
    samples += status == Status::kOk ? 1 : 0;
    if (status == Status::kAborted || status == Status::kFinished) end = status;
    return end.has_value();
  }));
  EXPECT_EQ(samples, 6u);
  EXPECT_EQ(end, Status::kAborted);
  // Once more on what lingers: it is the same for who comes late, to this broker and to the next.
  for (int i = 0; i < 2; ++i) {
    RemoteClient late(broker, "late");
    ASSERT_EQ(late.subscribe("dying", true, HF_START_OLDEST).at("code"), HF_OK);
    EXPECT_EQ(late.take_until_ended(1).aborted, 1u);
    restart(broker);
  }
}

// It dies while no broker looks: the next one asks its lock, on memory that has no name.
TEST(SealedRestart, DeathsInBetweenAreSeen) {
  if (const std::string reason = no_other_user(); !reason.empty()) GTEST_SKIP() << reason;
  PrivateBroker broker(kShared, false, kStore);
  RemoteClient reader(broker, "reader", false, kReaderUser);
  ASSERT_EQ(reader.subscribe("gone").at("code"), HF_OK);
  RemoteClient writer(broker, "writer", false, kOtherUser);
  ASSERT_EQ(writer.open_publisher("gone").at("code"), HF_OK);
  writer.publish(3, 20'000);
  broker.kill();
  writer.kill();
  writer.process().wait();
  broker.start();
  const Seen seen = reader.take_until_ended(1);
  expect_whole(seen, 3);
  EXPECT_EQ(seen.aborted, 1u);
  EXPECT_EQ(broker.stats().at("sessions"), 1);
}

void go_on_across_users(PrivateBroker& broker) {
  RemoteClient writer(broker, "writer", false, kOtherUser);
  RemoteClient reader(broker, "reader", false, kReaderUser);
  ASSERT_EQ(writer.open_publisher("across").at("code"), HF_OK);
  ASSERT_EQ(reader.subscribe("across").at("code"), HF_OK);
  ASSERT_EQ(broker.topic("across").at("lanes").at(0).at("backing"), "sealed");
  reader.begin_taking_until_ended(2);
  std::uint64_t samples = 4 * 60 + 10;
  for (std::uint32_t round = 0; round < 4; ++round) {
    writer.publish(20, 20'000, 1 + 1000 * round);
    broker.kill();
    writer.publish(20, 20'000, 101 + 1000 * round);
    broker.start();
    writer.publish(20, 20'000, 201 + 1000 * round);
    // An idle publisher needs no broker, and looks for none.
    EXPECT_TRUE(eventually([&] {
      writer.publish(1, 20'000, 301 + 1000 * round);
      ++samples;
      return connected(broker, writer.session()) && connected(broker, reader.session());
    }));
  }
  // Who comes later finds everything that is needed to read, and to be rung.
  RemoteClient second(broker, "second", false, kOtherUser);
  ASSERT_EQ(second.open_publisher("across").at("code"), HF_OK);
  second.publish(10, 50'000, 9000);
  second.close_publisher();
  writer.close_publisher();
  const Seen seen = reader.finish_taking();
  expect_whole(seen, samples);
  EXPECT_EQ(seen.finished, 2u);
}

TEST(SealedRestart, SessionsOfOtherUsersGoOn) {
  if (const std::string reason = no_other_user(); !reason.empty()) GTEST_SKIP() << reason;
  PrivateBroker broker(kShared, false, kStore);
  go_on_across_users(broker);
}

TEST(SealedRestart, AHandOverKeepsThem) {
  PrivateBroker broker("", false, kStore);
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("handed", sealed());
  RemoteClient reader(broker, "reader");
  ASSERT_EQ(reader.subscribe("handed").at("code"), HF_OK);
  for (std::uint32_t i = 0; i < 3; ++i) {
    publish_sample(publisher, 20'000, i, kSoon);
    EXPECT_EQ(broker.hand_over(), 0);
    broker.start();
    expect_whole(reader.take(1), 1);
  }
}

// Nobody keeps anything for the broker: clients keep what is theirs, and give it back.
TEST(SealedRestart, WithoutAStoreClientsGiveTheirMemoryBack) {
  PrivateBroker broker;
  RemoteClient writer(broker, "writer");
  RemoteClient reader(broker, "reader");
  ASSERT_EQ(writer.open_publisher("given", kSealed).at("code"), HF_OK);
  ASSERT_EQ(reader.subscribe("given").at("code"), HF_OK);
  reader.begin_taking_until_ended(1);
  writer.publish(50, 20'000, 1);
  std::uint64_t samples = 50 + 4 * 35;
  for (std::uint32_t round = 0; round < 4; ++round) {
    broker.kill();
    writer.publish(20, 20'000, 100 + 100 * round);
    broker.start();
    writer.publish(5, kMiB + round * kMiB, 150 + 100 * round);
    EXPECT_TRUE(eventually([&] {
      writer.publish(1, 20'000, 160 + 100 * round);
      ++samples;
      return connected(broker, writer.session());
    }));
    RemoteClient late(broker, "late");
    ASSERT_EQ(late.subscribe("given", true, HF_START_NEXT).at("code"), HF_OK);
    writer.publish(10, 20'000, 170 + 100 * round);
    expect_whole(late.take(10), 10);
  }
  EXPECT_EQ(broker.topic("given").at("lanes").at(0).at("state"), "open");
  writer.close_publisher();
  const Seen seen = reader.finish_taking();
  expect_whole(seen, samples);
  EXPECT_EQ(seen.finished, 1u);
}

// Only the publisher can give the memory back, and nobody reads now who would make it look: its next sample does.
TEST(SealedRestart, WithoutAStoreOneSampleIsEnough) {
  PrivateBroker broker;
  RemoteClient writer(broker, "writer");
  ASSERT_EQ(writer.open_publisher("slow", kSealed).at("code"), HF_OK);
  writer.publish(1, 20);
  for (const std::uint64_t bytes : {20U, 32U, 20'000U}) {
    restart(broker);
    ASSERT_FALSE(connected(broker, writer.session()));
    // The adoption has bumped what every publish looks at; the answers of the broker may take more than one of them.
    std::uint64_t published = 0;
    ASSERT_TRUE(eventually([&] {
      writer.publish(1, bytes);
      ++published;
      return connected(broker, writer.session());
    }));
    EXPECT_LT(published, 8U) << "not a ring's worth";
    RemoteClient late(broker, "late");
    ASSERT_EQ(late.subscribe("slow", true, HF_START_LATEST).at("code"), HF_OK);
    expect_whole(late.take(1), 1);
  }
}

TEST(SealedRestart, WithoutAStoreSessionsOfOtherUsersGoOn) {
  if (const std::string reason = no_other_user(); !reason.empty()) GTEST_SKIP() << reason;
  PrivateBroker broker(kShared);
  go_on_across_users(broker);
}

// The process that could give it back is gone: what is attached drains the lane, and learns that it was aborted.
TEST(SealedRestart, WithoutAStoreLanesOfTheDeadEndAsAborted) {
  PrivateBroker broker;
  RemoteClient reader(broker, "reader");
  RemoteClient writer(broker, "writer");
  ASSERT_EQ(reader.subscribe("dead").at("code"), HF_OK);
  ASSERT_EQ(writer.open_publisher("dead", kSealed).at("code"), HF_OK);
  writer.publish(6, 20'000);
  expect_whole(reader.take(1), 1);
  broker.kill();
  writer.kill();
  writer.process().wait();
  broker.start();
  const Seen seen = reader.take_until_ended(1);
  expect_whole(seen, 5);
  EXPECT_EQ(seen.aborted, 1u);
  reader.ping();
  EXPECT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; })) << "nobody can be shown it any more";
}

// A forked child closes what its parent keeps, and nothing of it keeps the memory.
TEST(SealedRestart, KeptDescriptorsAreNotInherited) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("forked", sealed());
  ASSERT_EQ(open_memfds(), 1);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(open_memfds());
  EXPECT_EQ(wait_for_exit(open_pidfd(child).get(), child), 0);
  publisher.close();
  EXPECT_EQ(open_memfds(), 0);
}

// What the store does not take is refused, with the limit, before systemd would drop it without a word.
TEST(SealedRestart, AFullStoreIsAnAnswer) {
  PrivateBroker broker("", false, 2);
  Client client = broker.client();
  Publisher first = client.publisher_or_throw("first", sealed());
  std::optional<Publisher> second(client.publisher_or_throw("second", sealed()));
  const auto third = client.publisher("third", sealed());
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, HF_E_BUSY);
  EXPECT_NE(std::string(third.error().sentence).find("FileDescriptorStoreMax"), std::string::npos)
      << third.error().sentence;
  restart(broker);
  ASSERT_TRUE(client.ping());
  EXPECT_EQ(broker.stats().at("lanes"), 2);
  EXPECT_FALSE(client.publisher("third", sealed())) << "what was adopted counts";
  EXPECT_TRUE(client.publisher("named"));
}

TEST(SealedRestart, WhatNoRowNamesGoesFromTheStore) {
  PrivateBroker broker("", false, kStore);
  {
    Client client = broker.client();
    Publisher publisher = client.publisher_or_throw("old", sealed());
    broker.keeper().settle();
    EXPECT_EQ(broker.keeper().names().size(), 1u);
    broker.kill();
    for (const char* part : {".db", ".db-wal", ".db-shm"})
      std::filesystem::remove(broker.directory() + "/" + broker.instance() + part);
  }
  broker.start();
  broker.keeper().settle();
  EXPECT_EQ(broker.keeper().names(), std::vector<std::string>());
  EXPECT_NE(broker.log().find("dropped 1 sealed segments"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::integration
