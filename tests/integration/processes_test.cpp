// SPDX-License-Identifier: MIT
//
// What becomes of sessions when processes fork, begin another program, get the pid of a dead one, or live in different pid
// namespaces. Forks that only this process notices are in lifetimes_test.cpp.
#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/own_shm.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/pid_namespace.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/integration/relay.hpp"
#include "tests/integration/remote_client.hpp"
#include "tests/sanitized.hpp"

namespace holdfast::integration {
namespace {

// ---- fork ---------------------------------------------------------------------------------------------------------

// What a forked child finds when it uses what it inherited.
nlohmann::json touch(Client& client, Publisher& publisher, Subscriber& subscriber, Loan& loan) {
  hf_view view;
  hf_loan fresh;
  const std::array<int, 7> answers = {
      hf_client_ping(client.c()),
      hf_publisher_loan(publisher.c(), 5000, 0, -1, &fresh),
      hf_publish(publisher.c(), "x", 1, -1),
      hf_loan_publish(&loan.c(), -1),
      hf_take(subscriber.c(), &view),
      hf_take_wait(subscriber.c(), -1, &view),
      hf_fd(subscriber.c()),
  };
  return {{"forked", std::all_of(answers.begin(), answers.end(), [](int answer) { return answer == HF_E_FORKED; })},
          {"mappings", mapping_count()}};
}

// The role "forker": publishes and holds a view and a loan of it, and has a child that lives on. Whoever is alive answers.
int forker(Channel& test, const Arguments& arguments) {
  ClientOptions options;
  options.socket = arguments.at(0);
  Client client = Client::connect_or_throw(options);
  Publisher publisher = client.publisher_or_throw("forker");
  Subscriber subscriber = client.subscriber_or_throw("forker");
  publish_sample(publisher, 100'000, 1);
  View view;
  if (subscriber.take(view, kSoon).or_throw() != Status::kOk) return 1;
  Loan loan = publisher.loan_or_throw(100'000);
  const pid_t child = ::fork();
  if (child != 0) {
    test.send({{"session", client.session()}});
    while (true) ::pause();
  }
  test.send({{"child", ::getpid()}});
  if (test.receive(10 * kSoon).is_null()) ::_exit(1);
  test.send(touch(client, publisher, subscriber, loan));
  // Closing what it inherited is allowed, too, and it may be a client of its own.
  view.release();
  hf_loan_drop(&loan.c());
  publisher.close();
  subscriber.close();
  Client own = Client::connect_or_throw(options);
  test.send({{"own", bool(own.ping())}});
  (void)test.receive(10 * kSoon);
  ::_exit(0);
}

const Role kForker("forker", forker);

class Orphan : public ::testing::TestWithParam<bool> {};

// The lock and the connection are the parent's alone: its death is seen at once, or by the next broker.
TEST_P(Orphan, ChildThatLivesOnKeepsNothingOfItsDeadParentsSession) {
  PrivateBroker broker;
  const nlohmann::json before = resources(broker);
  Process parent("forker", {broker.socket()});
  for (int i = 0; i < 2; ++i) ASSERT_FALSE(parent.channel().receive().is_null());
  ASSERT_EQ(broker.stats().at("sessions"), 1);
  const bool broker_dies = GetParam();
  if (broker_dies) broker.kill();
  parent.kill(SIGKILL);
  parent.wait();
  if (broker_dies) broker.start();
  EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 0; }));
  EXPECT_EQ(broker.topic("forker").at("lanes")[0].at("state"), "aborted");
  EXPECT_EQ(broker.stats().at("subscribers"), 0);
  const nlohmann::json touched = parent.call({{"do", "touch"}});
  EXPECT_EQ(touched.at("forked"), true);
  EXPECT_EQ(touched.at("mappings"), 0);
  const nlohmann::json own = parent.channel().receive();
  EXPECT_EQ(own.at("own"), true);
  EXPECT_EQ(broker.stats().at("sessions"), 1) << "that of the child";
  parent.channel().close();
  EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 0; }));
  // Its lane lingers; who needs the memory gets it.
  EXPECT_LE(broker.stats().at("segments"), before.at("segments").get<int>() + 1);
}

