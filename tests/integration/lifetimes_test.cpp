// SPDX-License-Identifier: MIT
//
// Handles, loans and views are closed in any order and across fork(); nothing leaks.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/sanitized.hpp"

namespace holdfast::integration {
namespace {

struct Handles {
  hf_client* client = nullptr;
  hf_publisher* publisher = nullptr;
  hf_subscriber* subscriber = nullptr;
  hf_loan loan{};
  hf_view view{};
};

Handles open_all(const PrivateBroker& broker, const char* topic, std::int64_t timeout_ns = 0) {
  Handles handles;
  const std::string socket = broker.socket();
  hf_client_options options{};
  options.struct_size = sizeof options;
  options.socket = socket.c_str();
  options.timeout_ns = timeout_ns;
  EXPECT_EQ(hf_client_open(&options, &handles.client), HF_OK) << hf_last_error();
  EXPECT_EQ(hf_publisher_open(handles.client, topic, nullptr, &handles.publisher), HF_OK) << hf_last_error();
  EXPECT_EQ(hf_subscriber_open(handles.client, topic, nullptr, &handles.subscriber), HF_OK) << hf_last_error();
  EXPECT_EQ(hf_publisher_loan(handles.publisher, 5000, 0, -1, &handles.loan), HF_OK) << hf_last_error();
  fill_payload(handles.loan.data, 5000, 1);
  handles.loan.type = 1;
  EXPECT_EQ(hf_loan_publish(&handles.loan, -1), HF_OK);
  EXPECT_EQ(hf_take_wait(handles.subscriber, -1, &handles.view), HF_OK);
  EXPECT_EQ(hf_publisher_loan(handles.publisher, 6000, 0, -1, &handles.loan), HF_OK) << hf_last_error();
  return handles;
}

TEST(Lifetimes, EverythingMayBeClosedInAnyOrder) {
  PrivateBroker broker;
  const std::size_t descriptors = open_descriptors();
  const std::size_t mappings = mapping_count();
  // client, publisher, subscriber, loan, view
  std::array<int, 5> order = {0, 1, 2, 3, 4};
  do {
    Handles handles = open_all(broker, "order");
    bool view_held = true;
    bool loan_held = true;
    for (const int step : order) {
      if (step == 0) hf_client_close(handles.client);
      if (step == 1) hf_publisher_close(handles.publisher);
      if (step == 2) hf_subscriber_close(handles.subscriber);
      if (step == 3) hf_loan_drop(&handles.loan), loan_held = false;
      if (step == 4) hf_view_release(&handles.view), view_held = false;
      if (view_held) EXPECT_TRUE(sample_is_whole(handles.view));
      if (loan_held) fill_payload(handles.loan.data, 6000, 2);
    }
    ASSERT_EQ(open_descriptors(), descriptors);
    ASSERT_EQ(mapping_count(), mappings);
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(broker.stats().at("sessions"), 0);
}

TEST(Lifetimes, ClosedHandlesSaySo) {
  PrivateBroker broker;
  Handles handles = open_all(broker, "closed");
  hf_client_close(handles.client);
  hf_loan loan;
  hf_view view;
  EXPECT_EQ(hf_publisher_loan(handles.publisher, 100, 0, 0, &loan), HF_E_CLOSED);
  EXPECT_NE(std::string(hf_last_error()).find("closed"), std::string::npos) << hf_last_error();
  EXPECT_EQ(hf_publish(handles.publisher, "x", 1, 0), HF_E_CLOSED);
  EXPECT_EQ(hf_loan_publish(&handles.loan, 0), HF_E_CLOSED) << "a loan does not outlive its lane";
  EXPECT_EQ(hf_publisher_subscriber_count(handles.publisher), HF_E_CLOSED);
  EXPECT_EQ(hf_publisher_wait_for_subscribers(handles.publisher, 1, 0), HF_E_CLOSED);
  EXPECT_EQ(hf_publisher_drain(handles.publisher, 0), HF_E_CLOSED);
  EXPECT_EQ(hf_take(handles.subscriber, &view), HF_E_CLOSED);
  EXPECT_EQ(hf_take_wait(handles.subscriber, -1, &view), HF_E_CLOSED);
  EXPECT_EQ(hf_wait(&handles.subscriber, 1, -1, nullptr), HF_E_CLOSED);
  EXPECT_EQ(hf_fd(handles.subscriber), HF_E_CLOSED);
  EXPECT_TRUE(sample_is_whole(handles.view));
  hf_view_release(&handles.view);
  hf_view_release(&handles.view);
  hf_loan_drop(&handles.loan);
  hf_loan_drop(&handles.loan);
  EXPECT_EQ(hf_loan_publish(&handles.loan, 0), HF_E_CLOSED);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
}

// Who closes the client alone keeps no memory of its handles either, but for what is lent.
TEST(Lifetimes, AClosedClientKeepsNoMemory) {
  PrivateBroker broker;
  const auto mapped = [&] {
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    for (std::string line; std::getline(maps, line);)
      if (line.find("holdfast." + broker.instance() + ".lane.") != std::string::npos) ++count;
    return count;
  };
  Handles handles = open_all(broker, "kept");
  EXPECT_GT(mapped(), 0);
  hf_client_close(handles.client);
  EXPECT_GT(mapped(), 0) << "a loan and a view are held";
  hf_view_release(&handles.view);
  hf_loan_drop(&handles.loan);
  EXPECT_EQ(mapped(), 0);
  EXPECT_EQ(hf_publish(handles.publisher, "x", 1, 0), HF_E_CLOSED);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
}

// A loan in shared memory keeps its publisher's memory; one of a few bytes keeps nothing.
TEST(Lifetimes, LoansThatOutliveTheirPublisherSaySo) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const std::uint64_t bytes : {std::uint64_t{16}, std::uint64_t{5000}}) {
    std::optional<Publisher> publisher(client.publisher_or_throw("outlived"));
    hf_loan loan;
    ASSERT_EQ(hf_publisher_loan(publisher->c(), bytes, 0, 0, &loan), HF_OK);
    hf_loan copy = loan;
    publisher.reset();
    std::memset(hf_loan_data(&loan), 1, bytes);
    EXPECT_EQ(hf_loan_publish(&loan, 0), HF_E_CLOSED) << bytes;
    std::size_t published = 7;
    EXPECT_EQ(hf_loan_publish_batch(&copy, 1, 0, &published), HF_E_CLOSED) << bytes;
    EXPECT_EQ(published, 0u);
    hf_loan_drop(&copy);
  }
  Handles handles = open_all(broker, "closed");
  hf_client_close(handles.client);
  hf_loan loan;
  loan.publisher = handles.publisher;
  EXPECT_EQ(hf_publisher_loan(handles.publisher, 5000, 0, 0, &loan), HF_E_CLOSED);
  EXPECT_EQ(loan.publisher, nullptr) << "so that a loan that failed can be dropped";
  hf_loan_drop(&handles.loan);
  hf_view_release(&handles.view);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
}

TEST(Lifetimes, PublishedAndDroppedLoansAreSpent) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("spent");
  for (const std::uint64_t bytes : {8u, 5000u}) {
    Loan loan = publisher.loan_or_throw(bytes);
    hf_loan copy = loan.c();
    loan.publish_or_throw();
    EXPECT_FALSE(loan);
    EXPECT_EQ(hf_loan_publish(&loan.c(), 0), HF_E_CLOSED);
    // A copy of a published loan may not publish once more what others read by now.
    if (bytes > 32) {
      EXPECT_EQ(hf_loan_publish(&copy, 0), HF_E_CLOSED);
      EXPECT_EQ(hf_loan_set_attributes(&copy, "x", 1), HF_E_CLOSED);
      hf_loan_drop(&copy);
    }
  }
  EXPECT_EQ(publisher.position(), 2u);
}

