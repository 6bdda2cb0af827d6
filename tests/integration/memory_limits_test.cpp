// SPDX-License-Identifier: MIT
//
// Memory that runs out is an error with numbers; nothing gets SIGBUS, nothing is used up, and what fits goes on. And the
// limits of one sample: nothing at all, gigabytes, 64 KiB of attributes.
#include <algorithm>
#include <cctype>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/own_shm.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

constexpr std::uint64_t kGiB = 1 << 30;

// The numbers in a sentence.
std::vector<std::uint64_t> numbers_in(const std::string& sentence) {
  std::vector<std::uint64_t> numbers;
  for (std::size_t i = 0; i < sentence.size();) {
    if (std::isdigit(static_cast<unsigned char>(sentence[i])) == 0) {
      ++i;
      continue;
    }
    std::size_t used = 0;
    numbers.push_back(std::stoull(sentence.substr(i), &used));
    i += used;
  }
  return numbers;
}

// Names a size of at least `asked`, less than twice that, and one that is below it.
void expect_both_numbers(const std::string& sentence, std::uint64_t asked, std::uint64_t available_max) {
  const auto numbers = numbers_in(sentence);
  EXPECT_TRUE(std::any_of(numbers.begin(), numbers.end(), [&](auto n) { return n >= asked && n < 2 * asked; }))
      << sentence;
  EXPECT_TRUE(std::any_of(numbers.begin(), numbers.end(), [&](auto n) { return n >= 4096 && n <= available_max; }))
      << sentence;
}

std::uint64_t shm_free_bytes() {
  struct statvfs shm{};
  return ::statvfs("/dev/shm", &shm) == 0 ? std::uint64_t{shm.f_bavail} * shm.f_frsize : 0;
}

std::uint64_t machine_free_bytes() {
  std::ifstream memory("/proc/meminfo");
  for (std::string line; std::getline(memory, line);)
    if (line.rfind("MemAvailable:", 0) == 0) return numbers_in(line).at(0) * 1024;
  return 0;
}

TEST(MemoryLimits, PayloadLargerThanTheMachineIsNoMemoryAndTheNextOneWorks) {
  constexpr std::uint64_t kShm = 64 * kMiB;
  if (!in_own_shm(kShm)) return;
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("big");
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("big").at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  reader.begin_taking_until_ended();
  for (int i = 0; i < 3; ++i) {
    const nlohmann::json before = resources(broker);
    const std::uint64_t free_before = shm_free_bytes();
    auto refused = publisher.loan(100 * kMiB, 0, kLook);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, HF_E_NO_MEMORY) << refused.error().sentence;
    expect_both_numbers(refused.error().sentence, 100 * kMiB, kShm);
    EXPECT_EQ(resources(broker), before);
    EXPECT_EQ(shm_free_bytes(), free_before);
    ASSERT_EQ(publish_sample(publisher, 5 * kMiB, 7, kSoon), Status::kOk);
  }
  publisher.close();
  const Seen seen = reader.finish_taking();
  EXPECT_EQ(seen.samples, 3u);
  EXPECT_EQ(seen.torn, 0u);
}

TEST(MemoryLimits, WaitingForeverForWhatCanNeverComeIsRefusedAtOnce) {
  if (!in_own_shm(64 * kMiB)) return;
  PrivateBroker broker("[limits]\nsession_bytes_max = 33554432\n");
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("never");
  const std::vector<char> payload(100 * kMiB);
  auto refused = publisher.publish(payload.data(), payload.size(), kForever);
  ASSERT_FALSE(refused) << "nobody holds anything that could be waited for";
  EXPECT_TRUE(refused.error().code == HF_E_QUOTA || refused.error().code == HF_E_NO_MEMORY) << refused.error().sentence;
  EXPECT_EQ(publish_sample(publisher, kMiB, 1), Status::kOk);
}

