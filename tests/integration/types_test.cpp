// SPDX-License-Identifier: MIT
//
// Typed topics: what does not fit is refused when it is opened, with both types in the sentence.
#include <string>

#include <gtest/gtest.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"

struct Point {
  double x;
  double y;
  std::int32_t id;
};
HOLDFAST_TYPE(Point, "point", x, y, id);

struct Pixel {
  float x;
  float y;
};
HOLDFAST_TYPE(Pixel, "pixel", x, y);

struct alignas(32) Wide {
  float lanes[8];
};

namespace holdfast::integration {
namespace {

TEST(Types, AlignmentIsKeptWhereAnInlineSampleWouldNot) {
  PrivateBroker broker;
  Client client = broker.client();
  auto publisher = client.typed_publisher<Wide>("wide").or_throw();
  auto subscriber = client.typed_subscriber<Wide>("wide").or_throw();
  const auto aligned = [](const void* payload) {
    return reinterpret_cast<std::uintptr_t>(payload) % alignof(Wide) == 0;
  };
  Wide value{};
  value.lanes[7] = 7.5F;
  ASSERT_EQ(publisher.publish(value, kSoon).or_throw(), Status::kOk);
  Loan loan = publisher.loan().or_throw();
  EXPECT_TRUE(aligned(loan.data()));
  static_cast<Wide*>(loan.data())->lanes[0] = 1.5F;
  loan.publish_or_throw();
  View views[2];
  for (View& view : views) {
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    EXPECT_TRUE(aligned(view.data()));
    EXPECT_EQ(view.c().attribute_bytes, 0U);
  }
  EXPECT_EQ(views[0].as<Wide>().lanes[7], 7.5F);
  EXPECT_EQ(views[1].as<Wide>().lanes[0], 1.5F);
}

TEST(Types, MoreElementsThanThereAreBytesAreTooLarge) {
  PrivateBroker broker;
  Client client = broker.client();
  auto publisher = client.typed_publisher<Wide>("many").or_throw();
  for (const std::uint64_t count : {std::uint64_t{1} << 43, std::uint64_t{1} << 59, ~std::uint64_t{0}}) {
    const auto loan = publisher.loan(count, kLook);
    ASSERT_FALSE(loan);
    EXPECT_EQ(loan.error().code, HF_E_TOO_LARGE) << loan.error().sentence;
  }
}

TEST(Types, ValuesTravelTyped) {
  PrivateBroker broker;
  Client client = broker.client();
  auto publisher = client.typed_publisher<Point>("points").or_throw();
  auto subscriber = client.typed_subscriber<Point>("points").or_throw();
  ASSERT_EQ(publisher.publish(Point{1.5, -2.5, 7}).or_throw(), Status::kOk);
  Loan loan = publisher.loan(1000).or_throw();
  static_cast<Point*>(loan.data())[999].id = 42;
  loan.publish_or_throw();
  View view;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_EQ(view.as<Point>().y, -2.5);
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_EQ(view.bytes(), 1000 * sizeof(Point));
  EXPECT_EQ(static_cast<const Point*>(view.data())[999].id, 42);
  EXPECT_EQ(static_cast<const Point*>(view.data())[0].id, 0) << "elements of a typed loan are initialised";
  EXPECT_EQ(broker.topic("points").at("type").at("bytes"), sizeof(Point));
}

TEST(Types, MismatchNamesBothAndUsesNothingUp) {
  PrivateBroker broker;
  Client client = broker.client();
  auto publisher = client.typed_publisher<Point>("points").or_throw();
  const nlohmann::json before = resources(broker);
  auto reader = client.typed_subscriber<Pixel>("points");
  auto writer = client.typed_publisher<Pixel>("points");
  ASSERT_FALSE(reader);
  ASSERT_FALSE(writer);
  for (const Error& error : {reader.error(), writer.error()}) {
    EXPECT_EQ(error.code, HF_E_MISMATCH);
    EXPECT_NE(error.sentence.find("point{x:f64@0"), std::string::npos) << error.sentence;
    EXPECT_NE(error.sentence.find("pixel{x:f32@0"), std::string::npos) << error.sentence;
    EXPECT_NE(error.sentence.find("points"), std::string::npos) << error.sentence;
  }
  EXPECT_EQ(resources(broker), before);
  EXPECT_TRUE(client.subscriber("points")) << "who names no type takes any";
}

TEST(Types, SubscriberMayNameTheTypeFirst) {
  PrivateBroker broker;
  Client client = broker.client();
  auto subscriber = client.typed_subscriber<Pixel>("early").or_throw();
  auto wrong = client.typed_publisher<Point>("early");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, HF_E_MISMATCH);
  auto publisher = client.typed_publisher<Pixel>("early").or_throw();
  ASSERT_EQ(publisher.publish(Pixel{1, 2}).or_throw(), Status::kOk);
  View view;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_EQ(view.as<Pixel>().y, 2);
}

TEST(Types, SampleThatIsNoValueIsCorrupt) {
  PrivateBroker broker;
  Client client = broker.client();
  auto subscriber = client.typed_subscriber<Point>("loose").or_throw();
  Publisher publisher = client.publisher_or_throw("loose");
  ASSERT_EQ(publish_sample(publisher, 25, 1), Status::kOk);
  View view;
  auto taken = subscriber.take(view, kSoon);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, HF_E_CORRUPT);
  EXPECT_NE(taken.error().sentence.find("25"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::integration
