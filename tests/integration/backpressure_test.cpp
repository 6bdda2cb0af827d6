// SPDX-License-Identifier: MIT
//
// Slow subscribers: what full, timed out, lapped and turned mean, and that a failed publish or loan uses nothing up.
#include <array>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

SubscriberOptions lossless() {
  SubscriberOptions options;
  options.lossless = true;
  return options;
}

PublisherOptions small_ring(Timeout stall_timeout = kForever) {
  PublisherOptions options;
  options.ring_slots = 8;
  options.stall_timeout = stall_timeout;
  return options;
}

TEST(Backpressure, FullAndTimeoutLeaveTheLoanAsItWas) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("full", small_ring());
  Subscriber subscriber = client.subscriber_or_throw("full", lossless());
  for (std::uint32_t i = 0; i < 8; ++i) ASSERT_EQ(publish_sample(publisher, 5000, i, kLook), Status::kOk) << i;
  Loan loan = publisher.loan_or_throw(5000);
  fill_payload(loan.data(), 5000, 8);
  loan.set_type(8);
  EXPECT_EQ(loan.publish(kLook).or_throw(), Status::kFull);
  const auto begin = now();
  EXPECT_EQ(loan.publish(milliseconds(30)).or_throw(), Status::kTimeout);
  EXPECT_GE(milliseconds_since(begin), 30);
  EXPECT_EQ(loan.publish(nanoseconds(1)).or_throw(), Status::kTimeout) << "however short, it is no look";
  EXPECT_EQ(hf_publish(publisher.c(), std::string(100, 'x').data(), 100, 1), HF_TIMEOUT);
  EXPECT_TRUE(loan);
  EXPECT_EQ(publisher.position(), 8u);
  EXPECT_EQ(hf_publish(publisher.c(), "inline", 6, 0), HF_FULL);
  EXPECT_EQ(hf_publish(publisher.c(), std::string(100, 'x').data(), 100, 0), HF_FULL);
  View view;
  ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
  EXPECT_EQ(loan.publish(kLook).or_throw(), Status::kOk);
  for (std::uint32_t i = 1; i <= 8; ++i) {
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_EQ(view.type(), i);
    EXPECT_TRUE(sample_is_whole(view));
  }
  EXPECT_GE(broker.topic("full").at("lanes").at(0).at("full"), 1u);
}

TEST(Backpressure, WaitingPublisherGoesOnWhenASubscriberTakesClosesOrDies) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const char* what : {"take", "close", "die"}) {
    const std::string topic = std::string("wait/") + what;
    Publisher publisher = client.publisher_or_throw(topic, small_ring());
    RemoteClient reader(broker);
    ASSERT_EQ(reader.subscribe(topic).at("code"), HF_OK);
    ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
    for (std::uint32_t i = 0; i < 8; ++i) ASSERT_EQ(publish_sample(publisher, 100, i, kLook), Status::kOk);
    Status status = Status::kTimeout;
    std::thread waiting([&] { status = publish_sample(publisher, 100, 8, kSoon); });
    const bool waits = eventually([&] { return broker.topic(topic).at("lanes").at(0).at("full") > 0; });
    if (what == std::string("take")) reader.take(1);
    if (what == std::string("close")) reader.close_subscriber();
    if (what == std::string("die")) reader.kill();
    waiting.join();
    EXPECT_TRUE(waits);
    EXPECT_EQ(status, Status::kOk) << what;
  }
}

TEST(Backpressure, DropOldestNeverMakesThePublisherWait) {
  constexpr std::uint32_t kSamples = 10'000;
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("drop");
  RemoteClient stopped(broker);
  ASSERT_EQ(stopped.subscribe("drop", false).at("code"), HF_OK);
  stopped.pause();
  for (std::uint32_t i = 0; i < kSamples; ++i)
    ASSERT_EQ(publish_sample(publisher, i % 2 == 0 ? 8 : 3000, i, kLook), Status::kOk) << i;
  publisher.close();
  stopped.resume();
  const Seen seen = stopped.take_until_ended();
  EXPECT_EQ(seen.samples + seen.missed, kSamples);
  EXPECT_GT(seen.missed, 0u);
  EXPECT_EQ(seen.last, kSamples - 1);
  EXPECT_EQ(seen.torn + seen.disorder + seen.turned + seen.corrupt, 0u);
}

