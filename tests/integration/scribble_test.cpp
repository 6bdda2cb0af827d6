// SPDX-License-Identifier: MIT
//
// A publisher whose thread scribbles over its whole lane for a minute: readers of it report `corrupt`, never crash, never hang,
// and lose nothing of what an honest publisher writes to the same topic.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process.hpp"
#include "tests/sanitized.hpp"

namespace holdfast::integration {
namespace {

constexpr seconds kDuration(kSanitized ? 10 : 60);

TEST(Scribble, ReadersReportCorruptAndNeverCrashOrHang) {
  PrivateBroker broker;
  Client client = broker.client("honest");
  PublisherOptions options;
  options.ring_slots = 16;
  options.linger = milliseconds(1);
  options.stall_timeout = kForever;
  Publisher honest = client.publisher_or_throw("scribbled", options);
  std::vector<std::unique_ptr<Process>> survivors;
  for (const char* delivery : {"lossless", "lossless", "drop", "drop"}) {
    survivors.push_back(std::make_unique<Process>(
        "survivor", Arguments{broker.socket(), "scribbled", delivery, std::to_string(client.session())}));
    ASSERT_EQ(survivors.back()->channel().receive(), "subscribed");
  }
  Process scribbler("scribbler", {broker.socket(), "scribbled"});
  const auto until = now() + kDuration;
  std::uint32_t published = 0;
  for (; now() < until; ++published)
    ASSERT_EQ(publish_sample(honest, published % 3 == 0 ? 16 : published % 9000, published, kSoon), Status::kOk);
  const nlohmann::json scribbled = scribbler.call("stop");
  EXPECT_TRUE(broker.running());
  EXPECT_TRUE(client.ping());
  honest.close();
  std::uint64_t corrupt = 0;
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < survivors.size(); ++i) {
    const nlohmann::json seen = survivors[i]->channel().receive();
    ASSERT_FALSE(seen.is_null()) << "survivor " << i << " did not survive";
    EXPECT_EQ(seen.at("honest_bad"), 0u);
    if (i < 2) EXPECT_EQ(seen.at("honest"), published) << "lossless";
    EXPECT_GT(seen.at("corrupt"), 0u);
    corrupt += seen.at("corrupt").get<std::uint64_t>();
    wrong += seen.at("wrong").get<std::uint64_t>();
  }
  std::printf(
      "%lld s: %llu lanes scribbled over, %llu reports of corrupt, %llu samples that looked right, %u honest ones\n",
      static_cast<long long>(kDuration.count()), scribbled.at("lanes").get<unsigned long long>(),
      static_cast<unsigned long long>(corrupt), static_cast<unsigned long long>(wrong), published);
}

}  // namespace
}  // namespace holdfast::integration
