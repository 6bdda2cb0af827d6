// SPDX-License-Identifier: MIT
//
// The process that is killed: crash_child publisher|subscriber|idle|lend|take SOCKET TOPIC [first|how]. Its client library is built with
// CrashAtomics, which kills it where the environment says. It uses everything that passes a crash point often enough for
// the tests: each site at least four times, but for the end of a lane, which comes twice.
//
// It talks with the test over descriptor 3. Status 0: it came to its end. 9: it took a torn sample. 1: something failed.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>

#include "holdfast/holdfast.hpp"
#include "proto/shm/lane_layout.hpp"
#include "tests/crash/crash_atomics.hpp"
#include "tests/crash/sample.hpp"
#include "tests/integration/process.hpp"

namespace holdfast::crash {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kLong = 60 * kSecond;
constexpr std::int64_t kShort = 2'000'000;
constexpr int kRingingRoundsMax = 5000;
constexpr int kFullRoundsMax = 300;

class Torn : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void check(int result, const char* what) {
  if (result != HF_OK)
    throw std::runtime_error(std::string(what) + ": " + hf_result_name(result) + ": " + hf_last_error());
}

// Sites that only fire when somebody else sleeps at the right moment.
bool rings_to_come() {
  for (const At at : {At::kRingBoard, At::kRingPost, At::kRingDisarm})
    if (trap().armed_at(at)) return true;
  return false;
}

// ---- publisher

class PublisherScript {
 public:
  PublisherScript(integration::Channel& test, const std::string& socket, const std::string& topic)
      : test_(test),
        client_(Client::connect_or_throw({.socket = socket, .instance = "", .name = "crash publisher"})),
        topic_(topic) {}

  void run() {
    for (writer_ = 1; writer_ <= 2; ++writer_) {
      PublisherOptions options;
      options.bytes_max = std::uint64_t{4} << 20;
      Publisher publisher = client_.publisher_or_throw(topic_, options);
      publisher_ = &publisher;
      test_.send({{"lane", writer_}, {"session", client_.session()}});
      publisher.wait_for_subscribers(2).or_throw();
      paced(12);
      for (const std::uint64_t bytes : {40ul, 900ul, 5000ul, 70000ul, 70000ul, 900ul}) chunk(bytes);
      with_attributes();
      loan_batch();
      inline_batch();
      for (int i = 0; i < 150; ++i) chunk(i % 3 == 0 ? 5000 : 900);
      for (int i = 0; i < 6; ++i) wait_for_room();
      lap_the_drop_oldest();
      if (rings_to_come()) paced(kRingingRoundsMax);
      publisher.close();
    }
  }

 private:
  std::uint64_t position() { return hf_publisher_position(publisher_->c()); }

  int inline_sample(std::int64_t timeout_ns, Command command = Command::kNone) {
    std::uint8_t payload[32];
    const std::uint64_t bytes = kSampleBytesMin + position() % 9;
    write_sample(payload, bytes, writer_, position(), command);
    return hf_publish(publisher_->c(), payload, bytes, timeout_ns);
  }

  // Slow enough for the others to fall asleep in between.
  void paced(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      check(inline_sample(kLong), "publish");
      for (int pings = 0; pings <= i % 3; ++pings) client_.ping().or_throw();
    }
  }

  void chunk(std::uint64_t bytes) {
    hf_loan loan;
    check(hf_publisher_loan(publisher_->c(), bytes, 0, kLong, &loan), "loan");
    write_sample(hf_loan_data(&loan), bytes, writer_, position());
    check(hf_loan_publish(&loan, kLong), "publish");
  }

  void with_attributes() {
    std::vector<std::uint8_t> payload(1000);
    write_sample(payload.data(), payload.size(), writer_, position());
    Attributes attributes;
    attributes.add("writer", static_cast<std::int64_t>(writer_));
    check(hf_publish_with(publisher_->c(), payload.data(), payload.size(), attributes.data(), attributes.bytes(), 7,
                          kLong),
          "publish");
  }

  void loan_batch() {
    hf_loan loans[4];
    for (std::uint64_t i = 0; i < 4; ++i) {
      const std::uint64_t bytes = i % 2 == 0 ? 24 : 3000;
      check(hf_publisher_loan(publisher_->c(), bytes, 0, kLong, &loans[i]), "loan");
      write_sample(hf_loan_data(&loans[i]), bytes, writer_, position() + i);
    }
    check(hf_loan_publish_batch(loans, 4, kLong, nullptr), "publish");
  }

  void inline_batch() {
    std::uint8_t payloads[10][32];
    for (std::uint64_t i = 0; i < 10; ++i) write_sample(payloads[i], 32, writer_, position() + i);
    check(hf_publish_batch(publisher_->c(), payloads, 32, 32, 10, kLong, nullptr), "publish");
  }

