// SPDX-License-Identifier: MIT
//
// A session's connection that is cut and resumed, step by step on one thread: the test plays every broker that follows.
#include "client/src/connection.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/src/failure.hpp"
#include "proto/control/message.hpp"
#include "proto/control/versions.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::client {
namespace {

using nlohmann::json;

class ConnectionTest : public ::testing::Test {
 protected:
  static constexpr std::int64_t kLook = 0;

  ConnectionTest() {
    std::string directory = ::testing::TempDir() + "holdfast-connection-XXXXXX";
    EXPECT_NE(::mkdtemp(directory.data()), nullptr);
    directory_ = directory;
    path_ = directory_ + "/socket";
    start_broker();
    EXPECT_EQ(client_.connect({directory_ + "/another", path_}, 1'000'000'000), HF_OK);
    client_.begin_session(7, "secret");
    EXPECT_TRUE(accept());
  }
  ~ConnectionTest() override { std::filesystem::remove_all(directory_); }

  void start_broker() {
    listening_ = Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    ::unlink(path_.c_str());
    EXPECT_EQ(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listening_.get(), 4), 0);
  }
  bool accept() {
    read_.clear();
    broker_ = Descriptor(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return bool(broker_);
  }
  void kill_broker() {
    listening_.reset();
    broker_.reset();
  }
  void restart_broker() {
    kill_broker();
    start_broker();
  }

  // The next line that the client has sent; null: there is none.
  json next() {
    char bytes[65536];
    for (ssize_t n; (n = ::recv(broker_.get(), bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
      read_.append(bytes, static_cast<std::size_t>(n));
    const std::size_t end = read_.find('\n');
    if (end == std::string::npos) return nullptr;
    json line = json::parse(read_.substr(0, end));
    read_.erase(0, end + 1);
    return line;
  }
  void send(const std::string& line) {
    ASSERT_EQ(::send(broker_.get(), line.data(), line.size(), MSG_NOSIGNAL), static_cast<ssize_t>(line.size()));
  }
  void answer(const json& request, const json& result) { send(control::result_line(request.at("id"), result)); }
  void refuse(const json& request, control::Failure failure, const char* sentence) {
    send(control::error_line(request.at("id"), failure, sentence));
  }
  // Takes the next request, which is `method`, and answers it.
  json serve(const char* method, const json& result) {
    json request = next();
    EXPECT_TRUE(request.is_object() && request["method"] == method) << method << ", not " << request;
    if (request.is_object()) answer(request, result);
    return request.is_object() ? request["params"] : json();
  }
  int look() { return client_.bring_up(kLook, true); }

  // A new broker, asked to resume: the connection is accepted and the first request is there.
  void cut_and_ask_again() {
    restart_broker();
    client_.look();
    EXPECT_FALSE(client_.up());
    EXPECT_EQ(look(), HF_E_NO_BROKER) << "nothing was answered yet";
    EXPECT_TRUE(client_.resuming());
    ASSERT_TRUE(accept());
  }
  void finish() {
    serve("resume.begin", kBegun);
    (void)look();
    for (json request = next(); request.is_object(); request = next()) {
      const bool end = request["method"] == "resume.end";
      answer(request, end ? json{{"dropped", 0}} : json{{"unknown", json::array()}});
      (void)look();
    }
    EXPECT_TRUE(client_.up()) << last_failure();
  }

  const json kBegun{{"session", 7}, {"protocol", control::kProtocolVersion}, {"layout", shm::kLayoutVersion}};
  std::string directory_;
  std::string path_;
  Descriptor listening_;
  Descriptor broker_;
  std::string read_;
  Connection client_;
  Reply reply_;
};

TEST_F(ConnectionTest, ResumesWithItsTokenAndListsItsHandles) {
  const auto first = client_.hold(3);
  const auto second = client_.hold(5);
  const auto closed = client_.hold(4);
  EXPECT_TRUE(client_.let_go(4));
  cut_and_ask_again();
  const json begin = serve("resume.begin", kBegun);
  EXPECT_EQ(begin, (json{{"protocol", control::kProtocolVersion},
                         {"protocol_min", control::kProtocolOldest},
                         {"layout", shm::kLayoutVersion},
                         {"session", 7},
                         {"token", "secret"}}));
  EXPECT_EQ(look(), HF_E_NO_BROKER);
  EXPECT_EQ(serve("resume.handles", {{"unknown", {5}}}), (json{{"handles", {3, 5}}}));
  EXPECT_EQ(look(), HF_E_NO_BROKER);
  EXPECT_EQ(client_.resumed(), 0u);
  serve("resume.end", {{"dropped", 1}});
  EXPECT_EQ(look(), HF_OK);
  EXPECT_TRUE(client_.up());
  EXPECT_EQ(client_.resumed(), 1u);
  EXPECT_FALSE(first->unknown);
  EXPECT_TRUE(second->unknown);
  EXPECT_FALSE(closed->unknown);
}

TEST_F(ConnectionTest, ManyHandlesGoInPages) {
  for (std::uint64_t id = 1; id <= 600; ++id) (void)client_.hold(id);
  cut_and_ask_again();
  serve("resume.begin", kBegun);
  std::uint64_t listed = 0;
  for (const std::size_t page : {256u, 256u, 88u}) {
    (void)look();
    const json handles = serve("resume.handles", {{"unknown", json::array()}})["handles"];
    EXPECT_EQ(handles.size(), page);
    for (const json& id : handles) EXPECT_EQ(id, ++listed);
  }
  (void)look();
  serve("resume.end", {{"dropped", 0}});
  EXPECT_EQ(look(), HF_OK);
}

TEST_F(ConnectionTest, NobodyThereIsSaidAtOnceAndLookedForNowAndThen) {
  kill_broker();
  client_.look();
  EXPECT_FALSE(client_.up());
  EXPECT_FALSE(client_.refused());
  EXPECT_EQ(client_.bring_up(kLook, false), HF_E_NO_BROKER);
  EXPECT_NE(std::string(last_failure()).find(path_), std::string::npos) << last_failure();
  EXPECT_EQ(std::string(last_failure()).find(directory_ + "/another"), std::string::npos)
      << "a broker there would be another one";
  start_broker();
  EXPECT_EQ(client_.bring_up(kLook, false), HF_E_NO_BROKER) << "not again so soon";
  EXPECT_FALSE(accept());
  EXPECT_EQ(client_.bring_up(kLook, true), HF_E_NO_BROKER);
  EXPECT_TRUE(accept());
  finish();
}

TEST_F(ConnectionTest, RequestFindsTheEndOfTheConnectionAndSaysWhoseItWas) {
  broker_.reset();
  EXPECT_EQ(client_.request("ping", json::object(), reply_, kLook, nullptr), HF_E_NO_BROKER);
  EXPECT_FALSE(client_.up());
  EXPECT_TRUE(client_.broken_by_broker());
  (void)look();
  ASSERT_TRUE(accept());
  finish();
  send("no reply at all\n");
  EXPECT_EQ(client_.request("ping", json::object(), reply_, kLook, nullptr), HF_E_NO_BROKER);
  EXPECT_FALSE(client_.up());
  EXPECT_FALSE(client_.broken_by_broker()) << "repeating the request would give the same";
}

TEST_F(ConnectionTest, HalfALineOfTheOldBrokerIsForgotten) {
  send("{\"jsonrpc\":\"2.0\",");
  cut_and_ask_again();
  finish();
}

TEST_F(ConnectionTest, UnknownSessionIsTheEnd) {
  const auto held = client_.hold(3);
  cut_and_ask_again();
  refuse(next(), control::Failure::kNotFound, "session 7 is not known here");
  EXPECT_EQ(look(), HF_E_CLOSED);
  EXPECT_NE(std::string(last_failure()).find("session 7 is not known here"), std::string::npos) << last_failure();
  EXPECT_NE(std::string(last_failure()).find("open a new client"), std::string::npos) << last_failure();
  EXPECT_TRUE(client_.refused());
  EXPECT_EQ(look(), HF_E_CLOSED);
  EXPECT_FALSE(accept()) << "it must not be asked again";
}

TEST_F(ConnectionTest, AnotherVersionIsTheEndAndNamesBoth) {
  cut_and_ask_again();
  refuse(next(), control::Failure::kVersion, "the client speaks protocol 1, this broker 2: update the older");
  EXPECT_EQ(look(), HF_E_VERSION);
  EXPECT_NE(std::string(last_failure()).find("protocol 1, this broker 2"), std::string::npos) << last_failure();
  EXPECT_TRUE(client_.refused());
}

TEST_F(ConnectionTest, AnswerOfAnotherVersionIsTheEndAndNamesBoth) {
  cut_and_ask_again();
  serve("resume.begin", {{"session", 7}, {"protocol", control::kProtocolVersion}, {"layout", 99}});
  EXPECT_EQ(look(), HF_E_VERSION);
  const std::string sentence = last_failure();
  EXPECT_NE(sentence.find("layout 99"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("layout " + std::to_string(shm::kLayoutVersion) + ":"), std::string::npos) << sentence;
  EXPECT_TRUE(client_.refused());
}

TEST_F(ConnectionTest, AnswerOfAnotherVersionToHelloBeginsNoSession) {
  const auto greet = [this](const json& result) {
    std::thread broker([&] {
      pollfd asked{broker_.get(), POLLIN, 0};
      EXPECT_EQ(::poll(&asked, 1, 60'000), 1);
      const json said = serve("hello", result);
      EXPECT_EQ(said["protocol"], control::kProtocolVersion);
      EXPECT_EQ(said["protocol_min"], control::kProtocolOldest);
      EXPECT_EQ(said["name"], "n");
    });
    const int code = client_.hello({{"name", "n"}}, reply_);
    broker.join();
    return code;
  };
  EXPECT_EQ(greet(kBegun), HF_OK);
  EXPECT_EQ(greet({{"session", 7}, {"protocol", 99}, {"layout", shm::kLayoutVersion}}), HF_E_VERSION);
  const std::string sentence = last_failure();
  EXPECT_NE(sentence.find("it speaks protocol 99"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("this library (libholdfast "), std::string::npos) << sentence;
  EXPECT_EQ(greet({{"session", 7}}), HF_E_VERSION) << "it says nothing about itself";
}

TEST_F(ConnectionTest, DeniedIsTheEnd) {
  cut_and_ask_again();
  refuse(next(), control::Failure::kDenied, "belongs to another uid");
  EXPECT_EQ(look(), HF_E_DENIED);
  EXPECT_TRUE(client_.refused());
}

TEST_F(ConnectionTest, BusyBrokerIsAskedAgain) {
  cut_and_ask_again();
  refuse(next(), control::Failure::kBusy, "full house");
  EXPECT_EQ(look(), HF_E_BUSY);
  EXPECT_FALSE(client_.refused());
  EXPECT_EQ(look(), HF_E_NO_BROKER);
  ASSERT_TRUE(accept());
  finish();
}

TEST_F(ConnectionTest, BrokerThatDiesWhileItResumesIsFollowedByAnother) {
  (void)client_.hold(3);
  cut_and_ask_again();
  serve("resume.begin", kBegun);
  EXPECT_EQ(look(), HF_E_NO_BROKER);
  restart_broker();
  EXPECT_EQ(look(), HF_E_NO_BROKER);
  EXPECT_FALSE(client_.resuming());
  EXPECT_EQ(look(), HF_E_NO_BROKER);
  ASSERT_TRUE(accept());
  EXPECT_EQ(next()["method"], "resume.begin") << "from the beginning";
}

TEST_F(ConnectionTest, BrokerThatDiesBehindItsLastAnswerIsNoticed) {
  cut_and_ask_again();
  serve("resume.begin", kBegun);
  (void)look();
  serve("resume.end", {{"dropped", 0}});
  restart_broker();
  EXPECT_NE(look(), HF_OK);
  EXPECT_EQ(client_.resumed(), 1u);
  EXPECT_FALSE(client_.up());
  (void)look();
  ASSERT_TRUE(accept());
  finish();
  EXPECT_EQ(client_.resumed(), 2u);
}

TEST_F(ConnectionTest, SlowBrokerIsNotAskedTwice) {
  cut_and_ask_again();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client_.bring_up(kLook, false), HF_E_NO_BROKER);
  Descriptor first = std::move(broker_);
  EXPECT_FALSE(accept());
  broker_ = std::move(first);
  finish();
}

TEST_F(ConnectionTest, HandleThatIsClosedAfterItWasListedIsClosedAfterwards) {
  (void)client_.hold(3);
  (void)client_.hold(4);
  cut_and_ask_again();
  serve("resume.begin", kBegun);
  (void)look();
  EXPECT_EQ(serve("resume.handles", {{"unknown", json::array()}})["handles"], (json{3, 4}));
  EXPECT_FALSE(client_.let_go(3)) << "nothing but the resumption goes out now";
  (void)look();
  serve("resume.end", {{"dropped", 0}});
  EXPECT_EQ(look(), HF_OK);
  const json request = next();
  EXPECT_EQ(request["method"], "close");
  EXPECT_EQ(request["params"], (json{{"handle", 3}}));
}

TEST_F(ConnectionTest, ErrandsSurviveTheBrokerUntilOneHasAnswered) {
  client_.add_errand("subscriber.release", {{"handle", 3}, {"lane", 1}});
  client_.send_errands();
  EXPECT_EQ(next()["method"], "subscriber.release");
  for (int broker = 0; broker < 2; ++broker) {
    cut_and_ask_again();
    finish();
    client_.send_errands();
  }
  // finish() took the errand for a step of the resumption, and has answered it.
  cut_and_ask_again();
  serve("resume.begin", kBegun);
  (void)look();
  serve("resume.end", {{"dropped", 0}});
  EXPECT_EQ(look(), HF_OK);
  EXPECT_TRUE(next().is_null());
}

// The broker has opened something under the key, and nobody will ever hear of it.
TEST_F(ConnectionTest, KeyThatIsGivenUpWhileTheBrokerResumesIsNotListedAgain) {
  client_.begin_open(1);
  client_.begin_open(2);
  cut_and_ask_again();
  serve("resume.begin", kBegun);
  (void)look();
  EXPECT_EQ(serve("resume.handles", {{"unknown", json::array()}})["keys"], (json{1, 2}));
  (void)look();
  EXPECT_EQ(next()["method"], "resume.end");
  client_.end_open(1);
  EXPECT_FALSE(client_.resuming()) << "what ends now would keep it";
  EXPECT_FALSE(client_.up());
  EXPECT_EQ(look(), HF_E_NO_BROKER);
  ASSERT_TRUE(accept());
  serve("resume.begin", kBegun);
  (void)look();
  EXPECT_EQ(serve("resume.handles", {{"unknown", json::array()}})["keys"], (json{2}));
  (void)look();
  serve("resume.end", {{"dropped", 1}});
  EXPECT_EQ(look(), HF_OK);
  client_.end_open(2);
  EXPECT_TRUE(client_.up());
}

TEST_F(ConnectionTest, KeyThatIsGivenUpBeforeItWasListedCutsNothing) {
  client_.begin_open(1);
  cut_and_ask_again();
  client_.end_open(1);
  EXPECT_TRUE(client_.resuming());
  finish();
}

TEST_F(ConnectionTest, DrainingIsTheEndOfTheConnection) {
  EXPECT_EQ(client_.request("publisher.open", json::object(), reply_, kLook, nullptr), HF_TIMEOUT);
  refuse(next(), control::Failure::kDraining, "the broker is shutting down");
  EXPECT_EQ(client_.take_late(), HF_OK);
  EXPECT_TRUE(client_.up()) << "nobody waits for this one";
  std::thread broker([&] {
    pollfd asked{broker_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&asked, 1, 60'000), 1);
    refuse(next(), control::Failure::kDraining, "the broker is shutting down");
  });
  EXPECT_EQ(client_.request("publisher.open", json::object(), reply_, 60'000'000'000, nullptr), HF_E_NO_BROKER);
  broker.join();
  EXPECT_FALSE(client_.up());
  EXPECT_FALSE(client_.refused());
  EXPECT_TRUE(client_.broken_by_broker()) << "to be repeated";
}

TEST_F(ConnectionTest, GivingUpLastsUntilTheBrokerIsBack) {
  client_.give_up();
  EXPECT_TRUE(client_.gave_up());
  cut_and_ask_again();
  finish();
  EXPECT_FALSE(client_.gave_up());
}

}  // namespace
}  // namespace holdfast::client
