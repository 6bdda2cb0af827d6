// SPDX-License-Identifier: MIT
//
// The real daemon: start, stop, hostile frames, deaths, restarts. Clients here are sockets and nothing else.
#include <algorithm>
#include <csignal>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/daemon/daemon_process.hpp"
#include "tests/integration/control.hpp"
#include "tests/integration/instance_files.hpp"

namespace holdfast::daemon {
namespace {

using integration::eventually;
using integration::RawControl;
using integration::Reply;
using nlohmann::json;

std::string error_of(const Reply& reply) {
  return reply.failed() ? reply.document["error"]["data"]["error"].get<std::string>() : "";
}

json stats(const DaemonProcess& daemon) { return RawControl(daemon.socket()).request("stats").result(); }

// Says that this process is the session's, as long as it keeps the reply's descriptors.
bool lock_session(const Reply& hello) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  return ::fcntl(hello.fd("session"), F_SETLK, &lock) == 0;
}

// A client process: says hello, holds the session lock, opens a lossless subscriber, and waits to be killed.
pid_t spawn_reader(const DaemonProcess& daemon, bool subscribe) {
  int ready[2];
  if (::pipe(ready) != 0) return -1;
  const pid_t pid = ::fork();
  if (pid != 0) {
    char answer = 0;
    EXPECT_EQ(::read(ready[0], &answer, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
    return pid;
  }
  RawControl control(daemon.socket());
  const Reply hello = control.hello("reader");
  if (!lock_session(hello)) ::_exit(1);
  if (subscribe && control.request("subscriber.open", {{"topic", "t"}, {"delivery", "lossless"}}).failed()) ::_exit(2);
  if (::write(ready[1], "y", 1) != 1) ::_exit(3);
  while (true) ::pause();
}

TEST(Daemon, AnswersAndLeavesNothing) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  {
    RawControl control(daemon.socket());
    EXPECT_EQ(control.request("ping").result()["epoch"], 1);
    const Reply hello = control.hello();
    EXPECT_EQ(hello.fds.size(), 3U);
    const Reply opened = control.request("publisher.open", {{"topic", "t"}});
    ASSERT_FALSE(opened.failed());
    struct stat file{};
    ASSERT_EQ(::fstat(opened.fd("lane"), &file), 0);
    EXPECT_EQ(file.st_size, opened.result()["lane"]["bytes"]);
    EXPECT_EQ(daemon.shm_files().size(), 4U);
  }
  EXPECT_EQ(daemon.stop(SIGTERM), 0) << daemon.log();
  EXPECT_TRUE(daemon.shm_files().empty());
  EXPECT_FALSE(std::filesystem::exists(daemon.directory().file("run"))) << "it had made it";
}

TEST(Daemon, KeepsADirectoryThatItHasNotMade) {
  DaemonProcess daemon;
  std::filesystem::create_directory(daemon.directory().file("run"));
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(daemon.stop(SIGINT), 0);
  EXPECT_TRUE(std::filesystem::is_empty(daemon.directory().file("run")));
}

TEST(Daemon, ASecondOneIsToldWhoIsThere) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  std::string output;
  EXPECT_EQ(run_to_end({"--instance", daemon.instance(), "--runtime-dir", daemon.directory().file("run")}, output), 1);
  EXPECT_NE(output.find("pid " + std::to_string(daemon.pid())), std::string::npos) << output;
  EXPECT_FALSE(RawControl(daemon.socket()).request("ping").failed());
}

// Its own runtime directory gives a broker no instance of its own: it would sweep what the first one has made.
TEST(Daemon, ASecondOneElsewhereIsToldWhoIsThereAndTouchesNothing) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const pid_t reader = spawn_reader(daemon, true);
  const auto files = integration::all_files_of_instance(daemon.instance());
  const TemporaryDirectory other;
  std::string output;
  EXPECT_EQ(run_to_end({"--instance", daemon.instance(), "--runtime-dir", other.file("run")}, output), 1);
  EXPECT_NE(output.find("pid " + std::to_string(daemon.pid()) + ", runtime directory " +
                        daemon.directory().file("run") + " "),
            std::string::npos)
      << output;
  EXPECT_NE(output.find("--instance"), std::string::npos) << "what to do: " << output;
  EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 1) << output;
  EXPECT_EQ(integration::all_files_of_instance(daemon.instance()), files);
  EXPECT_FALSE(std::filesystem::exists(other.file("run")));
  EXPECT_EQ(stats(daemon)["subscribers"], 1);
  // The lock is gone with its holder: another one may start anywhere, at once.
  EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  {
    DaemonProcess next(daemon.instance());
    ASSERT_TRUE(next.start()) << next.log();
    ::kill(reader, SIGKILL);
    ::waitpid(reader, nullptr, 0);
    EXPECT_TRUE(eventually([&] { return next.shm_files().size() == 1; })) << "its registry knows of nothing else";
  }
}