TEST(Backpressure, LappedSaysExactlyHowMany) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("lapped");
  Subscriber subscriber = client.subscriber_or_throw("lapped");
  for (std::uint32_t i = 0; i < 1000; ++i) publish_sample(publisher, 8, i, kLook);
  View view;
  ASSERT_EQ(subscriber.take(view).or_throw(), Status::kLapped);
  const std::uint64_t missed = view.missed();
  EXPECT_EQ(view.publisher(), client.session());
  EXPECT_FALSE(view.turned());
  ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
  EXPECT_EQ(view.position(), missed);
  EXPECT_EQ(view.type(), missed);
}

TEST(Backpressure, ChunksRunOutAndComeBack) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("chunks");
  std::vector<Loan> loans;
  for (int i = 0; i < 64; ++i) loans.push_back(publisher.loan_or_throw(100, 0, kLook));
  const nlohmann::json before = resources(broker);
  auto refused = publisher.loan(100, 0, kLook);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, HF_E_EXHAUSTED);
  EXPECT_NE(refused.error().sentence.find("64"), std::string::npos) << refused.error().sentence;
  hf_loan loan;
  EXPECT_EQ(hf_publisher_loan(publisher.c(), 100, 0, -1, &loan), HF_E_EXHAUSTED) << "nobody else could give one back";
  EXPECT_EQ(resources(broker), before);
  loans.pop_back();
  EXPECT_TRUE(publisher.loan(100, 0, kLook));
  EXPECT_TRUE(publisher.publish("inline", 6)) << "inline samples need no chunk";
}