  // A lossless survivor stops; the ring fills; a short wait in vain, and a long one that is ended.
  void wait_for_room() {
    check(inline_sample(kLong, Command::kHoldLossless), "publish");
    int result = HF_OK;
    while (result == HF_OK) result = inline_sample(kShort);
    if (result != HF_TIMEOUT) check(result, "publish into a full ring");
    test_.send({{"go", "lossless"}});
    check(inline_sample(kLong), "publish");
  }

  void lap_the_drop_oldest() {
    check(inline_sample(kLong, Command::kHoldDropOldest), "publish");
    for (int i = 0; i < 60; ++i) check(inline_sample(kLong), "publish");
    test_.send({{"go", "drop_oldest"}});
  }

  integration::Channel& test_;
  Client client_;
  std::string topic_;
  Publisher* publisher_ = nullptr;
  std::uint32_t writer_ = 0;
};

// ---- subscriber

class SubscriberScript {
 public:
  SubscriberScript(integration::Channel& test, const std::string& socket, const std::string& topic)
      : test_(test),
        client_(Client::connect_or_throw({.socket = socket, .instance = "", .name = "crash subscriber"})),
        topic_(topic) {}

  // `lossless_first`: so that first executions are tried with both.
  void run(bool lossless_first) {
    constexpr int kStarts[] = {HF_START_OLDEST, HF_START_LATEST, HF_START_NEXT};
    for (int round = 0; round < 6; ++round) {
      const bool lossless = (round % 2 == 0) == lossless_first;
      SubscriberOptions options;
      options.lossless = lossless;
      options.start = kStarts[round % 3];
      Subscriber subscriber = client_.subscriber_or_throw(topic_, options);
      subscriber_ = subscriber.c();
      one_by_one();
      in_batches();
      sleep_in_vain();
      if (lossless)
        hold_the_publisher_back();
      else
        be_overtaken();
      through_the_descriptor();
      give_back(2);
      subscriber.close();
      give_back(0);
    }
  }

 private:
  // Asks the test for samples. They are all published when this returns, unless `wait` is false.
  void feed(int samples, const char* kind, bool wait = true) {
    call({{"feed", samples}, {"kind", kind}, {"wait", wait}});
  }
  void call(const nlohmann::json& message) {
    test_.send(message);
    if (test_.receive().is_null()) throw std::runtime_error("the test is gone");
  }

  void take(hf_view& view) {
    SampleHeader header{};
    if (!read_sample(hf_view_data(&view), view.bytes, header) || header.position != view.position)
      throw Torn("position " + std::to_string(view.position));
    kept_.push_back(view);
  }
  void give_back(std::size_t keep) {
    while (kept_.size() > keep) {
      // Not in order: the second oldest first.
      const auto at = kept_.begin() + (kept_.size() > 1 ? 1 : 0);
      hf_view_release(&*at);
      kept_.erase(at);
    }
  }

  // Takes until there is nothing.
  void drain() {
    while (true) {
      hf_view view;
      const int result = hf_take(subscriber_, &view);
      if (result == HF_EMPTY) return;
      if (result == HF_OK)
        take(view);
      else if (result != HF_LAPPED)
        check(result, "take");
      give_back(5);
    }
  }

  void one_by_one() {
    feed(30, "mixed");
    drain();
  }

  void in_batches() {
    feed(30, "mixed");
    batches();
  }
  void batches() {
    hf_view views[8];
    std::size_t taken = 0;
    int result = HF_OK;
    while ((result = hf_take_batch(subscriber_, views, 8, &taken)) != HF_EMPTY) {
      if (result != HF_OK && result != HF_LAPPED) check(result, "take");
      for (std::size_t i = 0; i < taken; ++i) take(views[i]);
      give_back(3);
    }
  }

  void sleep_in_vain() {
    for (int i = 0; i < 2; ++i) {
      hf_view view;
      const int result = hf_take_wait(subscriber_, kShort, &view);
      if (result == HF_OK)
        take(view);
      else if (result != HF_TIMEOUT)
        check(result, "take");
    }
  }

  // The publisher's memory is used up while we do not look: it raises the floor above us, and our next slots are still
  // there.
  void be_overtaken() {
    feed(100, "chunk");
    drain();
    feed(100, "chunk");
    batches();
  }