TEST(Daemon, ASocketThatSomebodyServesAtIsNotTaken) {
  DaemonProcess first;
  ASSERT_TRUE(first.start());
  DaemonProcess second;
  EXPECT_FALSE(second.start({"--socket", first.socket()}));
  EXPECT_NE(second.log().find("somebody serves at " + first.socket()), std::string::npos) << second.log();
  EXPECT_EQ(RawControl(first.socket()).request("ping").result().at("instance"), first.instance());
  // And what has taken its place is not removed with it.
  ASSERT_EQ(::unlink(first.socket().c_str()), 0);
  const Descriptor other(::open(first.socket().c_str(), O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0600));
  ASSERT_TRUE(other);
  EXPECT_EQ(first.stop(SIGTERM), 0);
  EXPECT_EQ(::unlink(first.socket().c_str()), 0) << "it is there";
}

TEST(Daemon, OfTwoThatStartAtTheSameMomentOneServes) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const std::string instance = "daemon-twins-" + std::to_string(::getpid()) + "-" + std::to_string(round);
    DaemonProcess first(instance);
    DaemonProcess second(instance);
    ASSERT_TRUE(first.launch() && second.launch());
    const bool first_serves = first.ready();
    ASSERT_NE(first_serves, second.ready()) << first.log() << second.log();
    DaemonProcess& serves = first_serves ? first : second;
    const DaemonProcess& refused = first_serves ? second : first;
    EXPECT_NE(refused.log().find("pid " + std::to_string(serves.pid()) + ", runtime directory "), std::string::npos)
        << refused.log();
    EXPECT_EQ(serves.shm_files().size(), 1U);
    EXPECT_FALSE(RawControl(serves.socket()).request("ping").failed());
    EXPECT_EQ(serves.stop(SIGTERM), 0);
  }
}

// Two containers may share /dev/shm and not see each other's processes.
TEST(Daemon, ASecondOneInAnotherPidNamespaceIsRefused) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const TemporaryDirectory other;
  std::string output;
  const int status = run_to_end({"--instance", daemon.instance(), "--runtime-dir", other.file("run")}, output,
                                {"unshare", ::geteuid() == 0 ? "-pf" : "-rpf"});
  if (output.find("unshare: ") != std::string::npos) GTEST_SKIP() << "not_run: no pid namespace here: " << output;
  EXPECT_EQ(status, 1);
  EXPECT_NE(output.find("in another pid namespace, runtime directory " + daemon.directory().file("run")),
            std::string::npos)
      << output;
}