TEST(MemoryLimits, FullMemoryIsAnErrorForEveryoneAndNoSignal) {
  constexpr std::uint64_t kShm = 48 * kMiB;
  if (!in_own_shm(kShm)) return;
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("fill");
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("fill").at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  std::uint32_t published = 0;
  std::string sentence;
  for (; sentence.empty() && published < 60; ++published) {
    auto loan = publisher.loan(2 * kMiB, 0, kLook);
    if (!loan) {
      EXPECT_EQ(loan.error().code, HF_E_NO_MEMORY) << loan.error().sentence;
      sentence = loan.error().sentence;
      break;
    }
    fill_payload(loan->data(), 2 * kMiB, published);
    loan->set_type(published);
    ASSERT_EQ(loan->publish(kLook).or_throw(), Status::kOk);
  }
  EXPECT_GE(published, 15u);
  expect_both_numbers(sentence, 2 * kMiB, 2 * kMiB);
  // Down to the last pages: whatever needs a new segment is refused, and nothing else breaks.
  std::vector<Loan> loans;
  for (auto loan = publisher.loan(60'000, 0, kLook); loan; loan = publisher.loan(60'000, 0, kLook))
    loans.push_back(std::move(*loan));
  std::vector<Publisher> more;
  Error last{HF_OK, ""};
  for (int i = 0; i < 1000 && last.code == HF_OK; ++i) {
    auto opened = client.publisher("more/" + std::to_string(i));
    if (opened)
      more.push_back(std::move(*opened));
    else
      last = opened.error();
  }
  EXPECT_EQ(last.code, HF_E_NO_MEMORY) << last.sentence;
  ClientOptions options;
  options.socket = broker.socket();
  auto second = Client::connect(options);
  if (!second) {
    EXPECT_EQ(second.error().code, HF_E_NO_MEMORY) << second.error().sentence;
  }
  EXPECT_TRUE(client.ping());
  EXPECT_TRUE(publisher.publish("inline", 6, kSoon));
  const Seen seen = reader.take(published);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed, 0u);
  // What was taken is free again, and what fits works.
  EXPECT_EQ(publish_sample(publisher, 2 * kMiB, 9, kSoon), Status::kOk);
}

TEST(MemoryLimits, QuotaOfASessionIsAnErrorWithItsNumbers) {
  constexpr std::uint64_t kQuota = 32 * kMiB;
  PrivateBroker broker("[limits]\nsession_bytes_max = " + std::to_string(kQuota) + "\n");
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("quota");
  Subscriber subscriber = client.subscriber_or_throw("quota");
  for (int i = 0; i < 2; ++i) {
    const nlohmann::json before = resources(broker);
    auto refused = publisher.loan(40 * kMiB, 0, kLook);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, HF_E_QUOTA) << refused.error().sentence;
    expect_both_numbers(refused.error().sentence, 40 * kMiB, kQuota);
    const auto numbers = numbers_in(refused.error().sentence);
    EXPECT_NE(std::find(numbers.begin(), numbers.end(), kQuota), numbers.end()) << refused.error().sentence;
    EXPECT_EQ(resources(broker), before);
    ASSERT_EQ(publish_sample(publisher, 20 * kMiB, 3, kSoon), Status::kOk);
    View view;
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_TRUE(sample_is_whole(view));
  }
  // Another session has a quota of its own.
  RemoteClient other(broker);
  ASSERT_EQ(other.open_publisher("quota/other").at("code"), HF_OK);
  other.publish(1, 20 * kMiB);
}

TEST(MemoryLimits, SizesBeyondTheLaneAndTheFormatAreRefused) {
  PrivateBroker broker;
  Client client = broker.client();
  PublisherOptions options;
  options.bytes_max = 4 * kMiB;
  Publisher publisher = client.publisher_or_throw("lane", options);
  const nlohmann::json before = resources(broker);
  for (const std::uint64_t bytes : {5 * kMiB, std::uint64_t{1} << 48, ~std::uint64_t{0}}) {
    auto refused = publisher.loan(bytes);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, HF_E_TOO_LARGE);
    EXPECT_NE(refused.error().sentence.find(std::to_string(bytes)), std::string::npos) << refused.error().sentence;
  }
  EXPECT_EQ(resources(broker), before);
  EXPECT_EQ(publish_sample(publisher, 3 * kMiB, 1), Status::kOk);
}