  // The publisher waits for us, again and again, and we make room.
  void hold_the_publisher_back() {
    const std::uint64_t before = trap().count(At::kRingDisarm);
    const int rounds = rings_to_come() ? kFullRoundsMax : 20;
    for (int i = 0; i < rounds && (rings_to_come() || trap().count(At::kRingDisarm) < before + 2); ++i) {
      call({{"fill", true}});
      hf_view view;
      const int result = hf_take(subscriber_, &view);
      if (result == HF_EMPTY) continue;  // a survivor that is further behind holds it back
      check(result, "take from a full ring");
      take(view);
      give_back(1);
    }
    // Before we take more: what is left to take is a ring and a sample then, whatever the pace of the others, and we pass
    // each point about as often as in the life that the test has counted.
    call({{"stop", true}});
    // That sample may need our room.
    test_.send({{"idle", true}});
    while (!test_.has_message()) drain();
    if (test_.receive().is_null()) throw std::runtime_error("the test is gone");
    drain();
  }

  void through_the_descriptor() {
    const int fd = hf_fd(subscriber_);
    if (fd < 0) check(fd, "fd");
    drain();
    feed(3, "inline", false);
    pollfd readable{fd, POLLIN, 0};
    if (::poll(&readable, 1, 60'000) != 1) throw std::runtime_error("the descriptor does not become readable");
    drain();
  }

  integration::Channel& test_;
  Client client_;
  std::string topic_;
  hf_subscriber* subscriber_ = nullptr;
  std::deque<hf_view> kept_;
};

// Opens one of each, says so, and waits to be killed.
void idle(integration::Channel& test, const std::string& socket, const std::string& topic) {
  Client client = Client::connect_or_throw({.socket = socket, .instance = "", .name = "idle"});
  Subscriber subscriber = client.subscriber_or_throw(topic);
  Publisher publisher = client.publisher_or_throw(topic);
  std::uint8_t payload[32];
  write_sample(payload, 32, 6, 0);
  check(hf_publish(publisher.c(), payload, 32, 0), "publish");
  test.send({{"ready", true}});
  (void)test.receive(std::chrono::hours(1));
}

// ---- two that are stopped, not killed, in the middle of what they do

// A lane with memory for one chunk: publishes it, and, when it is told to, waits until the chunk comes back.
void lend(integration::Channel& test, const std::string& socket, const std::string& topic) {
  constexpr std::uint64_t kOneChunk = shm::chunks_offset(shm::kRingSlotsDefault) + shm::kPage;
  Client client = Client::connect_or_throw({.socket = socket, .instance = "", .name = "lender"});
  PublisherOptions options;
  options.bytes_max = kOneChunk;
  Publisher publisher = client.publisher_or_throw(topic, options);
  Loan first = publisher.loan_or_throw(4000);
  write_sample(first.data(), 4000, 1, 0);
  first.publish_or_throw();
  test.send({{"published", true}});
  (void)test.receive();
  Loan again = publisher.loan_or_throw(4000, 0, Timeout(kLong));
  test.send({{"lent", static_cast<bool>(again)}});
}

// Takes one sample, or hears what happened instead, and says whom it has rung since it was told to.
void take_one(integration::Channel& test, const std::string& socket, const std::string& topic, const std::string& how) {
  Client client = Client::connect_or_throw({.socket = socket, .instance = "", .name = "taker"});
  Subscriber subscriber = client.subscriber_or_throw(topic);
  test.send({{"subscribed", true}});
  (void)test.receive();
  hf_view view;
  std::size_t taken = 0;
  const int result = how == "batch"  ? hf_take_batch(subscriber.c(), &view, 1, &taken)
                     : how == "wait" ? hf_take_wait(subscriber.c(), kLong, &view)
                                     : hf_take(subscriber.c(), &view);
  test.send({{"result", hf_result_name(result)},
             {"missed", result == HF_LAPPED ? view.missed : 0},
             {"rings", trap().count(At::kRingDisarm)}});
  if (result == HF_OK) hf_view_release(&view);
}

int run(const std::vector<std::string>& arguments) {
  integration::Channel test(3);
  ::fcntl(3, F_SETFD, FD_CLOEXEC);
  (void)trap();
  try {
    if (arguments.at(0) == "publisher")
      PublisherScript(test, arguments.at(1), arguments.at(2)).run();
    else if (arguments.at(0) == "idle")
      idle(test, arguments.at(1), arguments.at(2));
    else if (arguments.at(0) == "lend")
      lend(test, arguments.at(1), arguments.at(2));
    else if (arguments.at(0) == "take")
      take_one(test, arguments.at(1), arguments.at(2), arguments.at(3));
    else
      SubscriberScript(test, arguments.at(1), arguments.at(2)).run(arguments.at(3) == "lossless");
  } catch (const Torn& torn) {
    std::fprintf(stderr, "crash_child: torn: %s\n", torn.what());
    return 9;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "crash_child: %s\n", error.what());
    return 1;
  }
  trap().report("done");
  return 0;
}

}  // namespace
}  // namespace holdfast::crash

int main(int argc, char** argv) { return holdfast::crash::run({argv + 1, argv + argc}); }