TEST(Daemon, ChecksItsConfiguration) {
  const TemporaryDirectory directory;
  const std::string good = directory.write("good.toml", "instance = \"lab\"\n");
  const std::string bad = directory.write("bad.toml", "instance = \"lab\"\nsokcet = \"x\"\n");
  std::string output;
  EXPECT_EQ(run_to_end({"--check-config", "--config", good}, output), 0);
  EXPECT_NE(output.find("lab"), std::string::npos);
  EXPECT_EQ(run_to_end({"--check-config", "--config", bad}, output), 2);
  EXPECT_NE(output.find("bad.toml:2:1"), std::string::npos) << output;
  EXPECT_EQ(run_to_end({"--version"}, output), 0);
  EXPECT_EQ(output.rfind("holdfastd ", 0), 0U);
  EXPECT_EQ(run_to_end({"--no-such-flag"}, output), 2);
  EXPECT_EQ(run_to_end({"--instance", "a.b"}, output), 2);
}

TEST(Daemon, SurvivesHostileFrames) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const auto answer = [&](const std::string& text) {
    RawControl control(daemon.socket());
    control.send(text);
    const std::string error = error_of(control.receive());
    if (error == "parse") EXPECT_TRUE(control.closed_by_broker());
    return error;
  };
  EXPECT_EQ(answer("not json\n"), "parse");
  EXPECT_EQ(answer(std::string(200, '[') + "\n"), "parse");
  EXPECT_EQ(answer(std::string(70'000, 'a')), "parse");
  EXPECT_EQ(answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}\n"), "parse");
  EXPECT_EQ(answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"topics\",\"params\":{\"limit\":1,\"limit\":2}}\n"),
            "parse");
  EXPECT_EQ(answer("{}\n"), "request");
  EXPECT_EQ(answer("[]\n"), "request");
  EXPECT_EQ(answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\u0000\"}\n"), "method");
  EXPECT_EQ(answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"protocol\":-1}}\n"), "invalid");
  // A line that fills the limit exactly is fine.
  std::string longest = R"({"jsonrpc":"2.0","id":1,"method":"ping"})";
  longest += std::string(65'535 - longest.size(), ' ') + "\n";
  EXPECT_EQ(answer(longest), "");
  EXPECT_EQ(stats(daemon)["sessions"], 0);
}

TEST(Daemon, AnswersPipelinedRequestsInOrder) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += R"({"jsonrpc":"2.0","id":)" + std::to_string(i) +
            R"(,"method":"ping"})"
            "\n";
  control.send(text);
  for (int i = 0; i < 300; ++i) ASSERT_EQ(control.receive().document["id"], i);
}

TEST(Daemon, ListsComeInPagesThatFitALine) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());
  control.hello();
  constexpr int kTopics = 400;
  for (int i = 0; i < kTopics; ++i)
    ASSERT_FALSE(
        control.request("subscriber.open", {{"topic", "a/long/name/of/a/topic/" + std::to_string(i)}}).failed());
  std::size_t seen = 0;
  int pages = 0;
  json after = nullptr;
  do {
    const json page = control.request("topics", {{"limit", 500}, {"after", after}}).result();
    EXPECT_LE(page.dump().size(), 65'536U);
    seen += page["topics"].size();
    after = page["next"];
    ++pages;
  } while (!after.is_null());
  EXPECT_EQ(seen, static_cast<std::size_t>(kTopics));
  EXPECT_GT(pages, 1) << "a page ends where the line does";
}

TEST(Daemon, AKilledSubscriberIsOffTheRosterAtOnce) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());
  control.hello();
  const Reply opened = control.request("publisher.open", {{"topic", "t"}});
  const pid_t reader = spawn_reader(daemon, true);
  const auto readers = [&] {
    return control.request("topics", {{"name", "t"}}).result()["topics"][0]["lanes"][0]["readers"].get<int>();
  };
  EXPECT_EQ(readers(), 1);
  ::kill(reader, SIGKILL);
  EXPECT_TRUE(eventually([&] { return readers() == 0; }));
  ::waitpid(reader, nullptr, 0);
  EXPECT_EQ(stats(daemon)["sessions"], 1);
}