// In a forked child: the number of the first answer that is wrong, or 0.
int use_in_child(Handles& handles) {
  hf_loan loan;
  hf_view view;
  hf_publisher* publisher = nullptr;
  hf_subscriber* subscriber = nullptr;
  const int answers[] = {
      hf_client_ping(handles.client),
      hf_publisher_open(handles.client, "forked", nullptr, &publisher),
      hf_subscriber_open(handles.client, "forked", nullptr, &subscriber),
      hf_publisher_loan(handles.publisher, 5000, 0, -1, &loan),
      hf_publish(handles.publisher, "x", 1, -1),
      hf_loan_publish(&handles.loan, -1),
      static_cast<int>(hf_publisher_subscriber_count(handles.publisher)),
      hf_publisher_drain(handles.publisher, 0),
      hf_take(handles.subscriber, &view),
      hf_take_wait(handles.subscriber, -1, &view),
      hf_wait(&handles.subscriber, 1, -1, nullptr),
      hf_fd(handles.subscriber),
  };
  int number = 0;
  for (const int answer : answers) {
    ++number;
    if (answer != HF_E_FORKED) return number;
  }
  if (std::string(hf_last_error()).find("parent") == std::string::npos) return 50;
  if (mapping_count() != 0) return 51;
  hf_loan_drop(&handles.loan);
  hf_view_release(&handles.view);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
  hf_client_close(handles.client);
  return 0;
}