INSTANTIATE_TEST_SUITE_P(Processes, Orphan, ::testing::Bool(), [](const auto& given) {
  return given.param ? std::string("SeenByTheNextBroker") : std::string("SeenAtOnce");
});

TEST(Processes, ForkedChildThatEndsLeavesItsParentsLockConnectionAndDescriptors) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("parent");
  Subscriber subscriber = client.subscriber_or_throw("parent");
  const int loop = subscriber.fd().or_throw();
  const std::size_t descriptors = open_descriptors();
  for (int i = 0; i < 3; ++i) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(hf_client_ping(client.c()) == HF_E_FORKED ? 0 : 1);
    const int status = wait_for_exit(open_pidfd(child).get(), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_EQ(broker.request("sessions").at("sessions")[0].at("connected"), true);
  EXPECT_EQ(subscriber.fd().or_throw(), loop);
  // The next broker asks the lock: a fork that ended has not let it go.
  broker.kill();
  broker.start();
  EXPECT_EQ(broker.stats().at("sessions"), 1);
  ASSERT_TRUE(client.ping());
  publish_sample(publisher, 5000, 1, kSoon);
  View view;
  EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_TRUE(sample_is_whole(view));
}

// The role "bare": this program begun anew by a client. Says what it finds of that client.
int bare(Channel& test, const Arguments&) {
  std::vector<std::string> inherited;
  for (const int fd : {4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
    if (::fcntl(fd, F_GETFD) >= 0) {
      char target[256] = {};
      const std::string link = "/proc/self/fd/" + std::to_string(fd);
      if (::readlink(link.c_str(), target, sizeof target - 1) < 0) continue;
      inherited.emplace_back(target);
    }
  std::erase_if(inherited, [](const std::string& target) {
    return target.find("holdfast") == std::string::npos && target.find("socket:") == std::string::npos &&
           target.find("event") == std::string::npos && target.find("timerfd") == std::string::npos;
  });
  test.send({{"inherited", inherited}, {"mappings", mapping_count()}});
  (void)test.receive(10 * kSoon);
  return 0;
}

const Role kBare("bare", bare);

TEST(Processes, NewProgramInheritsNothingOfTheClientThatBeganIt) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("exec");
  Subscriber subscriber = client.subscriber_or_throw("exec");
  (void)subscriber.fd().or_throw();
  publish_sample(publisher, 5000, 1);
  View view;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  const Loan loan = publisher.loan_or_throw(5000);
  Process program("bare", {});
  const nlohmann::json found = program.channel().receive();
  EXPECT_EQ(found.at("inherited"), nlohmann::json::array());
  EXPECT_EQ(found.at("mappings"), 0);
  // Not even where nobody is told of the fork (posix_spawn runs no fork handlers).
  const Descriptor listed(::open("/tmp", O_TMPFILE | O_RDWR, 0600));  // on purpose not close-on-exec
  ASSERT_TRUE(listed);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, listed.get(), STDOUT_FILENO);
  std::string script = "ls -l /proc/self/fd; cat /proc/self/maps";
  char shell[] = "sh", option[] = "-c";
  char* arguments[] = {shell, option, script.data(), nullptr};
  pid_t child = -1;
  ASSERT_EQ(::posix_spawn(&child, "/bin/sh", &actions, nullptr, arguments, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  const int status = wait_for_exit(open_pidfd(child).get(), child);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  std::string text(1 << 16, '\0');
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(::pread(listed.get(), text.data(), text.size(), 0), 0)));
  EXPECT_NE(text.find("/proc/"), std::string::npos) << text;
  for (const char* ours : {"/dev/shm/holdfast", "memfd:holdfast", "eventfd", "eventpoll", "timerfd"})
    EXPECT_EQ(text.find(ours), std::string::npos) << text;
  // It outlives its parent's session, and does not keep it.
  EXPECT_TRUE(sample_is_whole(view));
  program.channel().close();
}

// ---- pids ---------------------------------------------------------------------------------------------------------