TEST(Daemon, AHangUpOfALiveProcessKeepsItsSession) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  auto control = std::make_unique<RawControl>(daemon.socket());
  std::optional<Reply> hello = control->hello();
  ASSERT_TRUE(lock_session(*hello));
  control.reset();
  RawControl other(daemon.socket());
  EXPECT_TRUE(eventually([&] { return other.request("sessions").result()["sessions"][0]["connected"] == false; }));
  EXPECT_EQ(stats(daemon)["sessions"], 1);
  // As a program that becomes another one, or gave the broker up.
  hello.reset();
  EXPECT_TRUE(eventually([&] { return stats(daemon)["sessions"] == 0; }));
}

// A client that closed while there was no broker, and one whose broker is too new for it, say no `bye`.
TEST(Daemon, ASessionThatIsLetGoOfAfterARestartEnds) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());  // while it is there nobody asks the lock
  std::optional<Reply> hello = control.hello();
  ASSERT_TRUE(lock_session(*hello));
  EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(stats(daemon)["sessions"], 1);
  hello.reset();
  EXPECT_TRUE(eventually([&] { return daemon.shm_files().size() == 1; })) << "the roster";
}

// Nobody can be asked whether it lives.
TEST(Daemon, ASessionWhoseFileIsMissingHasEnded) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());
  const Reply hello = control.hello();
  ASSERT_TRUE(lock_session(hello));
  EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  for (const std::string& name : daemon.shm_files())
    if (name.find(".session.") != std::string::npos) EXPECT_EQ(::shm_unlink(("/" + name).c_str()), 0);
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(stats(daemon)["sessions"], 0);
  EXPECT_EQ(daemon.shm_files().size(), 1U) << "the roster";
}

// Whatever it had done of the `bye` by then, the next one does the rest: no row has lost its file.
TEST(Daemon, KilledWhileSessionsEndItLeavesNoneOfNobody) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  for (std::size_t round = 0; round < 30; ++round) {
    {
      std::vector<RawControl> controls;
      std::vector<Reply> hellos;
      for (int i = 0; i < 10; ++i) {
        controls.emplace_back(daemon.socket());
        hellos.push_back(controls.back().hello());
        ASSERT_TRUE(lock_session(hellos.back()));
      }
      for (RawControl& control : controls)
        control.send(R"({"jsonrpc":"2.0","id":1,"method":"bye"})"
                     "\n");
      // So many are answered before it dies.
      for (std::size_t i = 0; i < round % 10; ++i) EXPECT_FALSE(controls[i].receive().failed());
      EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
    }
    ASSERT_TRUE(daemon.start()) << daemon.log();
    EXPECT_EQ(stats(daemon)["sessions"], 0);
  }
  EXPECT_EQ(daemon.log().find("is lost"), std::string::npos) << daemon.log();
}

// In a mount namespace of its own, where /dev/shm has 16 MiB.
TEST(Daemon, MemoryOfALaneThatLingersIsThereForTheNext) {
  DaemonProcess daemon;
  const bool started = daemon.start({}, 0,
                                    {"unshare", ::geteuid() == 0 ? "-m" : "-rm", "sh", "-c",
                                     "mount -t tmpfs -o size=16m tmpfs /dev/shm && exec \"$0\" \"$@\""});
  if (!started) GTEST_SKIP() << "not_run: no mount namespace here: " << daemon.log();
  RawControl control(daemon.socket());
  control.hello();
  for (int i = 0; i < 3; ++i) {
    const std::string topic = "t" + std::to_string(i);
    const json opened =
        control.request("publisher.open", {{"topic", topic}, {"options", {{"linger_ms", -1}}}}).result();
    const Reply grown = control.request("lane.grow", {{"handle", opened["handle"]}, {"bytes", 10 << 20}});
    EXPECT_FALSE(grown.failed()) << grown.document;
    EXPECT_FALSE(control.request("close", {{"handle", opened["handle"]}}).failed());
  }
}