TEST(Lifetimes, ForkedChildIsToldAndTheParentGoesOn) {
  PrivateBroker broker;
  Handles handles = open_all(broker, "fork");
  for (int i = 0; i < 3; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      Handles inherited = handles;
      int wrong = use_in_child(inherited);
      if (wrong == 0) {
        // A client of its own is as good as any.
        Handles own = open_all(broker, "fork/own");
        wrong = sample_is_whole(own.view) ? 0 : 60;
        hf_view_release(&own.view);
        hf_client_close(own.client);
      }
      ::_exit(wrong);
    }
    const int status = wait_for_exit(open_pidfd(child).get(), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0) << "the number of the answer that was wrong";
  }
  EXPECT_TRUE(sample_is_whole(handles.view));
  EXPECT_EQ(hf_client_ping(handles.client), HF_OK);
  EXPECT_EQ(hf_loan_publish(&handles.loan, -1), HF_OK);
  hf_view view;
  EXPECT_EQ(hf_take_wait(handles.subscriber, -1, &view), HF_OK);
  EXPECT_EQ(view.bytes, 6000u);
  hf_view_release(&view);
  hf_view_release(&handles.view);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
  hf_client_close(handles.client);
}

TEST(Lifetimes, ForkedChildClosesNothingOfItsOwn) {
  PrivateBroker broker;
  Handles handles = open_all(broker, "numbers");
  hf_loan_drop(&handles.loan);
  hf_view_release(&handles.view);  // the last thing that would keep the session alive in the child
  const pid_t child = ::fork();
  if (child == 0) {
    // The numbers that were the parent's connection and session are free: these are they.
    int own[64];
    for (int& fd : own) fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    hf_publisher_close(handles.publisher);
    hf_subscriber_close(handles.subscriber);
    hf_client_close(handles.client);
    int lost = 0;
    for (const int fd : own) lost += ::fcntl(fd, F_GETFD) < 0 ? 1 : 0;
    ::_exit(lost);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "so many of its descriptors were closed";
  hf_client_close(handles.client);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
}

// In a child that was forked whatever other threads were doing: closes what it inherited, and is a client of its own.
int close_and_begin_anew(const PrivateBroker& broker, Handles& inherited, bool anew) {
  ::alarm(30);  // a child that hangs fails the test, and does not outlive it
  hf_publisher_close(inherited.publisher);
  hf_subscriber_close(inherited.subscriber);
  hf_client_close(inherited.client);
  if (!anew) return 0;
  const std::string socket = broker.socket();
  hf_client_options options{};
  options.struct_size = sizeof options;
  options.socket = socket.c_str();
  hf_client* client = nullptr;
  hf_publisher* publisher = nullptr;
  if (hf_client_open(&options, &client) != HF_OK) return 1;
  if (hf_publisher_open(client, "anew", nullptr, &publisher) != HF_OK) return 2;
  if (hf_publish(publisher, "child", 5, 0) != HF_OK) return 3;  // to a subscriber of the parent
  hf_client_close(client);
  hf_publisher_close(publisher);
  return 0;
}

TEST(Lifetimes, ForksWhileOtherThreadsOpenAndCloseHangNobody) {
  constexpr int kForks = 200;
  constexpr int kAnewEvery = 20;
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("anew");
  Handles handles = open_all(broker, "crossing");
  hf_loan_drop(&handles.loan);
  hf_view_release(&handles.view);
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      const std::string topic = "crossing/" + std::to_string(i);
      while (!over) {
        hf_publisher* publisher = nullptr;
        hf_subscriber* opened = nullptr;
        EXPECT_EQ(hf_publisher_open(handles.client, topic.c_str(), nullptr, &publisher), HF_OK) << hf_last_error();
        EXPECT_EQ(hf_subscriber_open(handles.client, topic.c_str(), nullptr, &opened), HF_OK) << hf_last_error();
        hf_publisher_close(publisher);
        hf_subscriber_close(opened);
      }
    });
  }
  // Asks all the time which handles there are.
  Publisher asked_for = client.publisher_or_throw("asked");
  threads.emplace_back([&] {
    Loan loan = asked_for.loan_or_throw(8);
    while (!over) EXPECT_EQ(hf_loan_set_attributes(&loan.c(), nullptr, 0), HF_OK);
  });
  for (int i = 0; i < kForks; ++i) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(close_and_begin_anew(broker, handles, i % kAnewEvery == 0));
    const Descriptor pidfd = open_pidfd(child);
    const int status = wait_for_exit(pidfd.get(), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "child " << i << ": wait status " << status;
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  int samples = 0;
  View view;
  for (int ended = 0; ended < kForks / kAnewEvery;) {
    const Status status = subscriber.take(view, kSoon).or_throw();
    samples += status == Status::kOk ? 1 : 0;
    ended += status == Status::kFinished ? 1 : 0;
    ASSERT_NE(status, Status::kTimeout);
  }
  EXPECT_EQ(samples, kForks / kAnewEvery);
  hf_client_close(handles.client);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
}