// Takes its samples, publishes, and is killed; somebody else gets its pid.
TEST(Pids, GivenAgainNeitherKeepASessionNorInheritOne) {
  if (kSanitized) GTEST_SKIP() << "a leak checker finds no /proc of this pid namespace when it ends";
  if (!in_own_pids()) return;
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("pids");
  for (int round = 0; round < 4; ++round) {
    const bool broker_sees_it = round % 2 == 0;
    std::optional<RemoteClient> victim(broker);
    ASSERT_EQ(victim->subscribe("pids").at("code"), HF_OK);
    ASSERT_EQ(victim->open_publisher("victims").at("code"), HF_OK);
    for (std::uint32_t i = 0; i < 10; ++i) publish_sample(publisher, 5000, i, kSoon);
    ASSERT_EQ(victim->hold(5).samples, 5u);
    const pid_t pid = victim->process().pid();
    const std::uint32_t session = victim->session();
    if (!broker_sees_it) broker.kill();
    victim->kill();
    victim.reset();
    ASSERT_TRUE(next_pid_is(pid));
    if (broker_sees_it) {
      // A client with the same pid has a session of its own, and neither one's rights nor one's end.
      RemoteClient heir(broker);
      ASSERT_EQ(heir.process().pid(), pid);
      EXPECT_NE(heir.session(), session);
      EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 2; })) << broker.request("sessions");
      ASSERT_EQ(heir.subscribe("pids", true, HF_START_OLDEST).at("code"), HF_OK);
      EXPECT_GT(heir.take(1).samples, 0u);
    } else {
      Process heir("bare", {});
      ASSERT_EQ(heir.pid(), pid);
      broker.start();
      EXPECT_EQ(broker.stats().at("sessions"), 1) << broker.request("sessions");
      EXPECT_EQ(broker.stats().at("subscribers"), 0);
      ASSERT_TRUE(client.ping());
      EXPECT_EQ(heir.channel().receive().at("mappings"), 0) << "it lives, and nobody has asked it for anything";
    }
    EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 1; })) << broker.request("sessions");
    EXPECT_EQ(publisher.subscriber_count(), 0);
    for (std::uint32_t i = 0; i < 200; ++i) ASSERT_EQ(publish_sample(publisher, 5000, i, kSoon), Status::kOk);
  }
}

class Namespaces : public ::testing::TestWithParam<bool> {};

// Publisher and subscriber each in a pid namespace of its own, where each is pid 1; the broker in a third one, or in ours.
TEST_P(Namespaces, ClientsInDifferentPidNamespacesMeetAndTheirDeathsAreSeen) try {
  PrivateBroker broker({}, GetParam());
  RemoteClient reader(broker, "reader", true);
  ASSERT_EQ(reader.subscribe("spaces").at("code"), HF_OK);
  reader.begin_taking_until_ended(3);
  std::uint64_t published = 0;
  for (int round = 0; round < 3; ++round) {
    RemoteClient writer(broker, "writer", true);
    ASSERT_EQ(writer.open_publisher("spaces").at("code"), HF_OK);
    writer.publish(200, 5000, static_cast<std::uint32_t>(published));
    published += 200;
    if (round == 1) {  // an adopted session's process is not to be seen by every broker; its lock is
      broker.kill();
      writer.publish(100, 5000, static_cast<std::uint32_t>(published));
      published += 100;
      broker.start();
      EXPECT_EQ(broker.stats().at("sessions"), 2);
      writer.publish(100, 5000, static_cast<std::uint32_t>(published));
      published += 100;
    }
    writer.drain();
    writer.kill();
    EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 1; })) << broker.request("sessions");
  }
  const Seen seen = reader.finish_taking();
  EXPECT_EQ(seen.samples, published);
  EXPECT_EQ(seen.aborted, 3u);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.turned + seen.corrupt, 0u);
  // And the other way round: a reader's death frees what it held.
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("back");
  std::optional<RemoteClient> holder(std::in_place, broker, "holder", true);
  ASSERT_EQ(holder->subscribe("back").at("code"), HF_OK);
  for (std::uint32_t i = 0; i < 10; ++i) publish_sample(publisher, 5000, i, kSoon);
  ASSERT_EQ(holder->hold(10).samples, 10u);
  holder->kill();
  EXPECT_TRUE(eventually([&] { return publisher.subscriber_count() == 0; }));
  holder.reset();
} catch (const NoNamespace& none) {
  GTEST_SKIP() << none.what();
}