TEST(Daemon, AKilledPublishersLaneIsAborted) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const pid_t writer = ::fork();
  if (writer == 0) {
    RawControl control(daemon.socket());
    control.hello();
    (void)control.request("publisher.open", {{"topic", "t"}});
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(writer, nullptr, 0);
  RawControl control(daemon.socket());
  EXPECT_TRUE(eventually([&] {
    const json topics = control.request("topics").result()["topics"];
    return !topics.empty() && topics[0]["lanes"][0]["state"] == "aborted";
  }));
}

TEST(Daemon, ANewOneAdoptsWhatLivesAndEndsWhatDoesNot) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const pid_t reader = spawn_reader(daemon, true);
  RawControl dead(daemon.socket());  // while it is there nobody asks the lock
  dead.hello();
  (void)dead.request("publisher.open", {{"topic", "t"}});
  EXPECT_EQ(daemon.shm_files().size(), 6U);
  EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  // This process holds no lock: its session counts as dead, and its lane lingers. The reader's session goes on.
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const json after = stats(daemon);
  EXPECT_EQ(after["epoch"], 2);
  EXPECT_EQ(after["swept_segments"], 2);
  EXPECT_EQ(after["sessions"], 1);
  EXPECT_EQ(after["lanes"], 1);
  EXPECT_EQ(daemon.shm_files().size(), 4U);
  RawControl control(daemon.socket());
  EXPECT_EQ(control.hello().result()["session"], 3) << "ids are never given again";
  ::kill(reader, SIGKILL);
  EXPECT_TRUE(eventually([&] { return daemon.shm_files().size() == 4U; })) << "roster, lane, and ours";
  ::waitpid(reader, nullptr, 0);
}

// A client that lives through the broker's death, with the raw protocol.
TEST(Daemon, ASessionResumesWithTheNextOne) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  auto control = std::make_unique<RawControl>(daemon.socket());
  const Reply hello = control->hello();
  const json& greeted = hello.result();
  ASSERT_TRUE(lock_session(hello));
  const json publisher = control->request("publisher.open", {{"topic", "t"}, {"key", 7}}).result();
  const json subscriber = control->request("subscriber.open", {{"topic", "t"}, {"key", 8}}).result();
  const json unlisted = control->request("subscriber.open", {{"topic", "u"}}).result();
  const json topics = control->request("topics").result();
  EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  const auto files = daemon.shm_files();
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(daemon.shm_files(), files) << "the same files";
  EXPECT_EQ(stats(daemon)["sessions"], 1);

  RawControl again(daemon.socket());
  const json who{{"protocol", 1}, {"layout", 1}, {"session", greeted["session"]}, {"token", greeted["token"]}};
  json wrong = who;
  wrong["token"] = "0123";
  EXPECT_EQ(error_of(again.request("resume.begin", wrong)), "not_found");
  wrong = who;
  wrong["session"] = 99;
  EXPECT_EQ(error_of(again.request("resume.begin", wrong)), "not_found");
  wrong = who;
  wrong["layout"] = 9;
  EXPECT_EQ(error_of(again.request("resume.begin", wrong)), "version");
  EXPECT_EQ(error_of(again.request("resume.end")), "request") << "nothing was begun";
  EXPECT_EQ(again.request("resume.begin", who).result()["epoch"], 2);
  EXPECT_EQ(error_of(again.request("topics")), "request");
  EXPECT_EQ(again.request("resume.handles", {{"handles", {publisher["handle"], 4711, subscriber["handle"]}}}).result(),
            (json{{"unknown", {4711}}}));
  EXPECT_EQ(again.request("resume.end").result(), (json{{"dropped", 1}}));
  EXPECT_EQ(error_of(again.request("close", {{"handle", unlisted["handle"]}})), "not_found");
  const json after = again.request("topics").result()["topics"];
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after[0]["lanes"], topics["topics"][0]["lanes"]);
  EXPECT_EQ(after[0]["subscriptions"], topics["topics"][0]["subscriptions"]);
  // Asked again, the same answers.
  EXPECT_EQ(again.request("publisher.open", {{"topic", "t"}, {"key", 7}}).result()["lane"], publisher["lane"]);
  EXPECT_EQ(again.request("subscriber.open", {{"topic", "t"}, {"key", 8}}).result()["handle"], subscriber["handle"]);
  EXPECT_EQ(error_of(again.request("publisher.open", {{"topic", "v"}, {"key", 7}})), "mismatch");
  EXPECT_EQ(error_of(again.request("publisher.open", {{"topic", "t"}, {"key", 8}})), "mismatch");
  const std::uint64_t size = publisher["lane"]["bytes"];
  const json grow{{"handle", publisher["handle"]}, {"bytes", 8192}, {"size", size}};
  EXPECT_EQ(again.request("lane.grow", grow).result()["size"], size + 8192);
  EXPECT_EQ(again.request("lane.grow", grow).result()["size"], size + 8192);
  EXPECT_EQ(stats(daemon)["publishers"], 1);
  // A newer connection takes the session; the older one is cut.
  RawControl newest(daemon.socket());
  EXPECT_TRUE(newest.request("resume.begin", who).result().contains("epoch"));
  EXPECT_TRUE(again.request("topics").result().contains("topics")) << "begun is not done";
  EXPECT_EQ(newest.request("resume.end").result()["dropped"], 2);
  EXPECT_TRUE(again.closed_by_broker());
  EXPECT_EQ(stats(daemon)["sessions"], 1);
  EXPECT_FALSE(newest.request("bye").failed());
  EXPECT_EQ(stats(daemon)["sessions"], 0);
}

