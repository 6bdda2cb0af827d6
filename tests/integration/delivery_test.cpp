// SPDX-License-Identifier: MIT
//
// What a publisher wrote is what subscribers in other processes read: payloads of every size, attributes, tags, batches.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <xxhash.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

TEST(Delivery, EverySizeReachesEveryProcess) {
  const std::vector<std::uint64_t> sizes = {0,     1,        7,    31,           32,        33,
                                            64,    100,      4095, 4096,         4097,      65535,
                                            65537, kMiB - 1, kMiB, 3 * kMiB + 5, 16 * kMiB, 32 * kMiB + 1};
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("sizes");
  std::vector<std::unique_ptr<RemoteClient>> readers;
  for (int i = 0; i < 3; ++i) {
    readers.push_back(std::make_unique<RemoteClient>(broker));
    ASSERT_EQ(readers.back()->subscribe("sizes", true).at("code"), HF_OK);
    readers.back()->begin_taking_until_ended();
  }
  ASSERT_EQ(publisher.wait_for_subscribers(3, kSoon).or_throw(), Status::kOk);
  std::uint64_t total = 0;
  std::uint32_t seed = 0;
  for (int round = 0; round < 2; ++round) {
    for (const std::uint64_t bytes : sizes) {
      ASSERT_EQ(publish_sample(publisher, bytes, ++seed, kSoon), Status::kOk) << bytes;
      total += bytes;
    }
  }
  ASSERT_EQ(publisher.drain(kSoon).or_throw(), Status::kOk);
  publisher.close();
  for (auto& reader : readers) {
    const Seen seen = reader->finish_taking();
    EXPECT_EQ(seen.samples, 2 * sizes.size());
    EXPECT_EQ(seen.bytes, total);
    EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.corrupt, 0u);
    EXPECT_EQ(seen.finished, 1u);
  }
}

TEST(Delivery, PayloadIsTheSameMemoryAndAligned) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("aligned");
  Subscriber subscriber = client.subscriber_or_throw("aligned");
  for (const std::uint64_t bytes : {33u, 64u, 100u, 4000u, 4096u, 5000u, 100'000u}) {
    Loan loan = publisher.loan_or_throw(bytes);
    const auto address = reinterpret_cast<std::uintptr_t>(loan.data());
    EXPECT_EQ(address % (bytes >= 4096 ? 4096 : 64), 0u) << bytes;
    fill_payload(loan.data(), bytes, 1);
    void* written = loan.data();
    loan.publish_or_throw();
    View view;
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    // No copy: what is stored through one mapping is seen through the other.
    static_cast<volatile unsigned char*>(written)[bytes - 1] = 0xa5;
    EXPECT_EQ(static_cast<const volatile unsigned char*>(view.data())[bytes - 1], 0xa5);
    EXPECT_NE(written, view.data());
    EXPECT_EQ(mapping_of(view.data()).access, "r--s");
  }
}

TEST(Delivery, SmallSamplesRideInTheRing) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("small");
  Subscriber subscriber = client.subscriber_or_throw("small");
  const std::uint64_t before = broker.stats().at("segment_bytes");
  for (std::uint64_t bytes = 0; bytes <= 32; ++bytes) {
    ASSERT_EQ(publish_sample(publisher, bytes, 7), Status::kOk);
    View view;
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    EXPECT_EQ(view.bytes(), bytes);
    EXPECT_EQ(view.type(), 7u);
    EXPECT_EQ(view.c().holder, nullptr);
    EXPECT_TRUE(sample_is_whole(view));
  }
  EXPECT_EQ(broker.stats().at("segment_bytes"), before) << "an inline sample takes no chunk";
}