TEST(Lifetimes, ClosingAndReleasingLeaveTheSentenceOfTheLastFailure) {
  PrivateBroker broker;
  Handles handles = open_all(broker, "sentence", 2'000'000'000);
  hf_loan_drop(&handles.loan);
  broker.kill();
  hf_publisher* none = nullptr;
  ASSERT_EQ(hf_publisher_open(handles.client, "not a name!", nullptr, &none), HF_E_NO_BROKER);
  ASSERT_EQ(hf_publisher_loan(nullptr, 1, 0, 0, &handles.loan), HF_E_INVALID);
  const char* const sentence = hf_last_error();
  const std::string before = sentence;
  hf_publisher_close(handles.publisher);
  hf_view view;
  ASSERT_EQ(hf_take_wait(handles.subscriber, -1, &view), HF_FINISHED);
  hf_view_release(&handles.view);  // the last one of an ended lane
  hf_subscriber_close(handles.subscriber);
  hf_client_close(handles.client);
  EXPECT_EQ(before, hf_last_error());
  EXPECT_EQ(sentence, hf_last_error()) << "valid until the next failure";
}

TEST(Lifetimes, LastViewOfAnEndedLaneIsReleasedWhileItsSubscriberCloses) {
  PrivateBroker broker;
  Client client = broker.client();
  for (int round = 0; round < 50; ++round) {
    Subscriber subscriber = client.subscriber_or_throw("both");
    Publisher publisher = client.publisher_or_throw("both");
    publish_sample(publisher, 5000, 1);
    publisher.close();
    View view;
    View end;
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    ASSERT_EQ(subscriber.take(end, kSoon).or_throw(), Status::kFinished);
    std::thread releasing([&] { view.release(); });
    subscriber.close();
    releasing.join();
  }
  EXPECT_EQ(broker.stats().at("subscribers"), 0);
}

TEST(Lifetimes, DescriptorsAreNotInheritedByNewPrograms) {
  PrivateBroker broker;
  Handles handles = open_all(broker, "cloexec");
  ASSERT_GE(hf_fd(handles.subscriber), 0);
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    const int fd = std::stoi(entry.path().filename().string());
    if (gone || fd <= STDERR_FILENO) continue;
    if (target.find("holdfast") != std::string::npos || target.find("eventfd") != std::string::npos ||
        target.find("eventpoll") != std::string::npos || target.find("socket:") != std::string::npos)
      EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << target;
  }
  hf_view_release(&handles.view);
  hf_publisher_close(handles.publisher);
  hf_loan_drop(&handles.loan);
  hf_subscriber_close(handles.subscriber);
  hf_client_close(handles.client);
}