TEST(Daemon, HandsOverToTheNextOne) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const pid_t reader = spawn_reader(daemon, true);
  const auto files = daemon.shm_files();
  EXPECT_EQ(daemon.stop(SIGUSR1), 0) << daemon.log();
  EXPECT_EQ(daemon.shm_files(), files);
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(stats(daemon)["epoch"], 2);
  EXPECT_EQ(stats(daemon)["subscribers"], 1);
  EXPECT_EQ(daemon.shm_files(), files);
  EXPECT_EQ(daemon.stop(SIGTERM), 0);
  EXPECT_TRUE(daemon.shm_files().empty());
  EXPECT_FALSE(std::filesystem::exists(daemon.directory().file("run/" + daemon.instance() + ".db")));
  ::kill(reader, SIGKILL);
  ::waitpid(reader, nullptr, 0);
}

TEST(Daemon, TerminationRemovesWhatLiveSessionsOfEarlierOnesHold) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  const pid_t reader = spawn_reader(daemon, false);
  EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(daemon.shm_files().size(), 3U);
  EXPECT_EQ(daemon.stop(SIGTERM), 0);
  EXPECT_TRUE(daemon.shm_files().empty());
  ::kill(reader, SIGKILL);
  ::waitpid(reader, nullptr, 0);
}

