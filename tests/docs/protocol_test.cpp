// SPDX-License-Identifier: MIT
//
// docs/protocol.md against the code and against a live broker: errors, methods, the members of replies, example commands.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "client/include/holdfast/holdfast.h"
#include "daemon/registry.hpp"
#include "proto/control/errors.hpp"
#include "proto/control/versions.hpp"
#include "proto/shm/segment.hpp"
#include "tests/docs/document.hpp"
#include "tests/integration/broker.hpp"
#include "tests/integration/control.hpp"

namespace holdfast::docs {
namespace {

using integration::PrivateBroker;
using integration::RawControl;

const Document& protocol() {
  static const Document document("docs/protocol.md");
  return document;
}

// ---- errors

TEST(Protocol, ErrorTableIsThatOfTheCode) {
  const std::map<std::string, int> c_abi = {
      {"HF_E_INVALID", HF_E_INVALID},     {"HF_E_NO_BROKER", HF_E_NO_BROKER}, {"HF_E_DENIED", HF_E_DENIED},
      {"HF_E_QUOTA", HF_E_QUOTA},         {"HF_E_NO_MEMORY", HF_E_NO_MEMORY}, {"HF_E_BUSY", HF_E_BUSY},
      {"HF_E_NOT_FOUND", HF_E_NOT_FOUND}, {"HF_E_EXISTS", HF_E_EXISTS},       {"HF_E_MISMATCH", HF_E_MISMATCH},
      {"HF_E_VERSION", HF_E_VERSION},     {"HF_E_CORRUPT", HF_E_CORRUPT},     {"HF_E_FORKED", HF_E_FORKED},
      {"HF_E_CLOSED", HF_E_CLOSED},       {"HF_E_EXHAUSTED", HF_E_EXHAUSTED}, {"HF_E_TOO_LARGE", HF_E_TOO_LARGE},
      {"HF_E_PROTOCOL", HF_E_PROTOCOL},   {"HF_E_SYSTEM", HF_E_SYSTEM},
  };
  using Error = std::tuple<int, std::string, int>;
  std::vector<Error> in_code;
  for (const control::ErrorRow& row : control::kErrors) in_code.emplace_back(row.code, row.name, row.c_abi);
  std::vector<Error> documented;
  for (const Row& row : protocol().only("Errors", {"code", "`data.error`", "C ABI"}).rows) {
    const auto number = c_abi.find(code(row["C ABI"]));
    ASSERT_NE(number, c_abi.end()) << row["C ABI"];
    documented.emplace_back(std::stoi(row["code"]), code(row["`data.error`"]), number->second);
  }
  EXPECT_EQ(documented, in_code);
}

// ---- versions

TEST(Compatibility, NumbersAreThoseOfTheCode) {
  std::map<std::string, std::string> documented;
  for (const Row& row : Document("docs/compatibility.md").only("The four numbers", {"Number", "Now"}).rows)
    documented[row["Number"]] = code(row["Now"]);
  EXPECT_EQ(documented,
            (std::map<std::string, std::string>{{"C ABI", "libholdfast.so.1"},  // Abi.ExportedSymbolsAreThoseOfTheList
                                                {"control protocol", std::to_string(control::kProtocolVersion)},
                                                {"layout of shared memory", std::to_string(shm::kLayoutVersion)},
                                                {"registry", std::to_string(daemon::kRegistryVersion)}}));
}

// ---- methods

std::vector<std::string> methods_under(const char* heading) {
  std::vector<std::string> methods;
  for (const Row& row : protocol().only(heading, {"Method", "Parameters", "Result"}).rows)
    methods.push_back(code(row["Method"]));
  return methods;
}

std::string error_of(const integration::Reply& reply) {
  return reply.failed() ? reply.document["error"]["data"]["error"].get<std::string>() : "";
}

TEST(Protocol, TheBrokerKnowsEveryMethodAndNoOther) {
  PrivateBroker broker;
  std::set<std::string> documented;
  for (const char* heading : {"Methods without a session", "Methods of a session"}) {
    for (const std::string& method : methods_under(heading)) {
      documented.insert(method);
      RawControl control(broker.socket());
      EXPECT_NE(error_of(control.request(method.c_str())), "method") << method;
    }
  }
  RawControl control(broker.socket());
  const integration::Reply reply = control.request("no.such.method");
  EXPECT_EQ(error_of(reply), "method");
  // "…; there are ping stats …"
  const std::string sentence = reply.document["error"]["message"];
  std::istringstream words(sentence.substr(sentence.find("there are") + std::string("there are").size()));
  std::set<std::string> listed;
  for (std::string word; words >> word;) listed.insert(word);
  EXPECT_EQ(listed, documented) << sentence;
}

TEST(Protocol, MethodsOfASessionNeedAHello) {
  PrivateBroker broker;
  for (const std::string& method : methods_under("Methods of a session")) {
    if (method == "hello") continue;
    RawControl control(broker.socket());
    // Those that take a session up come in place of hello.
    const char* expected = method == "resume.begin" ? "invalid" : method.starts_with("resume.") ? "request" : "hello";
    EXPECT_EQ(error_of(control.request(method.c_str())), expected) << method;
  }
  for (const std::string& method : methods_under("Methods without a session")) {
    RawControl control(broker.socket());
    EXPECT_EQ(error_of(control.request(method.c_str())), "") << method;
  }
}

// ---- members of replies

std::set<std::string> members(const nlohmann::json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

std::string document_text() {
  std::ostringstream text;
  text << std::ifstream(HOLDFAST_SOURCE_DIR "/docs/protocol.md").rdbuf();
  return text.str();
}

// The names in "{"a", "b": "x"|"y", "c": [{"d"}]}" that belong to the object itself: a, b, c. Those of the objects in `c`
// go to `nested`.
std::set<std::string> names_in(const std::string& braces,
                               std::map<std::string, std::set<std::string>>* nested = nullptr) {
  std::vector<std::set<std::string>> open;
  std::set<std::string> names;
  std::string last;
  bool is_value = false;
  for (std::size_t i = 0; i < braces.size(); ++i) {
    const char c = braces[i];
    if (c == '(') {  // a remark
      while (i < braces.size() && braces[i] != ')') ++i;
    } else if (c == '{') {
      open.emplace_back();
      is_value = false;
    } else if (c == '}') {
      if (open.empty()) break;
      if (open.size() == 1) names = open.back();
      if (open.size() == 2 && nested != nullptr) (*nested)[last] = open.back();
      open.pop_back();
      if (open.empty()) break;
    } else if (c == ':') {
      is_value = true;
    } else if (c == ',') {
      is_value = false;
    } else if (c == '"') {
      const std::size_t end = braces.find('"', i + 1);
      const std::string word = braces.substr(i + 1, end - i - 1);
      i = end;
      if (is_value || open.empty()) continue;
      open.back().insert(word);
      if (open.size() == 1) last = word;
    }
  }
  return names;
}

// What the document says of `Name`: `{…}`.
std::string shape(const std::string& name) {
  static const std::string text = document_text();
  const std::string begin = "`" + name + "`: `{";
  const std::size_t at = text.find(begin);
  EXPECT_NE(at, std::string::npos) << name << " is not described";
  return at == std::string::npos ? "" : text.substr(at + begin.size() - 1);
}

TEST(Protocol, RepliesHaveTheMembersThatItLists) {
  PrivateBroker broker;
  RawControl control(broker.socket());
  for (const Row& row : protocol().only("Methods without a session", {"Method", "Parameters", "Result"}).rows) {
    if (code(row["Method"]) == "ping") {
      EXPECT_EQ(members(control.request("ping").result()), names_in(code(row["Result"])));
    }
    if (code(row["Method"]) == "stats") {
      // "one object of numbers: `version, protocol, …, limits{…}`"
      std::set<std::string> documented;
      std::istringstream words(code(row["Result"]));
      for (std::string word; std::getline(words, word, ',');) {
        word.erase(0, word.find_first_not_of(' '));
        documented.insert(word.substr(0, word.find_first_of(" {(")));
      }
      EXPECT_EQ(members(control.request("stats").result()), documented);
    }
  }
  const nlohmann::json hello = control.hello().result();
  const nlohmann::json publisher = control.request("publisher.open", {{"topic", "docs/members"}}).result();
  RawControl other(broker.socket());
  (void)other.hello("docs reader");
  const nlohmann::json subscriber =
      other.request("subscriber.open", {{"topic", "docs/members"}, {"delivery", "lossless"}, {"start", "oldest"}})
          .result();
  const nlohmann::json lanes = other.request("subscriber.lanes", {{"handle", subscriber["handle"]}}).result();
  const nlohmann::json peers = other.request("peers", {{"sessions", {hello["session"]}}}).result();
  const nlohmann::json grown =
      control.request("lane.grow", {{"handle", publisher["handle"]}, {"bytes", 4096}}).result();
  const nlohmann::json bell = other.request("bell.open", {{"bell", 0}}).result();
  for (const Row& row : protocol().only("Methods of a session", {"Method", "Parameters", "Result"}).rows) {
    const std::string method = code(row["Method"]);
    if (method == "hello") EXPECT_EQ(members(hello), names_in(code(row["Result"])));
    std::set<std::string> listed = names_in(code(row["Result"]));
    // Said further down of all replies that may have made a segment grow.
    if (method == "publisher.open") {
      listed.insert("bells_bytes");
      EXPECT_EQ(members(publisher), listed);
    }
    if (method == "subscriber.open") {
      listed.insert("session_bytes");
      EXPECT_EQ(members(subscriber), listed);
    }
    if (method == "subscriber.lanes") {
      listed.insert("session_bytes");
      EXPECT_EQ(members(lanes), listed);
    }
    if (method == "peers") EXPECT_EQ(members(peers), listed);
    if (method == "lane.grow") EXPECT_EQ(members(grown), listed);
    if (method == "bell.open") EXPECT_EQ(members(bell), listed);
  }
  EXPECT_EQ(members(publisher["lane"]), names_in(shape("WriterLane")));
  EXPECT_EQ(members(publisher["topic"]), names_in(shape("Options")));
  EXPECT_EQ(members(subscriber["lanes"][0]), names_in(shape("ReaderLane")));
  const nlohmann::json topic = broker.topic("docs/members");
  std::set<std::string> of_topic = names_in(shape("Topic"));
  of_topic.insert({"lanes_count", "subscriptions_count"});  // said behind it
  EXPECT_EQ(members(topic), of_topic);
  EXPECT_EQ(members(topic["lanes"][0]), names_in(shape("Lane")));
  std::map<std::string, std::set<std::string>> nested;
  EXPECT_EQ(members(topic["subscriptions"][0]), names_in(shape("Subscription"), &nested));
  EXPECT_EQ(members(topic["subscriptions"][0]["lanes"][0]), nested["lanes"]);
  EXPECT_EQ(members(broker.request("sessions")["sessions"][0]), names_in(shape("Session")));
  EXPECT_EQ(members(broker.request("segments")["segments"][0]), names_in(shape("Segment")));
}

// ---- example commands

TEST(Protocol, ExampleCommandsWork) {
  if (std::system("command -v nc >/dev/null && command -v jq >/dev/null") != 0)
    GTEST_SKIP() << "not_run: nc (netcat-openbsd) and jq are not installed";
  PrivateBroker broker;
  ::setenv("socket", broker.socket().c_str(), 1);
  ASSERT_FALSE(protocol().commands().empty());
  for (const std::string& command : protocol().commands()) {
    // nc ends when the broker has answered; should it hang, the test says so.
    const std::string script = "set -o pipefail; " + command;
    std::string bounded = "timeout 30 bash -c \"$script\"";
    ::setenv("script", script.c_str(), 1);
    FILE* pipe = ::popen(bounded.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string output;
    std::array<char, 4096> bytes;
    for (std::size_t n = 0; (n = std::fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) output.append(bytes.data(), n);
    EXPECT_EQ(::pclose(pipe), 0) << command << "\n" << output;
    const nlohmann::json answer = nlohmann::json::parse(output, nullptr, false);
    EXPECT_TRUE(answer.is_object() && answer.contains("result")) << command << "\n" << output;
  }
}

}  // namespace
}  // namespace holdfast::docs