TEST(MemoryLimits, AttributesOf64KiBAndNotOneByteMore) {
  constexpr std::uint32_t kMost = 65536;
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("attributes");
  Subscriber subscriber = client.subscriber_or_throw("attributes");
  std::vector<unsigned char> encoded(kMost);
  std::uint32_t used = 0;
  const std::vector<unsigned char> value(kMost, 0x5a);
  std::uint32_t value_bytes = kMost;
  while (hf_attributes_add(encoded.data(), kMost, &used, HF_BYTES, "k", value.data(), value_bytes) == HF_E_TOO_LARGE)
    --value_bytes;
  ASSERT_EQ(used, kMost);
  for (const std::uint64_t bytes : {0u, 7u, 5000u}) {
    hf_loan loan;
    ASSERT_EQ(hf_publisher_loan(publisher.c(), bytes, kMost, -1, &loan), HF_OK);
    fill_payload(hf_loan_data(&loan), bytes, 2);
    loan.type = 2;
    EXPECT_EQ(hf_loan_set_attributes(&loan, encoded.data(), kMost + 1), HF_E_TOO_LARGE);
    EXPECT_NE(std::string(hf_last_error()).find("65537"), std::string::npos) << hf_last_error();
    ASSERT_EQ(hf_loan_set_attributes(&loan, encoded.data(), kMost), HF_OK);
    ASSERT_EQ(hf_loan_publish(&loan, -1), HF_OK);
    View view;
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_TRUE(sample_is_whole(view));
    ASSERT_EQ(view.c().attribute_bytes, kMost);
    EXPECT_EQ(std::memcmp(view.c().attributes, encoded.data(), kMost), 0);
  }
  hf_loan loan;
  EXPECT_EQ(hf_publisher_loan(publisher.c(), 8, kMost + 1, -1, &loan), HF_E_TOO_LARGE);
  EXPECT_NE(std::string(hf_last_error()).find("65536"), std::string::npos) << hf_last_error();
  EXPECT_EQ(hf_publish_with(publisher.c(), "x", 1, encoded.data(), kMost + 1, 0, -1), HF_E_TOO_LARGE);
  EXPECT_EQ(publisher.position(), 3u) << "what is refused takes no position";
  Attributes attributes;
  EXPECT_THROW(attributes.add_bytes("k", value.data(), kMost), Exception);
  EXPECT_EQ(attributes.bytes(), 0u);
}

TEST(MemoryLimits, NothingAtAllIsASample) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("nothing");
  Subscriber subscriber = client.subscriber_or_throw("nothing");
  ASSERT_EQ(hf_publish(publisher.c(), nullptr, 0, -1), HF_OK);
  ASSERT_EQ(publish_sample(publisher, 0, 1), Status::kOk);
  for (std::uint64_t i = 0; i < 2; ++i) {
    View view;
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_EQ(view.bytes(), 0u);
    EXPECT_EQ(view.position(), i);
    EXPECT_NE(view.data(), nullptr);
  }
}

TEST(Large, SamplesInHugePagesAreWhole) {
  PrivateBroker broker;
  Client client = broker.client();
  PublisherOptions options;
  options.huge_pages = true;
  options.bytes_max = 64 << 20;
  Publisher publisher = client.publisher_or_throw("huge", options);
  Subscriber subscriber = client.subscriber_or_throw("huge");
  std::uint32_t seed = 0;
  for (const std::uint64_t bytes : {100U, 5'000'000U, 3U << 20, 4096U, 9'000'000U}) {
    ASSERT_EQ(publish_sample(publisher, bytes, ++seed), Status::kOk);
    View view;
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_EQ(view.bytes(), bytes);
    EXPECT_TRUE(sample_is_whole(view.c()));
  }
  // It grows to the ends of huge pages, and not beyond what it may have.
  EXPECT_EQ(broker.topic("huge").at("lanes").at(0).at("bytes").get<std::uint64_t>() % (2 << 20), 0U);
  const auto beyond = publisher.loan(60 << 20, 0, kLook);
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().code, HF_E_EXHAUSTED);
}

TEST(Large, FiveGibibytesWrittenAtTheirEndsAndReadOnTheOtherSide) {
  constexpr std::uint64_t kBytes = 5 * kGiB;
  constexpr std::uint64_t kEnd = 64 * 1024;
  if (shm_free_bytes() < kBytes + kGiB || machine_free_bytes() < kBytes + kGiB)
    GTEST_SKIP() << "not_run: needs 6 GiB of /dev/shm and of free memory, there are " << shm_free_bytes() << " and "
                 << machine_free_bytes();
  PrivateBroker broker;
  ClientOptions options;
  options.socket = broker.socket();
  options.timeout = kSoon;
  Client client = Client::connect_or_throw(options);
  Publisher publisher = client.publisher_or_throw("large");
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("large").at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  Loan loan = publisher.loan_or_throw(kBytes);
  auto* bytes = static_cast<unsigned char*>(loan.data());
  fill_payload(bytes, kEnd, 1);
  fill_payload(bytes + kBytes - kEnd, kEnd, 2);
  loan.publish_or_throw();
  const nlohmann::json seen = reader.call("take_ends", {{"end_bytes", kEnd}});
  EXPECT_EQ(seen.at("bytes"), kBytes);
  EXPECT_TRUE(seen.at("begin_whole"));
  EXPECT_TRUE(seen.at("end_whole"));
}

}  // namespace
}  // namespace holdfast::integration