// Of the sessions it knows nothing, but that somebody holds them.
TEST(Daemon, WhatARegistryThatWasSetAsideKnewGoesWhenNobodyHoldsIt) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  std::optional<Reply> hello;
  {
    RawControl control(daemon.socket());
    hello = control.hello();
    ASSERT_TRUE(lock_session(*hello));
    ASSERT_FALSE(control.request("publisher.open", {{"topic", "t"}}).failed());
    EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  }
  std::filesystem::remove(daemon.directory().file("run/" + daemon.instance() + ".db-wal"));
  daemon.directory().write("run/" + daemon.instance() + ".db", std::string(10'000, 'x'));
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(daemon.shm_files().size(), 3U) << "the roster, session and lane";
  // The program was told, closed its client, and lives on.
  hello.reset();
  EXPECT_TRUE(eventually([&] { return daemon.shm_files().size() == 1; }));
}

// An impatient Ctrl-C, or a supervisor that says it again.
TEST(Daemon, ToldTwiceToStopItLeavesNothing) {
  for (const int second : {SIGTERM, SIGINT, SIGUSR1}) {
    DaemonProcess daemon;
    ASSERT_TRUE(daemon.start()) << daemon.log();
    {
      // Much to remove.
      RawControl control(daemon.socket());
      control.hello();
      for (int i = 0; i < 300; ++i)
        ASSERT_FALSE(control.request("publisher.open", {{"topic", "t" + std::to_string(i)}}).failed());
    }
    ASSERT_EQ(::kill(daemon.pid(), SIGTERM), 0);
    const std::size_t before = daemon.shm_files().size();
    EXPECT_TRUE(eventually([&] { return daemon.shm_files().size() < before || daemon.shm_files().empty(); }));
    EXPECT_EQ(daemon.stop(second), 0) << daemon.log();
    EXPECT_TRUE(daemon.shm_files().empty());
    EXPECT_FALSE(std::filesystem::exists(daemon.socket()));
  }
}

TEST(Daemon, SetsADamagedRegistryAside) {
  DaemonProcess daemon;
  std::filesystem::create_directory(daemon.directory().file("run"));
  daemon.directory().write("run/" + daemon.instance() + ".db", std::string(10'000, 'x'));
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(stats(daemon)["epoch"], 1);
  EXPECT_NE(daemon.log().find(".aside"), std::string::npos);
}

// In a mount namespace of its own, where /dev/shm has two pages.
int start_without_room(const DaemonProcess& daemon, std::string& output) {
  return run_to_end({"--instance", daemon.instance(), "--runtime-dir", daemon.directory().file("run")}, output,
                    {"unshare", ::geteuid() == 0 ? "-m" : "-rm", "sh", "-c",
                     "mount -t tmpfs -o size=8k tmpfs /dev/shm || exit 99; exec \"$0\" \"$@\""});
}

TEST(Daemon, AFullSharedMemoryIsToldAndLeavesNothing) {
  DaemonProcess daemon;
  std::filesystem::create_directory(daemon.directory().file("run"));
  std::string output;
  const int status = start_without_room(daemon, output);
  if (status == 99 || status == 127 || output.find("unshare: ") != std::string::npos)
    GTEST_SKIP() << "no mount namespace here: status " << status << ", " << output;
  ASSERT_EQ(status, 1) << output;
  EXPECT_NE(output.find("16384 bytes"), std::string::npos) << output;
  EXPECT_NE(output.find("4096 are free"), std::string::npos) << output;
  EXPECT_EQ(output.find("Success"), std::string::npos) << output;
  EXPECT_TRUE(std::filesystem::is_empty(daemon.directory().file("run")));
  // What an earlier broker left is its successor's, and stays.
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(daemon.stop(SIGKILL), 128 + SIGKILL);
  EXPECT_EQ(start_without_room(daemon, output), 1) << output;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  EXPECT_EQ(stats(daemon)["epoch"], 3);
}

TEST(Daemon, ClosedStandardDescriptorsAreNotReused) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start({}, 0, {"sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"}));
  for (const char* fd : {"0", "1", "2"})
    EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(daemon.pid()) + "/fd/" + fd), "/dev/null");
  EXPECT_FALSE(RawControl(daemon.socket()).request("ping").failed());
}

TEST(Daemon, RefusesAFileThatIsNoSocket) {
  DaemonProcess daemon;
  std::filesystem::create_directory(daemon.directory().file("run"));
  daemon.directory().write("run/" + daemon.instance() + ".sock", "precious");
  EXPECT_FALSE(daemon.start());
  EXPECT_NE(daemon.log().find("no socket"), std::string::npos) << daemon.log();
  EXPECT_TRUE(std::filesystem::exists(daemon.socket()));
}