TEST(Backpressure, LoanWaitsForAViewToBeReleased) {
  PrivateBroker broker;
  Client client = broker.client();
  PublisherOptions options;
  options.bytes_max = 1 << 20;
  Publisher publisher = client.publisher_or_throw("memory", options);
  Subscriber subscriber = client.subscriber_or_throw("memory");
  publish_sample(publisher, 700'000, 1);
  View view;
  ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
  auto refused = publisher.loan(700'000, 0, kLook);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, HF_E_EXHAUSTED);
  EXPECT_NE(refused.error().sentence.find("700000"), std::string::npos) << refused.error().sentence;
  EXPECT_NE(refused.error().sentence.find("1048576"), std::string::npos) << refused.error().sentence;
  const auto exhausted = [&] { return broker.topic("memory").at("lanes").at(0).at("exhausted").get<std::uint64_t>(); };
  hf_loan none;
  const auto begin = now();
  EXPECT_EQ(hf_publisher_loan(publisher.c(), 700'000, 0, 20'000'000, &none), HF_TIMEOUT);
  EXPECT_GE(milliseconds_since(begin), 20);
  const std::uint64_t before = exhausted();
  bool loaned = false;
  std::thread waiting([&] { loaned = static_cast<bool>(publisher.loan(700'000, 0, kSoon)); });
  const bool waits = eventually([&] { return exhausted() > before; });
  EXPECT_TRUE(sample_is_whole(view));
  view.release();
  waiting.join();
  EXPECT_TRUE(waits);
  EXPECT_TRUE(loaned);
}

TEST(Backpressure, TooManyViewsIsAnErrorAndKeepsThem) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const bool gating : {false, true}) {
    const std::string topic = gating ? "views/lossless" : "views/drop";
    PublisherOptions options;
    options.depth = 48;
    Publisher publisher = client.publisher_or_throw(topic, options);
    Subscriber subscriber = gating ? client.subscriber_or_throw(topic, lossless()) : client.subscriber_or_throw(topic);
    std::vector<View> views(48);
    for (std::uint32_t i = 0; i < 60; ++i) {
      ASSERT_EQ(publish_sample(publisher, 5000, i, kLook), Status::kOk);
      if (i < views.size()) ASSERT_EQ(subscriber.take(views[i]).or_throw(), Status::kOk);
    }
    for (int i = 0; i < 2; ++i) {
      View one_more;
      const auto refused = subscriber.take(one_more);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, HF_E_QUOTA);
      EXPECT_NE(refused.error().sentence.find("48"), std::string::npos) << refused.error().sentence;
    }
    for (std::uint32_t i = 0; i < 48; ++i) {
      EXPECT_TRUE(sample_is_whole(views[i]));
      EXPECT_EQ(views[i].type(), i);
    }
    views[20].release();
    ASSERT_EQ(subscriber.take(views[20]).or_throw(), Status::kOk);
    EXPECT_EQ(views[20].type(), 48u);
  }
}

// The limit stands in the way of what needs a chunk of that lane, and of nothing else, whichever way a subscriber takes.
TEST(Backpressure, AtTheLimitOfViewsOtherSamplesLanesAndEndsGoOn) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const char* way : {"take", "batch", "fd"}) {
    const std::string topic = std::string("limit/") + way;
    std::optional<Publisher> full(client.publisher_or_throw(topic));
    Publisher other = client.publisher_or_throw(topic);
    Subscriber subscriber = client.subscriber_or_throw(topic, lossless());
    if (std::string(way) == "fd") ASSERT_GE(subscriber.fd().or_throw(), 0);
    const auto take = [&](hf_view& view) {
      std::size_t taken = 0;
      return std::string(way) == "batch" ? hf_take_batch(subscriber.c(), &view, 1, &taken)
                                         : hf_take(subscriber.c(), &view);
    };
    std::vector<hf_view> held(48);
    for (hf_view& view : held) {
      ASSERT_EQ(publish_sample(*full, 5000, 1, kLook), Status::kOk);
      ASSERT_EQ(take(view), HF_OK);
    }
    hf_view view;
    ASSERT_EQ(publish_sample(*full, 8, 2, kLook), Status::kOk);
    EXPECT_EQ(take(view), HF_OK) << way << ": an inline sample needs no chunk";
    ASSERT_EQ(publish_sample(*full, 5000, 3, kLook), Status::kOk);
    for (std::uint32_t i = 0; i < 3; ++i) {
      ASSERT_EQ(publish_sample(other, 5000, 10 + i, kLook), Status::kOk);
      ASSERT_EQ(take(view), HF_OK) << way << ": another lane has its own limit";
      EXPECT_EQ(view.type, 10 + i);
      EXPECT_NE(view.lane, held[0].lane);
      hf_view_release(&view);
    }
    EXPECT_EQ(take(view), HF_E_QUOTA) << way << ": nothing else is there";
    hf_view_release(&held[0]);
    ASSERT_EQ(take(held[0]), HF_OK) << way;
    EXPECT_EQ(held[0].type, 3u);
    full.reset();
    EXPECT_EQ(take(view), HF_FINISHED) << way << ": an end needs no chunk";
    for (hf_view& one : held) hf_view_release(&one);
  }
}

TEST(Backpressure, PartOfABatchIsPublishedAndTheRestStaysPublishable) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("partial", small_ring());
  Subscriber subscriber = client.subscriber_or_throw("partial", lossless());
  std::array<std::uint64_t, 20> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i;
  std::size_t published = 0;
  EXPECT_EQ(publisher.publish_batch(values.data(), values.size(), kLook, &published).or_throw(), Status::kFull);
  EXPECT_EQ(published, 8u);
  View view;
  for (std::uint64_t i = 0; i < 8; ++i) {
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_EQ(view.as<std::uint64_t>(), i);
  }
  std::vector<hf_loan> loans(12);
  for (std::uint32_t i = 0; i < loans.size(); ++i) {
    ASSERT_EQ(hf_publisher_loan(publisher.c(), 1000, 0, 0, &loans[i]), HF_OK);
    loans[i].type = i;
    fill_payload(loans[i].data, 1000, i);
  }
  EXPECT_EQ(hf_loan_publish_batch(loans.data(), loans.size(), 10'000'000, &published), HF_TIMEOUT);
  EXPECT_EQ(published, 8u);
  for (std::uint32_t i = 0; i < 8; ++i) {
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_EQ(view.type(), i);
  }
  ASSERT_EQ(hf_loan_publish_batch(loans.data() + published, loans.size() - published, 0, nullptr), HF_OK);
  for (std::uint32_t i = 8; i < 12; ++i) {
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_EQ(view.type(), i);
    EXPECT_TRUE(sample_is_whole(view));
  }
}

TEST(Backpressure, StalledLosslessReaderIsTurnedAndTold) {
  constexpr std::uint32_t kSamples = 200;
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("stall", small_ring(milliseconds(200)));
  RemoteClient stopped(broker);
  RemoteClient going(broker);
  ASSERT_EQ(stopped.subscribe("stall").at("code"), HF_OK);
  ASSERT_EQ(going.subscribe("stall").at("code"), HF_OK);
  stopped.pause();
  going.begin_taking_until_ended();
  for (std::uint32_t i = 0; i < kSamples; ++i)
    ASSERT_EQ(publish_sample(publisher, i % 2 == 0 ? 20 : 4000, i, kSoon), Status::kOk) << i;
  std::string deliveries;
  const nlohmann::json topic = broker.topic("stall");
  for (const auto& subscription : topic.at("subscriptions"))
    deliveries += subscription.at("delivery").get<std::string>() + " ";
  EXPECT_NE(deliveries.find("turned"), std::string::npos) << deliveries;
  publisher.close();
  stopped.resume();
  const Seen turned = stopped.take_until_ended();
  EXPECT_EQ(turned.turned, 1u);
  EXPECT_GT(turned.missed, 0u);
  EXPECT_EQ(turned.samples + turned.missed, kSamples);
  EXPECT_EQ(turned.torn + turned.disorder + turned.corrupt, 0u);
  const Seen all = going.finish_taking();
  EXPECT_EQ(all.samples, kSamples);
  EXPECT_EQ(all.missed + all.turned + all.torn, 0u);
}

TEST(Backpressure, WithoutStallTimeoutNobodyIsTurned) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("patient", small_ring(kForever));
  RemoteClient stopped(broker);
  ASSERT_EQ(stopped.subscribe("patient").at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  stopped.pause();
  for (std::uint32_t i = 0; i < 8; ++i) ASSERT_EQ(publish_sample(publisher, 100, i, kLook), Status::kOk);
  EXPECT_EQ(publish_sample(publisher, 100, 8, milliseconds(300)), Status::kTimeout);
  publisher.close();
  stopped.resume();
  const Seen seen = stopped.take_until_ended();
  EXPECT_EQ(seen.samples, 8u);
  EXPECT_EQ(seen.missed + seen.turned, 0u);
}

TEST(Backpressure, DrainWaitsForTakesAndForViews) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("drain");
  EXPECT_EQ(publisher.drain(kLook).or_throw(), Status::kOk) << "nobody reads";
  Subscriber dropping = client.subscriber_or_throw("drain");
  Subscriber subscriber = client.subscriber_or_throw("drain", lossless());
  publish_sample(publisher, 5000, 1);
  EXPECT_EQ(publisher.drain(kLook).or_throw(), Status::kTimeout);
  EXPECT_EQ(publisher.drain(milliseconds(20)).or_throw(), Status::kTimeout);
  View view;
  ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
  EXPECT_EQ(publisher.drain(milliseconds(20)).or_throw(), Status::kTimeout) << "a view is held";
  std::thread releasing([&] { view.release(); });
  EXPECT_EQ(publisher.drain(kSoon).or_throw(), Status::kOk);
  releasing.join();
}

}  // namespace
}  // namespace holdfast::integration
