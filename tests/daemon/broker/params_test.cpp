// SPDX-License-Identifier: MIT
#include "daemon/broker/params.hpp"

#include <functional>

#include <gtest/gtest.h>

namespace holdfast::broker {
namespace {

using nlohmann::json;

// What `read` makes of a document: the parameter that it refuses, or "".
std::string refused(const char* text, const std::function<void(Params&)>& read) {
  const json document = json::parse(text);
  std::optional<Refusal> refusal;
  Params params(document, refusal);
  read(params);
  if (!refusal) return "";
  EXPECT_EQ(refusal->failure, control::Failure::kInvalid);
  return refusal->numbers["parameter"];
}

TEST(Params, NumbersAreWholeAndInRange) {
  const auto read = [](Params& params) { params.number("n", 2, 9); };
  for (const char* good : {R"({"n":2})", R"({"n":9})", R"({"n":null})", "{}"})
    EXPECT_EQ(refused(good, read), "") << good;
  for (const char* bad : {R"({"n":1})", R"({"n":10})", R"({"n":-3})", R"({"n":3.0})", R"({"n":"3"})", R"({"n":true})"})
    EXPECT_EQ(refused(bad, read), "n") << bad;
}

TEST(Params, SignedNumbers) {
  const auto read = [](Params& params) { params.signed_number("n", -1, 9); };
  for (const char* good : {R"({"n":-1})", R"({"n":9})", "{}"}) EXPECT_EQ(refused(good, read), "") << good;
  for (const char* bad : {R"({"n":-2})", R"({"n":10})", R"({"n":18446744073709551615})", R"({"n":[]})"})
    EXPECT_EQ(refused(bad, read), "n") << bad;
}

TEST(Params, FlagsTextsChoices) {
  EXPECT_EQ(refused(R"({"f":true})", [](Params& p) { EXPECT_EQ(p.flag("f"), true); }), "");
  EXPECT_EQ(refused(R"({"f":1})", [](Params& p) { EXPECT_EQ(p.flag("f"), std::nullopt); }), "f");
  EXPECT_EQ(refused("{}", [](Params& p) { EXPECT_EQ(p.flag("f"), std::nullopt); }), "");
  EXPECT_EQ(refused(R"({"t":"abc"})", [](Params& p) { EXPECT_EQ(p.text("t", 3), "abc"); }), "");
  EXPECT_EQ(refused(R"({"t":"abcd"})", [](Params& p) { p.text("t", 3); }), "t");
  EXPECT_EQ(refused(R"({"t":3})", [](Params& p) { p.text("t", 3); }), "t");
  EXPECT_EQ(refused(R"({"c":"b"})", [](Params& p) { EXPECT_EQ(p.choice("c", {"a", "b"}), 1U); }), "");
  EXPECT_EQ(refused(R"({"c":"d"})", [](Params& p) { p.choice("c", {"a", "b"}); }), "c");
  EXPECT_EQ(refused(R"({"c":0})", [](Params& p) { p.choice("c", {"a", "b"}); }), "c");
}

TEST(Params, RequiredOnesMustBeThere) {
  EXPECT_EQ(refused("{}", [](Params& p) { EXPECT_EQ(p.required_number("n", 1, 2), 0U); }), "n");
  EXPECT_EQ(refused("{}", [](Params& p) { EXPECT_EQ(p.required_text("t", 9), ""); }), "t");
  EXPECT_EQ(refused("{}", [](Params& p) { EXPECT_EQ(p.required_choice("c", {"a"}), 0U); }), "c");
  EXPECT_EQ(refused(R"({"c":"a"})", [](Params& p) { EXPECT_EQ(p.required_choice("c", {"a"}), 0U); }), "");
}

TEST(Params, ListsOfNumbers) {
  const auto read = [](Params& params) { params.numbers("l", 2, 5); };
  EXPECT_EQ(refused(R"({"l":[1,5]})", [](Params& p) { EXPECT_EQ(p.numbers("l", 2, 5)->size(), 2U); }), "");
  for (const char* good : {R"({"l":[]})", "{}"}) EXPECT_EQ(refused(good, read), "") << good;
  for (const char* bad : {R"({"l":[1,2,3]})", R"({"l":[6]})", R"({"l":["1"]})", R"({"l":3})"})
    EXPECT_EQ(refused(bad, read), "l") << bad;
}

TEST(Params, NestedObjectsSayTheirPath) {
  const auto read = [](Params& params) {
    if (auto inner = params.object("o")) {
      inner->number("n", 0, 1);
      inner->finish();
    }
    params.finish();
  };
  EXPECT_EQ(refused(R"({"o":{"n":1}})", read), "");
  EXPECT_EQ(refused(R"({"o":{"n":2}})", read), "o.n");
  EXPECT_EQ(refused(R"({"o":{"x":2}})", read), "o.x");
  EXPECT_EQ(refused(R"({"o":3})", read), "o");
  EXPECT_EQ(refused(R"({"p":3})", read), "p");
}

TEST(Params, AnEndlessNameIsNotRepeated) {
  const std::string text = "{\"" + std::string(60'000, 'x') + "\":1}";
  EXPECT_EQ(refused(text.c_str(), [](Params& p) { p.finish(); }), std::string(64, 'x'));
}

TEST(Params, TheFirstWrongOneIsTold) {
  EXPECT_EQ(refused(R"({"a":-1,"b":-1,"c":1})",
                    [](Params& p) {
                      p.number("b", 0, 1);
                      p.number("a", 0, 1);
                      p.finish();
                    }),
            "b");
}

}  // namespace
}  // namespace holdfast::broker