TEST(Daemon, MoreThanTheMachineHasIsNoMemory) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());
  control.hello();
  const std::uint64_t huge = std::uint64_t{1} << 43;
  for (const char* backing : {"named", "sealed"}) {
    const json opened = control
                            .request("publisher.open",
                                     {{"topic", backing}, {"options", {{"bytes_max", 2 * huge}, {"backing", backing}}}})
                            .result();
    const Reply grown = control.request("lane.grow", {{"handle", opened["handle"]}, {"bytes", huge}});
    EXPECT_EQ(error_of(grown), "no_memory");
    EXPECT_EQ(grown.document["error"]["data"]["asked_bytes"], huge);
    EXPECT_LT(grown.document["error"]["data"]["free_bytes"], huge);
    const Reply fits = control.request("lane.grow", {{"handle", opened["handle"]}, {"bytes", 65'536}});
    EXPECT_EQ(fits.result()["size"], 8192 + 65'536);
  }
}

TEST(Daemon, LargeGrowthIsMadeOfParts) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());
  control.hello();
  const json opened = control.request("publisher.open", {{"topic", "t"}}).result();
  const std::uint64_t bytes = std::uint64_t{192} << 20;
  const Reply grown = control.request("lane.grow", {{"handle", opened["handle"]}, {"bytes", bytes}});
  EXPECT_EQ(grown.result()["size"], 8192 + bytes);
}

// Running out of descriptors is an answer, never an exit, and it passes.
TEST(Daemon, WithoutDescriptorsItSaysBusy) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start({}, 48)) << daemon.log();
  RawControl control(daemon.socket());
  control.hello();
  std::vector<std::uint64_t> handles;
  Reply reply;
  while (true) {
    ASSERT_LT(handles.size(), 48U);
    reply = control.request("publisher.open", {{"topic", "t"}, {"options", {{"backing", "sealed"}, {"linger_ms", 0}}}});
    if (reply.failed()) break;
    handles.push_back(reply.result()["handle"]);
  }
  EXPECT_EQ(error_of(reply), "busy");
  for (const std::uint64_t handle : handles) EXPECT_FALSE(control.request("close", {{"handle", handle}}).failed());
  RawControl again(daemon.socket());
  EXPECT_FALSE(again.request("ping").failed());
  EXPECT_FALSE(control.request("publisher.open", {{"topic", "t"}, {"options", {{"backing", "sealed"}}}}).failed());
  EXPECT_EQ(daemon.stop(SIGTERM), 0);
}

TEST(Daemon, ConnectionsOfAUidAreBounded) {
  DaemonProcess daemon;
  const std::string config = daemon.directory().write("c.toml", "[limits]\nconnections_per_uid = 3\n");
  ASSERT_TRUE(daemon.start({"--config", config})) << daemon.log();
  std::vector<RawControl> held;
  for (int i = 0; i < 3; ++i) {
    held.emplace_back(daemon.socket());
    EXPECT_FALSE(held.back().request("ping").failed());
  }
  RawControl extra(daemon.socket());
  const Reply greeting = extra.receive();
  EXPECT_EQ(error_of(greeting), "busy");
  EXPECT_EQ(greeting.document["error"]["data"]["limit"], 3);
  EXPECT_TRUE(extra.closed_by_broker());
  EXPECT_FALSE(held.back().request("ping").failed()) << "those that are there are served";
}

TEST(Daemon, IdleMeansIdle) {
  DaemonProcess daemon;
  ASSERT_TRUE(daemon.start()) << daemon.log();
  RawControl control(daemon.socket());
  control.hello();
  (void)control.request("subscriber.open", {{"topic", "t"}});
  const auto switches = [&] {
    std::ifstream status("/proc/" + std::to_string(daemon.pid()) + "/status");
    std::string line;
    long sum = 0;
    while (std::getline(status, line))
      if (line.find("voluntary_ctxt_switches") != std::string::npos) sum += std::stol(line.substr(line.find(':') + 1));
    return sum;
  };
  // It goes to sleep after its last answer; from then on nothing wakes it. A timer would, within this time.
  long before = -1;
  EXPECT_TRUE(eventually([&] { return std::exchange(before, switches()) == switches(); }));
  const Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, daemon.pid(), 0)));
  pollfd ended{process.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 1'200), 0);
  EXPECT_LE(switches() - before, 1);
}

}  // namespace
}  // namespace holdfast::daemon
