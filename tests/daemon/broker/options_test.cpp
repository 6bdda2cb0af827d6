// SPDX-License-Identifier: MIT
#include "daemon/broker/options.hpp"

#include <gtest/gtest.h>

#include "daemon/broker/limits.hpp"
#include "daemon/broker/params.hpp"
#include "proto/control/message.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

struct Read {
  AskedOptions asked;
  std::string refused;
};

Read read(const char* text) {
  const json document = json::parse(text);
  std::optional<Refusal> refusal;
  Params params(document, refusal, "options.");
  Read result{read_options(params), ""};
  if (refusal) result.refused = refusal->numbers["parameter"];
  return result;
}

TEST(Options, AllAreOptional) {
  const Read none = read("{}");
  EXPECT_EQ(none.refused, "");
  EXPECT_FALSE(none.asked.names_any());
  EXPECT_FALSE(
      read(R"({"backing":"auto","bytes_max":1048576,"type":{"name":"x","bytes":8,"align":8}})").asked.names_any());
}

TEST(Options, EachOneSettles) {
  for (const char* one :
       {R"({"ring":128})", R"({"chunks_max":128})", R"({"clock":"exact"})", R"({"exclusive":false})",
        R"({"backing":"named"})", R"({"depth":2})", R"({"linger_ms":0})", R"({"stall_timeout_ms":-1})"})
    EXPECT_TRUE(read(one).asked.names_any()) << one;
}

TEST(Options, WrongOnesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"ring":100})", "options.ring"},
      {R"({"ring":4})", "options.ring"},
      {R"({"ring":2097152})", "options.ring"},
      {R"({"chunks_max":32})", "options.chunks_max"},
      {R"({"chunks_max":65})", "options.chunks_max"},
      {R"({"clock":"utc"})", "options.clock"},
      {R"({"exclusive":1})", "options.exclusive"},
      {R"({"backing":"disk"})", "options.backing"},
      {R"({"depth":0})", "options.depth"},
      {R"({"linger_ms":-2})", "options.linger_ms"},
      {R"({"stall_timeout_ms":"x"})", "options.stall_timeout_ms"},
      {R"({"bytes_max":1})", "options.bytes_max"},
      {R"({"type":7})", "options.type"},
      {R"({"type":{"bytes":8,"align":8}})", "options.type.name"},
      {R"({"type":{"name":"","bytes":8,"align":8}})", "options.type.name"},
      {R"({"type":{"name":"x","align":8}})", "options.type.bytes"},
      {R"({"type":{"name":"x","bytes":8,"align":3}})", "options.type.align"},
      {R"({"type":{"name":"x","bytes":8,"align":8,"hash":"xyz"}})", "options.type.hash"},
      {R"({"type":{"name":"x","bytes":8,"align":8,"hash":""}})", "options.type.hash"},
      {R"({"type":{"name":"x","bytes":8,"align":8,"size":1}})", "options.type.size"},
      {R"({"colour":1})", "options.colour"},
  };
  for (const auto& [text, parameter] : cases) EXPECT_EQ(read(text).refused, parameter) << text;
}

TEST(Options, DepthIsAtMostThreeQuartersOfTheRing) {
  TopicOptions options;
  EXPECT_FALSE(settle(read(R"({"ring":8,"depth":6})").asked, options));
  options = {};
  const auto refusal = settle(read(R"({"ring":8,"depth":7})").asked, options);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->numbers["parameter"], "options.depth");
}

TEST(Options, AMismatchNamesBothSides) {
  TopicOptions options;
  TopicType type{"point", 16, 8, "00000000000000ff"};
  const std::pair<const char*, const char*> cases[] = {
      {R"({"ring":128})", "ring"},
      {R"({"chunks_max":128})", "chunks_max"},
      {R"({"clock":"exact"})", "clock"},
      {R"({"exclusive":true})", "exclusive"},
      {R"({"backing":"sealed"})", "backing"},
      {R"({"depth":2})", "depth"},
      {R"({"linger_ms":-1})", "linger_ms"},
      {R"({"stall_timeout_ms":0})", "stall_timeout_ms"},
      {R"({"type":{"name":"other","bytes":16,"align":8}})", "type"},
      {R"({"type":{"name":"point","bytes":8,"align":8}})", "type"},
      {R"({"type":{"name":"point","bytes":16,"align":4}})", "type"},
      {R"({"type":{"name":"point","bytes":16,"align":8,"hash":"fe"}})", "type"},
  };
  for (const auto& [text, option] : cases) {
    const auto refusal = fit(read(text).asked, "t", options, type);
    ASSERT_TRUE(refusal) << text;
    EXPECT_EQ(refusal->failure, control::Failure::kMismatch);
    EXPECT_EQ(refusal->numbers["option"], option);
    EXPECT_TRUE(refusal->numbers.contains("topic") && refusal->numbers.contains("asked"));
    EXPECT_NE(refusal->sentence.find("\"t\""), std::string::npos);
  }
  EXPECT_EQ(fit(read(R"({"ring":128})").asked, "t", options, type)->numbers,
            json({{"option", "ring"}, {"topic", 64}, {"asked", 128}}));
}

TEST(Options, TheLongestMismatchFitsALine) {
  const std::string name(kTypeNameBytesMax, '\x01');
  AskedOptions asked;
  asked.type = TopicType{name, 8, 8, "00000000000000ff"};
  const auto refusal = fit(asked, "t", TopicOptions{}, TopicType{name, 16, 8, "00000000000000fe"});
  ASSERT_TRUE(refusal);
  EXPECT_LE(control::error_line(std::string(256, '\x01'), refusal->failure, refusal->sentence, refusal->numbers).size(),
            control::kLineBytesMax);
}

TEST(Options, EqualOrAbsentFits) {
  TopicOptions options;
  TopicType type{"point", 16, 8, "00000000000000ff"};
  for (const char* text :
       {"{}", R"({"ring":64,"chunks_max":64,"clock":"none","exclusive":false,"backing":"auto","depth":1})",
        R"({"linger_ms":30000,"stall_timeout_ms":10000,"bytes_max":1048576})",
        R"({"type":{"name":"point","bytes":16,"align":8,"hash":"FF"}})",
        R"({"type":{"name":"point","bytes":16,"align":8}})"})
    EXPECT_FALSE(fit(read(text).asked, "t", options, type)) << text;
  // Who names a type first settles it.
  EXPECT_FALSE(fit(read(R"({"type":{"name":"other","bytes":1,"align":1}})").asked, "t", options, TopicType{}));
}

TEST(Options, AreShownWithTheirNames) {
  TopicOptions options;
  options.clock = Clock::kCoarse;
  options.backing = Backing::kSealed;
  const json shown = options_json(options, TopicType{"p", 8, 8, "00000000000000ff"});
  EXPECT_EQ(shown["clock"], "coarse");
  EXPECT_EQ(shown["backing"], "sealed");
  EXPECT_EQ(shown["type"]["hash"], "00000000000000ff");
  EXPECT_TRUE(options_json(options, TopicType{})["type"].is_null());
  EXPECT_FALSE(type_json(TopicType{"p", 8, 8, ""}).contains("hash"));
}

}  // namespace
}  // namespace holdfast::broker
