// SPDX-License-Identifier: MIT
//
// Requests that are answered late, half-sent, wrongly or not at all. The other side is played by the test, mostly step
// by step on the same thread: what a socket holds needs nobody who waits.
#include "client/src/control_socket.hpp"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "client/src/failure.hpp"

namespace holdfast::client {
namespace {

std::uint64_t inode(int fd) {
  struct stat file{};
  return ::fstat(fd, &file) == 0 ? file.st_ino : 0;
}

class ControlSocketTest : public ::testing::Test {
 protected:
  ControlSocketTest() {
    std::string directory = ::testing::TempDir() + "holdfast-control-XXXXXX";
    EXPECT_NE(::mkdtemp(directory.data()), nullptr);
    directory_ = directory;
    const std::string path = directory_ + "/socket";
    const Descriptor listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listening.get(), 1), 0);
    EXPECT_EQ(client_.connect({path}, kTimeoutNs), HF_OK);
    broker_ = Descriptor(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  ~ControlSocketTest() override { std::filesystem::remove_all(directory_); }

  // What the client has sent so far, as lines.
  std::vector<nlohmann::json> sent() {
    char bytes[65536];
    for (ssize_t n; (n = ::recv(broker_.get(), bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
      read_.append(bytes, static_cast<std::size_t>(n));
    std::vector<nlohmann::json> lines;
    for (std::size_t end; (end = read_.find('\n')) != std::string::npos; read_.erase(0, end + 1))
      lines.push_back(nlohmann::json::parse(read_.substr(0, end)));
    return lines;
  }

  void send(const std::string& line, const std::vector<int>& fds = {}) {
    alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {};
    iovec part{const_cast<char*>(line.data()), line.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    ASSERT_EQ(::sendmsg(broker_.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(line.size()));
  }

  void answer(std::uint64_t id, const nlohmann::json& result, const std::vector<int>& fds = {}) {
    nlohmann::json listed = result;
    for (std::size_t i = 0; i < fds.size(); ++i) listed["fds"].push_back({{"kind", "event"}});
    send(control::result_line(id, listed), fds);
  }

  static constexpr std::int64_t kLook = 0;
  static constexpr std::int64_t kTimeoutNs = 1'000'000'000;

  // A request that is given up at once. Its late reply, once it has come, is kept.
  int ask(const char* method, const nlohmann::json& params = nlohmann::json::object()) {
    Reply none;
    return client_.request(method, params, none, kLook, [this](Reply& reply) { late_.push_back(std::move(reply)); });
  }

  std::string directory_;
  Descriptor broker_;
  std::string read_;
  ControlSocket client_;
  Reply reply_;
  std::vector<Reply> late_;
};

TEST_F(ControlSocketTest, GivenUpRequestCostsOnlyItself) {
  const std::int64_t began_ns = monotonic_ns();
  EXPECT_EQ(ask("slow"), HF_TIMEOUT);
  EXPECT_NE(std::string(last_failure()).find("slow"), std::string::npos) << last_failure();
  EXPECT_TRUE(client_.awaits_reply());
  EXPECT_LE(client_.owed_until_ns(), monotonic_ns() + kTimeoutNs) << "as long as its request was to be given";
  EXPECT_GE(client_.owed_until_ns(), began_ns + kTimeoutNs);
  std::thread answering([this] {
    std::size_t asked = 0;
    while (asked < 2) asked += sent().size();
    answer(1, {{"of", "slow"}});
    answer(2, {{"of", "next"}});
  });
  EXPECT_EQ(client_.request("next", nlohmann::json::object(), reply_, 60'000'000'000, nullptr), HF_OK);
  answering.join();
  EXPECT_EQ(reply_.result["of"], "next");
  ASSERT_EQ(late_.size(), 1u);
  EXPECT_EQ(late_[0].result["of"], "slow");
}

TEST_F(ControlSocketTest, LateReplyIsMatchedByItsIdBeforeTheNextQuestion) {
  EXPECT_EQ(ask("slow"), HF_TIMEOUT);
  answer(1, {{"of", "slow"}});
  EXPECT_EQ(ask("next"), HF_TIMEOUT);
  ASSERT_EQ(late_.size(), 1u);
  EXPECT_EQ(late_[0].result["of"], "slow");
  answer(2, {{"of", "next"}});
  EXPECT_EQ(client_.take_late(), HF_OK);
  ASSERT_EQ(late_.size(), 2u);
  EXPECT_EQ(late_[1].result["of"], "next");
  EXPECT_FALSE(client_.awaits_reply());
}

TEST_F(ControlSocketTest, DescriptorsGoWithTheLinesThatListThem) {
  const Descriptor one(::memfd_create("one", MFD_CLOEXEC));
  const Descriptor two(::memfd_create("two", MFD_CLOEXEC));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ask("event"), HF_TIMEOUT);
  answer(1, {{"n", 1}}, {one.get(), two.get()});
  answer(2, {{"n", 2}});
  answer(3, {{"n", 3}}, {two.get()});
  EXPECT_EQ(client_.take_late(), HF_OK);
  ASSERT_EQ(late_.size(), 3u);
  ASSERT_EQ(late_[0].fds.size(), 2u);
  EXPECT_EQ(inode(late_[0].fds[0].get()), inode(one.get()));
  EXPECT_EQ(inode(late_[0].fds[1].get()), inode(two.get()));
  EXPECT_EQ(late_[1].fds.size(), 0u);
  ASSERT_EQ(late_[2].fds.size(), 1u);
  EXPECT_EQ(inode(late_[2].fds[0].get()), inode(two.get()));
}

TEST_F(ControlSocketTest, LateRefusalIsAnEmptyReply) {
  EXPECT_EQ(ask("slow"), HF_TIMEOUT);
  (void)fail(HF_E_INVALID, "before");
  send(control::error_line(1, control::Failure::kNotFound, "no such thing"));
  EXPECT_EQ(client_.take_late(), HF_OK);
  ASSERT_EQ(late_.size(), 1u);
  EXPECT_TRUE(late_[0].result.is_null());
  EXPECT_STREQ(last_failure(), "before");
}

TEST_F(ControlSocketTest, EndOfTheConnectionIsAnEmptyReplyForWhoeverStillWaits) {
  EXPECT_EQ(ask("one"), HF_TIMEOUT);
  EXPECT_EQ(ask("two"), HF_TIMEOUT);
  broker_.reset();
  EXPECT_EQ(ask("three"), HF_E_NO_BROKER);
  ASSERT_EQ(late_.size(), 2u) << "the third was told at once";
  EXPECT_LT(client_.fd(), 0);
}

TEST_F(ControlSocketTest, HalfSentLineIsFinishedBeforeTheNext) {
  const nlohmann::json large{{"filler", std::string(60'000, 'x')}};
  for (int i = 0; i < 20; ++i)  // the socket is full before the last
    ASSERT_EQ(client_.request("fill", large, reply_, kLook, nullptr), HF_TIMEOUT);
  const std::vector<nlohmann::json> lines = sent();
  EXPECT_GT(lines.size(), 0u);
  EXPECT_LT(lines.size(), 20u);
  // What was not begun is taken back; what was begun goes on where it stopped.
  EXPECT_EQ(ask("after"), HF_TIMEOUT);
  const std::vector<nlohmann::json> rest = sent();
  ASSERT_FALSE(rest.empty());
  EXPECT_EQ(rest.back()["method"], "after");
  for (const nlohmann::json& line : rest)
    if (line != rest.back()) {
      EXPECT_EQ(line["params"], large);
    }
  answer(rest.back()["id"], {{"of", "after"}});
  EXPECT_EQ(client_.take_late(), HF_OK);
  ASSERT_EQ(late_.size(), 1u);
}

TEST_F(ControlSocketTest, AnswerToNothingEndsTheConnection) {
  answer(7, nlohmann::json::object());
  EXPECT_EQ(client_.take_late(), HF_E_NO_BROKER);
  EXPECT_LT(client_.fd(), 0);
}

TEST_F(ControlSocketTest, RefusedConnectionSaysWhy) {
  send(control::error_line(nullptr, control::Failure::kBusy, "full house"));
  broker_.reset();
  EXPECT_EQ(ask("hello"), HF_E_BUSY);
  EXPECT_STREQ(last_failure(), "full house");
}

}  // namespace
}  // namespace holdfast::client