INSTANTIATE_TEST_SUITE_P(Pids, Namespaces, ::testing::Bool(), [](const auto& given) {
  return given.param ? std::string("BrokerInAThird") : std::string("BrokerOutside");
});

// ---- connections --------------------------------------------------------------------------------------------------

// Neither end has done it: the client keeps its views, takes and publishes on, and has its session again at the next request.
TEST(Processes, ConnectionCutOnTheWayCostsNothing) {
  PrivateBroker broker;
  Relay relay(broker.directory() + "/relay", broker.socket());
  ClientOptions options;
  options.socket = broker.directory() + "/relay";
  Client client = Client::connect_or_throw(options);
  const std::uint32_t session = client.session();
  SubscriberOptions lossless;
  lossless.lossless = true;
  Subscriber subscriber = client.subscriber_or_throw("cut", lossless);
  Publisher publisher = client.publisher_or_throw("cut");
  RemoteClient far(broker);
  ASSERT_EQ(far.subscribe("cut").at("code"), HF_OK);
  std::uint64_t published = 0;
  std::vector<View> held;
  const auto exchange = [&] {
    publish_sample(publisher, 5000, static_cast<std::uint32_t>(published++), kSoon);
    View view;
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    EXPECT_EQ(view.position(), published - 1);
    if (held.size() < 20) held.push_back(std::move(view));
    EXPECT_EQ(far.take(1).samples, 1u);
  };
  for (int i = 0; i < 5; ++i) {
    exchange();
    relay.cut();
    ASSERT_TRUE(eventually([&] {
      const nlohmann::json sessions = broker.request("sessions").at("sessions");
      return sessions.size() == 2 && std::any_of(sessions.begin(), sessions.end(), [](const nlohmann::json& one) {
               return one.at("connected") == false;
             });
    })) << "the session outlives it";
    for (int sample = 0; sample < 100; ++sample) ASSERT_NO_FATAL_FAILURE(exchange());
    Subscriber another = client.subscriber_or_throw("cut/another");
    EXPECT_EQ(client.session(), session);
    EXPECT_EQ(broker.stats().at("sessions"), 2);
    for (View& view : held) EXPECT_TRUE(sample_is_whole(view));
  }
  EXPECT_EQ(broker.stats().at("publishers"), 1);
  EXPECT_EQ(broker.stats().at("subscribers"), 2);
}

// close() while views are held, and the broker restarts in between: they stay, and then nothing is left of them.
TEST(Processes, ViewsOfAClosedSubscriberOutliveARestartAndAreForgottenAfterwards) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("views");
  std::vector<View> held;
  std::optional<Subscriber> subscriber(client.subscriber_or_throw("views"));
  for (std::uint32_t i = 0; i < 10; ++i) {
    publish_sample(publisher, 5000, i, kSoon);
    View view;
    ASSERT_EQ(subscriber->take(view, kSoon).or_throw(), Status::kOk);
    held.push_back(std::move(view));
  }
  const auto whole = [&] {
    return std::all_of(held.begin(), held.end(), [](View& view) { return sample_is_whole(view); });
  };
  subscriber.reset();
  broker.kill();
  for (std::uint32_t i = 0; i < 300; ++i) publish_sample(publisher, 5000, i, kSoon);
  EXPECT_TRUE(whole());
  broker.start();
  ASSERT_TRUE(client.ping());
  for (std::uint32_t i = 0; i < 300; ++i) publish_sample(publisher, 5000, i, kSoon);
  EXPECT_TRUE(whole());
  EXPECT_EQ(broker.stats().at("subscribers"), 1) << "its pins are on the roster";
  broker.kill();
  held.clear();
  broker.start();
  ASSERT_TRUE(client.ping());
  EXPECT_EQ(broker.stats().at("subscribers"), 0);
  for (std::uint32_t i = 0; i < 300; ++i) publish_sample(publisher, 5000, i, kSoon);
}

}  // namespace
}  // namespace holdfast::integration
