// SPDX-License-Identifier: MIT
//
// Options of the C ABI: structs of other library versions, ranges with their sentences, and what goes to the broker.
#include "client/src/options.hpp"

#include <cstdint>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "client/src/failure.hpp"
#include "client/src/json_fields.hpp"

namespace holdfast::client {
namespace {

using nlohmann::json;

template <class Options>
Options fresh() {
  Options options{};
  options.struct_size = sizeof options;
  return options;
}

// ---- struct_size --------------------------------------------------------------------------------------------------

struct Larger {
  hf_publisher_options known;
  std::uint64_t unknown[4];
};

TEST(CopyOptions, NoneAreTheDefaults) {
  hf_publisher_options options;
  std::memset(static_cast<void*>(&options), 0xff, sizeof options);
  ASSERT_EQ(copy_options<hf_publisher_options>(nullptr, "options", options), HF_OK);
  EXPECT_EQ(options.ring_slots, 0u);
  EXPECT_EQ(options.type, nullptr);
}

TEST(CopyOptions, OfAnOlderCallerLeaveTheRestAtZero) {
  auto given = fresh<hf_publisher_options>();
  std::memset(static_cast<void*>(&given), 0xff, sizeof given);
  given.struct_size = offsetof(hf_publisher_options, ring_slots) + sizeof given.ring_slots;
  hf_publisher_options options;
  ASSERT_EQ(copy_options(&given, "options", options), HF_OK);
  EXPECT_EQ(options.ring_slots, std::numeric_limits<decltype(options.ring_slots)>::max());
  EXPECT_EQ(options.struct_size, sizeof options);
  EXPECT_EQ(options.type, nullptr);
  EXPECT_EQ(options.bytes_max, 0u);
}

TEST(CopyOptions, OfANewerCallerAreTakenIfTheRestIsZero) {
  Larger given{};
  given.known.struct_size = sizeof given;
  given.known.depth = 5;
  hf_publisher_options options;
  ASSERT_EQ(copy_options(&given.known, "options", options), HF_OK);
  EXPECT_EQ(options.depth, 5u);
  given.unknown[3] = 1;
  EXPECT_EQ(copy_options(&given.known, "publisher options", options), HF_E_INVALID);
  EXPECT_NE(std::string(last_failure()).find("publisher options.struct_size"), std::string::npos);
}

TEST(CopyOptions, WithoutASizeOrWithAnAbsurdOneAreRefused) {
  hf_subscriber_options given{};
  hf_subscriber_options options;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, sizeof(std::size_t) - 1, std::size_t{4097}, SIZE_MAX}) {
    given.struct_size = size;
    EXPECT_EQ(copy_options(&given, "options", options), HF_E_INVALID) << size;
  }
}

// ---- publisher ----------------------------------------------------------------------------------------------------

json encoded(const hf_publisher_options& options) {
  json params;
  EXPECT_EQ(encode_options(options, params), HF_OK) << last_failure();
  return params["options"];
}

int refused(const hf_publisher_options& options, const char* word) {
  json params;
  const int result = encode_options(options, params);
  if (result != HF_OK) {
    EXPECT_NE(std::string(last_failure()).find(word), std::string::npos) << last_failure();
  }
  return result;
}

TEST(PublisherOptions, OfZeroAskForNothing) { EXPECT_EQ(encoded(fresh<hf_publisher_options>()), json::object()); }

TEST(PublisherOptions, AreSentAsTheBrokerKnowsThem) {
  auto options = fresh<hf_publisher_options>();
  const hf_type type{.name = "pose", .bytes = 24, .align = 8, .hash = 0xab};
  options.ring_slots = 128;
  options.chunks_max = 192;
  options.clock = HF_CLOCK_EXACT;
  options.backing = HF_BACKING_SEALED;
  options.exclusive = 1;
  options.depth = 3;
  options.linger_ns = -1;
  options.stall_timeout_ns = 1;
  options.bytes_max = 1 << 20;
  options.type = &type;
  EXPECT_EQ(encoded(options),
            json({{"ring", 128},
                  {"chunks_max", 192},
                  {"clock", "exact"},
                  {"backing", "sealed"},
                  {"exclusive", true},
                  {"depth", 3},
                  {"linger_ms", -1},
                  {"stall_timeout_ms", 1},
                  {"bytes_max", 1 << 20},
                  {"type", {{"name", "pose"}, {"bytes", 24}, {"align", 8}, {"hash", "00000000000000ab"}}}}));
  options.exclusive = 2;
  options.clock = HF_CLOCK_NONE;
  EXPECT_EQ(encoded(options)["exclusive"], false);
  EXPECT_EQ(encoded(options)["clock"], "none");
}