TEST(Delivery, AttributesOfEveryKindArriveWithTheirTypes) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("attributes");
  Subscriber subscriber = client.subscriber_or_throw("attributes");
  Attributes attributes;
  attributes.add("yes", true).add("count", std::int64_t{-5}).add("ratio", 0.25).add("name", "präsent");
  attributes.add_timestamp("at", 1'700'000'000'000'000'001).add_bytes("raw", "\0\1\2", 3);
  attributes.add("numbers", std::vector<std::int64_t>{1, -2, 3}).add("words", std::vector<std::string>{"a", "", "bc"});
  attributes.add("floats", std::vector<double>{1.5}).add("flags", std::vector<bool>{true, false});
  for (const std::uint64_t bytes : {0u, 5u, 4096u, 100'001u}) {
    Loan loan = publisher.loan_or_throw(bytes, attributes);
    fill_payload(loan.data(), bytes, 3);
    loan.set_type(3);
    loan.publish_or_throw();
    View view;
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    EXPECT_TRUE(sample_is_whole(view));
    const AttributesView got = view.attributes();
    EXPECT_EQ(got.get_bool("yes"), true);
    EXPECT_EQ(got.get_int("yes"), std::nullopt) << "true is not 1";
    EXPECT_EQ(got.get_int("count"), -5);
    EXPECT_EQ(got.get_float("ratio"), 0.25);
    EXPECT_EQ(got.get_string("name"), "präsent");
    EXPECT_EQ(got.get_timestamp("at"), 1'700'000'000'000'000'001);
    std::vector<std::pair<std::string, int>> kinds;
    EXPECT_TRUE(
        got.for_each([&](const hf_attribute& a) { kinds.emplace_back(std::string(a.key, a.key_bytes), a.kind); }));
    const std::vector<std::pair<std::string, int>> expected = {
        {"yes", HF_BOOL},          {"count", HF_INT},      {"ratio", HF_FLOAT},      {"name", HF_STRING},
        {"at", HF_TIMESTAMP},      {"raw", HF_BYTES},      {"numbers", HF_INT_LIST}, {"words", HF_STRING_LIST},
        {"floats", HF_FLOAT_LIST}, {"flags", HF_BOOL_LIST}};
    EXPECT_EQ(kinds, expected);
  }
}

TEST(Delivery, PublishWithCarriesPayloadAttributesTagAndChecksum) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("checksum");
  Subscriber subscriber = client.subscriber_or_throw("checksum");
  std::vector<unsigned char> payload(3 * kMiB + 17);
  fill_payload(payload.data(), payload.size(), 99);
  Attributes attributes;
  attributes.add("xxh3", static_cast<std::int64_t>(XXH3_64bits(payload.data(), payload.size())));
  ASSERT_EQ(
      hf_publish_with(publisher.c(), payload.data(), payload.size(), attributes.data(), attributes.bytes(), 42, -1),
      HF_OK);
  View view;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_EQ(view.type(), 42u);
  EXPECT_EQ(view.attributes().get_int("xxh3"), static_cast<std::int64_t>(XXH3_64bits(view.data(), view.bytes())));
}

TEST(Delivery, BatchesArriveWholeAndInOrder) {
  PrivateBroker broker;
  Client client = broker.client();
  PublisherOptions options;
  options.ring_slots = 1024;
  Publisher publisher = client.publisher_or_throw("batch", options);
  SubscriberOptions lossless;
  lossless.lossless = true;
  Subscriber subscriber = client.subscriber_or_throw("batch", lossless);
  std::vector<std::uint64_t> values(700);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i * i;
  std::size_t published = 0;
  ASSERT_EQ(publisher.publish_batch(values.data(), values.size(), kSoon, &published).or_throw(), Status::kOk);
  EXPECT_EQ(published, values.size());
  std::vector<hf_view> views(100);
  std::size_t next = 0;
  while (next < values.size()) {
    std::size_t taken = 0;
    ASSERT_EQ(hf_take_batch(subscriber.c(), views.data(), views.size(), &taken), HF_OK);
    for (std::size_t i = 0; i < taken; ++i, ++next) {
      std::uint64_t value = 0;
      std::memcpy(&value, hf_view_data(&views[i]), sizeof value);
      ASSERT_EQ(value, next * next);
      EXPECT_EQ(views[i].position, next);
    }
    hf_view_release_batch(views.data(), taken);
  }
  std::size_t taken = 7;
  EXPECT_EQ(hf_take_batch(subscriber.c(), views.data(), views.size(), &taken), HF_EMPTY);
  EXPECT_EQ(taken, 0u);
}

