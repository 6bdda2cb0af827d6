// SPDX-License-Identifier: MIT
#include "proto/control/message.hpp"

#include <random>

#include <gtest/gtest.h>

namespace holdfast::control {
namespace {

using nlohmann::json;

bool parses(std::string_view line) { return std::holds_alternative<json>(parse_line(line)); }

std::string nested(int depth, char open, char close) {
  return std::string(static_cast<std::size_t>(depth), open) + std::string(static_cast<std::size_t>(depth), close);
}

TEST(ParseLine, TakesOneDocument) {
  EXPECT_TRUE(parses(R"({"a":[1,2,{"b":null}]})"));
  EXPECT_TRUE(parses("{}\n"));
  EXPECT_TRUE(parses("{}\r\n"));
  EXPECT_EQ(std::get<json>(parse_line(R"({"a":1})"))["a"], 1);
}

TEST(ParseLine, RefusesOthers) {
  for (const char* bad : {"", " ", "{", "}", "{}{}", "{} x", "nul", "{\"a\":}", "{a:1}", "[1,]", "\"open", "\"\\\"",
                          "\xff", "{\"\xc3\x28\":1}", "1e999999", "'a'"})
    EXPECT_FALSE(parses(bad)) << bad;
  EXPECT_FALSE(std::get<ParseError>(parse_line("{")).sentence.empty());
}

TEST(ParseLine, AMemberStandsOnce) {
  EXPECT_TRUE(parses(R"([{"a":1,"b":{"a":1}},{"a":{"c":1},"b":{"c":1}}])"));
  for (const char* bad : {R"({"a":1,"a":2})", R"({"a":1,"a":1})", R"({"a":1,"b":{"a":1},"a":2})",
                          R"([[{"a":1,"a":2}]])", R"({"p":{"a":{"b":1},"c":[{}],"a":2}})", R"({"a":1,"\u0061":2})"}) {
    const auto parsed = parse_line(bad);
    ASSERT_TRUE(std::holds_alternative<ParseError>(parsed)) << bad;
    EXPECT_NE(std::get<ParseError>(parsed).sentence.find("\"a\" stands twice"), std::string::npos) << bad;
  }
  std::string deep;
  for (int i = 0; i < kDepthMax; ++i) deep += "{\"a\":";
  EXPECT_FALSE(parses(deep + "1,\"a\":1" + std::string(kDepthMax, '}')));
  const std::string longest(30'000, 'x');
  const auto parsed = parse_line("{\"" + longest + "\":1,\"" + longest + "\":2}");
  EXPECT_LT(std::get<ParseError>(parsed).sentence.size(), 200U);
}

TEST(ParseLine, DepthIsBounded) {
  EXPECT_TRUE(parses(nested(kDepthMax, '[', ']')));
  EXPECT_FALSE(parses(nested(kDepthMax + 1, '[', ']')));
  EXPECT_FALSE(parses(nested(30'000, '[', ']')));
  EXPECT_FALSE(parses(std::string(60'000, '[')));
  EXPECT_FALSE(parses(std::string(60'000, ']')));
  std::string objects;
  for (int i = 0; i < kDepthMax; ++i) objects += "{\"a\":";
  EXPECT_TRUE(parses(objects + "1" + std::string(kDepthMax, '}')));
  EXPECT_FALSE(parses("{\"b\":" + objects + "1" + std::string(kDepthMax + 1, '}')));
}

TEST(ParseLine, BracketsInTextsDoNotCount) {
  EXPECT_TRUE(parses("\"" + std::string(1000, '[') + "\""));
  EXPECT_TRUE(parses("[\"\\\"" + std::string(100, '{') + "\"]"));
  EXPECT_TRUE(parses(R"(["\\",[[]]])"));
}

TEST(ParseLine, LengthIsBounded) {
  EXPECT_TRUE(parses("\"" + std::string(kLineBytesMax - 2, 'a') + "\""));
  EXPECT_FALSE(parses("\"" + std::string(kLineBytesMax - 1, 'a') + "\""));
}

TEST(ParseLine, NeverThrowsOnRandomBytes) {
  std::mt19937 random(3);
  const std::string alphabet = "{}[]\",:\\0123eE+-.truefalsn \xc3\xa4";
  for (int i = 0; i < 20'000; ++i) {
    std::string line;
    for (std::size_t n = random() % 40; n > 0; --n) line.push_back(alphabet[random() % alphabet.size()]);
    (void)parse_line(line);
  }
}

TEST(Lines, AreDocumentsWithANewline) {
  const std::string request = request_line(7, "ping", {{"a", 1}});
  EXPECT_EQ(request.back(), '\n');
  EXPECT_EQ(std::get<json>(parse_line(request)),
            json({{"jsonrpc", "2.0"}, {"id", 7}, {"method", "ping"}, {"params", {{"a", 1}}}}));
  EXPECT_FALSE(std::get<json>(parse_line(request_line("x", "ping", nullptr))).contains("params"));
  EXPECT_EQ(std::get<json>(parse_line(result_line(7, json::object()))),
            json({{"jsonrpc", "2.0"}, {"id", 7}, {"result", json::object()}}));
  EXPECT_EQ(
      std::get<json>(parse_line(error_line(nullptr, Failure::kQuota, "no", {{"limit_bytes", 3}}))),
      json({{"jsonrpc", "2.0"},
            {"id", nullptr},
            {"error", {{"code", -32005}, {"message", "no"}, {"data", {{"error", "quota"}, {"limit_bytes", 3}}}}}}));
  EXPECT_EQ(std::get<json>(parse_line(error_line(1, Failure::kParse, "no")))["error"]["data"],
            json({{"error", "parse"}}));
}

TEST(Lines, ReplaceWhatIsNotUtf8) {
  EXPECT_TRUE(parses(error_line(1, Failure::kSystem, "bad \xff byte")));
  EXPECT_EQ(result_line(1, "two\nlines").find('\n'), result_line(1, "two\nlines").size() - 1);
}

TEST(LineBuffer, CutsLines) {
  LineBuffer buffer;
  EXPECT_TRUE(buffer.append("ab"));
  EXPECT_EQ(buffer.next(), std::nullopt);
  EXPECT_TRUE(buffer.append("c\nde\n\nf"));
  EXPECT_EQ(buffer.next(), "abc");
  EXPECT_TRUE(buffer.append("g\n"));
  EXPECT_EQ(buffer.next(), "de");
  EXPECT_EQ(buffer.next(), "");
  EXPECT_EQ(buffer.next(), "fg");
  EXPECT_EQ(buffer.next(), std::nullopt);
  EXPECT_EQ(buffer.size(), 0U);
}

TEST(LineBuffer, TheLongestLine) {
  LineBuffer buffer;
  EXPECT_TRUE(buffer.append(std::string(kLineBytesMax - 1, 'a')));
  EXPECT_TRUE(buffer.append("\n"));
  EXPECT_EQ(buffer.next()->size(), kLineBytesMax - 1);
  EXPECT_TRUE(buffer.append(std::string(kLineBytesMax - 1, 'a')));
  EXPECT_FALSE(buffer.append("a"));
}

TEST(LineBuffer, LinesBeforeATooLongOneAreGood) {
  LineBuffer buffer;
  EXPECT_FALSE(buffer.append("one\n" + std::string(kLineBytesMax, 'a') + "\nthree\n"));
  EXPECT_EQ(buffer.next(), "one");
  EXPECT_EQ(buffer.next(), std::nullopt);
  LineBuffer other;
  EXPECT_FALSE(other.append("one\n" + std::string(kLineBytesMax, 'a')));
  EXPECT_EQ(other.next(), "one");
  EXPECT_EQ(other.next(), std::nullopt);
}

TEST(LineBuffer, ByteByByte) {
  LineBuffer buffer;
  const std::string text = "hello\nworld\n";
  std::string joined;
  for (const char c : text) {
    ASSERT_TRUE(buffer.append({&c, 1}));
    while (auto line = buffer.next()) joined += *line + "|";
  }
  EXPECT_EQ(joined, "hello|world|");
}

}  // namespace
}  // namespace holdfast::control
