// SPDX-License-Identifier: MIT
#include "daemon/broker/envelope.hpp"

#include <gtest/gtest.h>

namespace holdfast::broker {
namespace {

using nlohmann::json;

TEST(Envelope, OpensARequest) {
  auto opened = open_envelope(json::parse(R"({"jsonrpc":"2.0","id":3,"method":"ping","params":{"a":1}})"));
  const auto* envelope = std::get_if<Envelope>(&opened);
  ASSERT_NE(envelope, nullptr);
  EXPECT_EQ(envelope->id, 3);
  EXPECT_EQ(envelope->method, "ping");
  EXPECT_EQ(envelope->params, json({{"a", 1}}));
}

TEST(Envelope, ParamsMayBeAbsentOrNull) {
  for (const char* text : {R"({"jsonrpc":"2.0","id":"x","method":"ping"})",
                           R"({"jsonrpc":"2.0","id":-1,"method":"ping","params":null})"}) {
    auto opened = open_envelope(json::parse(text));
    const auto* envelope = std::get_if<Envelope>(&opened);
    ASSERT_NE(envelope, nullptr) << text;
    EXPECT_EQ(envelope->params, json::object());
  }
}

TEST(Envelope, RefusesWhatIsNoRequest) {
  struct Case {
    const char* text;
    json id;
  };
  const std::string long_id = R"({"jsonrpc":"2.0","method":"ping","id":")" + std::string(257, 'x') + "\"}";
  const Case cases[] = {
      {"[]", nullptr},
      {"3", nullptr},
      {R"({"jsonrpc":"2.0","method":"ping"})", nullptr},
      {R"({"jsonrpc":"2.0","method":"ping","id":null})", nullptr},
      {R"({"jsonrpc":"2.0","method":"ping","id":1.5})", nullptr},
      {long_id.c_str(), nullptr},
      {R"({"method":"ping","id":1})", 1},
      {R"({"jsonrpc":"1.0","method":"ping","id":1})", 1},
      {R"({"jsonrpc":2,"method":"ping","id":1})", 1},
      {R"({"jsonrpc":"2.0","id":1})", 1},
      {R"({"jsonrpc":"2.0","id":1,"method":7})", 1},
      {R"({"jsonrpc":"2.0","id":1,"method":"ping","params":[1]})", 1},
  };
  for (const Case& one : cases) {
    auto opened = open_envelope(json::parse(one.text));
    const auto* bad = std::get_if<BadEnvelope>(&opened);
    ASSERT_NE(bad, nullptr) << one.text;
    EXPECT_EQ(bad->id, one.id) << one.text;
    EXPECT_EQ(bad->refusal.failure, control::Failure::kRequest);
  }
}

}  // namespace
}  // namespace holdfast::broker