TEST(PublisherOptions, NanosecondsBecomeMillisecondsAndNeverZero) {
  auto options = fresh<hf_publisher_options>();
  const std::pair<std::int64_t, std::int64_t> wanted[] = {
      {1, 1}, {999'999, 1}, {1'000'000, 1}, {1'000'001, 2}, {-5, -1}, {INT64_MIN, -1}, {INT64_MAX, 9'223'372'036'855}};
  for (const auto& [ns, ms] : wanted) {
    options.linger_ns = ns;
    options.stall_timeout_ns = ns;
    EXPECT_EQ(encoded(options)["linger_ms"], ms) << ns;
    EXPECT_EQ(encoded(options)["stall_timeout_ms"], ms) << ns;
  }
}

TEST(PublisherOptions, OutOfRangeAreRefusedByName) {
  for (const std::uint32_t ring : {1u, 4u, 7u, 12u, 65u, 1u << 21, ~0u}) {
    auto options = fresh<hf_publisher_options>();
    options.ring_slots = ring;
    EXPECT_EQ(refused(options, "ring_slots is"), HF_E_INVALID) << ring;
  }
  for (const std::uint32_t ring : {8u, 64u, 1u << 20}) {
    auto options = fresh<hf_publisher_options>();
    options.ring_slots = ring;
    EXPECT_EQ(refused(options, ""), HF_OK) << ring;
  }
  for (const std::uint32_t chunks : {1u, 63u, 65u, 65536u + 64, ~0u}) {
    auto options = fresh<hf_publisher_options>();
    options.chunks_max = chunks;
    EXPECT_EQ(refused(options, "chunks_max is"), HF_E_INVALID) << chunks;
  }
  for (const std::int32_t wrong : {-1, 99}) {
    auto clock = fresh<hf_publisher_options>();
    clock.clock = wrong;
    EXPECT_EQ(refused(clock, "clock is"), HF_E_INVALID);
    auto backing = fresh<hf_publisher_options>();
    backing.backing = wrong;
    EXPECT_EQ(refused(backing, "backing is"), HF_E_INVALID);
    auto exclusive = fresh<hf_publisher_options>();
    exclusive.exclusive = wrong;
    EXPECT_EQ(refused(exclusive, "exclusive is"), HF_E_INVALID);
  }
}

// What is no UTF-8 would be replaced on its way, so that two names became one.
TEST(PublisherOptions, ATypeThatIsNoTextIsNamed) {
  const hf_type type{.name = "p\xffq", .bytes = 1, .align = 1, .hash = 0};
  json encoded;
  EXPECT_EQ(encode_type(type, encoded), HF_E_INVALID);
  EXPECT_STREQ(last_failure(), "type.name \"p\xef\xbf\xbdq\" is not UTF-8");
  EXPECT_EQ(encode_type({.name = "größe\x01", .bytes = 1, .align = 1, .hash = 0}, encoded), HF_OK);
}

TEST(PublisherOptions, ATypeNeedsAName) {
  for (const char* name : {static_cast<const char*>(nullptr), "", "p\xffq", "\xed\xa0\x80", "p\xc3"}) {
    const hf_type type{.name = name, .bytes = 1, .align = 1, .hash = 0};
    auto options = fresh<hf_publisher_options>();
    options.type = &type;
    EXPECT_EQ(refused(options, "type.name"), HF_E_INVALID);
  }
}

TEST(TypeOptions, WithoutAHashGetThatOfTheName) {
  json one;
  json two;
  ASSERT_EQ(encode_type({.name = "a", .bytes = 1, .align = 1, .hash = 0}, one), HF_OK);
  ASSERT_EQ(encode_type({.name = "b", .bytes = 1, .align = 1, .hash = 0}, two), HF_OK);
  EXPECT_EQ(one["hash"].get<std::string>().size(), 16u);
  EXPECT_NE(one["hash"], two["hash"]);
  EXPECT_EQ(one["hash"], "e6c632b61e964e1f");  // XXH3 of "a"
}

// ---- subscriber ---------------------------------------------------------------------------------------------------

TEST(SubscriberOptions, AreSentAsTheBrokerKnowsThem) {
  auto options = fresh<hf_subscriber_options>();
  json params;
  ASSERT_EQ(encode_options(options, params), HF_OK);
  EXPECT_EQ(params, json({{"delivery", "drop_oldest"}, {"start", "next"}}));
  const hf_type type{.name = "pose", .bytes = 24, .align = 8, .hash = 1};
  options.delivery = HF_LOSSLESS;
  options.start = HF_START_OLDEST;
  options.type = &type;
  params.clear();
  ASSERT_EQ(encode_options(options, params), HF_OK);
  EXPECT_EQ(params["delivery"], "lossless");
  EXPECT_EQ(params["start"], "oldest");
  EXPECT_EQ(params["type"]["name"], "pose");
  options.start = HF_START_LATEST;
  ASSERT_EQ(encode_options(options, params), HF_OK);
  EXPECT_EQ(params["start"], "latest");
}

TEST(SubscriberOptions, OutOfRangeAreRefusedByName) {
  json params;
  for (const std::int32_t wrong : {-1, 3}) {
    auto start = fresh<hf_subscriber_options>();
    start.start = wrong;
    EXPECT_EQ(encode_options(start, params), HF_E_INVALID);
    EXPECT_NE(std::string(last_failure()).find("start is"), std::string::npos);
    auto delivery = fresh<hf_subscriber_options>();
    delivery.delivery = wrong;
    EXPECT_EQ(encode_options(delivery, params), HF_E_INVALID);
    EXPECT_NE(std::string(last_failure()).find("delivery is"), std::string::npos);
  }
}

// ---- replies ------------------------------------------------------------------------------------------------------

TEST(DecodeOptions, ClocksAreThoseThatAreSent) {
  EXPECT_EQ(decode_clock("none"), HF_CLOCK_NONE);
  EXPECT_EQ(decode_clock("coarse"), HF_CLOCK_COARSE);
  EXPECT_EQ(decode_clock("exact"), HF_CLOCK_EXACT);
  EXPECT_EQ(decode_clock(""), HF_CLOCK_NONE);
  EXPECT_EQ(decode_clock("sundial"), HF_CLOCK_NONE);
}

TEST(DecodeOptions, AStallTimeoutThatIsNoneIsNever) {
  EXPECT_EQ(decode_stall_timeout_ns({{"stall_timeout_ms", 10}}), 10'000'000);
  EXPECT_EQ(decode_stall_timeout_ns({{"stall_timeout_ms", 0}}), 0);
  EXPECT_EQ(decode_stall_timeout_ns({{"stall_timeout_ms", -1}}), -1);
  EXPECT_EQ(decode_stall_timeout_ns({{"stall_timeout_ms", "10"}}), -1);
  EXPECT_EQ(decode_stall_timeout_ns({{"stall_timeout_ms", 1.5}}), -1);
  EXPECT_EQ(decode_stall_timeout_ns({{"stall_timeout_ms", INT64_MAX}}), -1);
  EXPECT_EQ(decode_stall_timeout_ns({{"stall_timeout_ms", UINT64_MAX}}), -1);
  EXPECT_EQ(decode_stall_timeout_ns(json::object()), -1);
}

TEST(JsonFields, OfAnotherTypeGiveTheDefault) {
  const json object = json::parse(R"({"n": 5, "negative": -5, "s": "text", "b": true, "l": [1, 2]})");
  EXPECT_EQ(number(object, "n"), 5u);
  EXPECT_EQ(number(object, "n", 9), 5u);
  EXPECT_EQ(number(object, "negative", 9), 9u);
  EXPECT_EQ(number(object, "s", 9), 9u);
  EXPECT_EQ(number(object, "absent", 9), 9u);
  EXPECT_EQ(number(json(3), "n", 9), 9u);
  EXPECT_EQ(text(object, "s"), "text");
  EXPECT_EQ(text(object, "n"), "");
  EXPECT_EQ(text(json::array(), "s"), "");
  EXPECT_TRUE(flag(object, "b"));
  EXPECT_FALSE(flag(object, "n"));
  EXPECT_FALSE(flag(json(), "b"));
  EXPECT_EQ(list(object, "l").size(), 2u);
  EXPECT_TRUE(list(object, "s").empty());
  EXPECT_TRUE(list(json("x"), "l").empty());
}

}  // namespace
}  // namespace holdfast::client