TEST(Delivery, LoansOfMixedSizesArePublishedTogether) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("loans");
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("loans").at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  reader.begin_taking_until_ended();
  for (int round = 0; round < 20; ++round) {
    hf_loan loans[5];
    const std::uint64_t sizes[5] = {8, 4096, 0, 100'000, 33};
    for (std::size_t i = 0; i < 5; ++i) {
      ASSERT_EQ(hf_publisher_loan(publisher.c(), sizes[i], 0, -1, &loans[i]), HF_OK);
      loans[i].type = static_cast<std::uint32_t>(round * 5 + static_cast<int>(i));
      fill_payload(hf_loan_data(&loans[i]), sizes[i], loans[i].type);
    }
    std::size_t published = 0;
    ASSERT_EQ(hf_loan_publish_batch(loans, 5, -1, &published), HF_OK);
    EXPECT_EQ(published, 5u);
    EXPECT_EQ(hf_loan_publish(&loans[1], 0), HF_E_CLOSED) << "published once";
  }
  publisher.close();
  const Seen seen = reader.finish_taking();
  EXPECT_EQ(seen.samples, 100u);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed, 0u);
}

TEST(Delivery, ALoanTwiceInABatchIsPublishedOnce) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("twice");
  hf_loan loans[3];
  ASSERT_EQ(hf_publisher_loan(publisher.c(), 5000, 0, 0, &loans[0]), HF_OK);
  loans[1] = loans[0];
  ASSERT_EQ(hf_publisher_loan(publisher.c(), 5000, 0, 0, &loans[2]), HF_OK);
  std::size_t published = 0;
  EXPECT_EQ(hf_loan_publish_batch(loans, 3, 0, &published), HF_E_CLOSED);
  EXPECT_EQ(published, 1u);
  EXPECT_EQ(hf_loan_publish(&loans[2], 0), HF_OK) << "what comes after it is as it was";
  // Each chunk comes back once.
  std::vector<hf_loan> open;
  hf_loan loan;
  while (hf_publisher_loan(publisher.c(), 5000, 0, 0, &loan) == HF_OK) {
    for (const hf_loan& other : open) EXPECT_NE(loan.data, other.data);
    open.push_back(loan);
  }
  EXPECT_EQ(open.size(), 64u);
  for (hf_loan& one : open) hf_loan_drop(&one);
}

TEST(Delivery, FreshMemoryShowsNobodyElsesBytes) {
  PrivateBroker broker;
  {
    Client client = broker.client();
    PublisherOptions options;
    options.linger = std::chrono::milliseconds(1);
    Publisher publisher = client.publisher_or_throw("secret", options);
    publish_sample(publisher, kMiB, 5);
  }
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("fresh");
  Loan loan = publisher.loan_or_throw(kMiB);
  const auto* bytes = static_cast<const unsigned char*>(loan.data());
  EXPECT_TRUE(std::all_of(bytes, bytes + kMiB, [](unsigned char b) { return b == 0; }));
}

TEST(Delivery, ClocksSayWhenASampleWasPublished) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const int clock : {HF_CLOCK_NONE, HF_CLOCK_COARSE, HF_CLOCK_EXACT}) {
    const std::string topic = "clock/" + std::to_string(clock);
    PublisherOptions options;
    options.clock = clock;
    Publisher publisher = client.publisher_or_throw(topic, options);
    Subscriber subscriber = client.subscriber_or_throw(topic);
    const auto nanoseconds_now = [](clockid_t id) {
      timespec at{};
      clock_gettime(id, &at);
      return static_cast<std::uint64_t>(at.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(at.tv_nsec);
    };
    const std::uint64_t before = nanoseconds_now(CLOCK_MONOTONIC_COARSE);
    publish_sample(publisher, 100, 1);
    View view;
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    if (clock == HF_CLOCK_NONE) {
      EXPECT_EQ(view.time_ns(), 0u);
    } else {
      EXPECT_GE(view.time_ns(), before);
      EXPECT_LE(view.time_ns(), nanoseconds_now(CLOCK_MONOTONIC));
    }
  }
}

}  // namespace
}  // namespace holdfast::integration