TEST(Lifetimes, NoDescriptorsLeftIsAnErrorThatSaysSo) {
  PrivateBroker broker;
  Handles handles = open_all(broker, "descriptors");
  const std::size_t descriptors = open_descriptors();
  const std::size_t mappings = mapping_count();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{3, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  hf_client_options options{};
  options.struct_size = sizeof options;
  const std::string socket = broker.socket();
  options.socket = socket.c_str();
  hf_client* client = nullptr;
  const int connected = hf_client_open(&options, &client);
  const std::string connecting = hf_last_error();
  hf_publisher* publisher = nullptr;
  const int opened = hf_publisher_open(handles.client, "descriptors/more", nullptr, &publisher);
  const std::string opening = hf_last_error();
  // What is open needs none.
  EXPECT_EQ(hf_loan_publish(&handles.loan, 0), HF_OK);
  hf_view view;
  EXPECT_EQ(hf_take(handles.subscriber, &view), HF_OK);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LT(connected, 0);
  EXPECT_NE(connecting.find("open files"), std::string::npos) << connecting;
  EXPECT_LT(opened, 0);
  EXPECT_NE(opening.find("descriptors"), std::string::npos) << opening;
  EXPECT_EQ(client, nullptr);
  EXPECT_EQ(publisher, nullptr);
  EXPECT_LE(open_descriptors(), descriptors);
  EXPECT_EQ(mapping_count(), mappings);
  for (hf_view* held : {&view, &handles.view}) hf_view_release(held);
  hf_publisher_close(handles.publisher);
  hf_subscriber_close(handles.subscriber);
  hf_client_close(handles.client);
}

// What the broker and this process have; equal before and after anything that leaks nothing.
struct Footprint {
  std::size_t descriptors;
  std::size_t mappings;
  std::uint64_t shm_bytes;
  nlohmann::json resources;

  explicit Footprint(const PrivateBroker& broker)
      : descriptors(open_descriptors()),
        mappings(mapping_count()),
        shm_bytes(broker.shm_bytes()),
        resources(integration::resources(broker)) {
    resources.erase("topics");
  }
  bool operator==(const Footprint& other) const {
    return descriptors == other.descriptors && mappings == other.mappings && shm_bytes == other.shm_bytes &&
           resources == other.resources;
  }
};

void cycle(Client& client, int number) {
  PublisherOptions options;
  options.linger = milliseconds(1);
  Publisher publisher = client.publisher_or_throw("cycle", options);
  SubscriberOptions lossless;
  lossless.lossless = number % 2 == 0;
  Subscriber subscriber = client.subscriber_or_throw("cycle", lossless);
  if (number % 3 == 0) (void)subscriber.fd();
  publish_sample(publisher, number % 2 == 0 ? 8 : 2000, static_cast<std::uint32_t>(number), kSoon);
  View view;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  ASSERT_TRUE(sample_is_whole(view));
}

TEST(Cycles, ThousandsOfOpenAndCloseLeakNothing) {
  constexpr int kCycles = kSanitized ? 1'000 : 10'000;
  constexpr int kPerClient = 50;
  PrivateBroker broker;
  const auto run = [&](int cycles) {
    for (int i = 0; i < cycles; i += kPerClient) {
      Client client = broker.client();
      for (int j = 0; j < kPerClient; ++j) ASSERT_NO_FATAL_FAILURE(cycle(client, i + j));
    }
  };
  ASSERT_NO_FATAL_FAILURE(run(2 * kPerClient));
  ASSERT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; }));
  const Footprint before(broker);
  ASSERT_NO_FATAL_FAILURE(run(kCycles));
  ASSERT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; }));
  EXPECT_TRUE(eventually([&] { return Footprint(broker) == before; }));
  const Footprint after(broker);
  EXPECT_EQ(after.descriptors, before.descriptors);
  EXPECT_EQ(after.mappings, before.mappings);
  EXPECT_EQ(after.shm_bytes, before.shm_bytes);
  EXPECT_EQ(after.resources, before.resources);
}

TEST(Cycles, HandlesOfOneLongClientLeakNothing) {
  constexpr int kCycles = kSanitized ? 400 : 2'000;
  PrivateBroker broker;
  Client client = broker.client();
  for (int i = 0; i < 100; ++i) ASSERT_NO_FATAL_FAILURE(cycle(client, i));
  ASSERT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; }));
  const Footprint before(broker);
  for (int i = 0; i < kCycles; ++i) ASSERT_NO_FATAL_FAILURE(cycle(client, i));
  ASSERT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; }));
  EXPECT_TRUE(eventually([&] { return Footprint(broker) == before; }));
  EXPECT_EQ(Footprint(broker).resources, before.resources);
}

}  // namespace
}  // namespace holdfast::integration
