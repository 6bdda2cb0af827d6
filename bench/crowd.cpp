// SPDX-License-Identifier: MIT
#include "bench/crowd.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <sys/resource.h>

#include "bench/attendants.hpp"
#include "bench/child.hpp"
#include "bench/endpoint.hpp"
#include "bench/shared_memory.hpp"

namespace holdfast::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kPairs = 25;
constexpr std::uint64_t kBlock = 20'000;
// Both sides of 10 000 topics in one process, each mapping reserving this much: less than the 128 TiB that x86-64 has.
constexpr std::uint64_t kLaneBytesMax = std::uint64_t{4} << 30;

struct Results {
  std::uint32_t count;
  std::array<BlockPair, kPairs> pairs;
  Failure failure;
};

template <class Work>
double seconds_per(std::uint64_t count, Work&& work) {
  const auto start = Clock::now();
  for (std::uint64_t i = 0; i < count; ++i) work();
  return std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(count);
}

// Runs `measure(results)` in a child that is bound to the first CPU.
template <class Measure>
PairResult in_child(CpuPair cpus, Measure&& measure) {
  const SharedMemory<Results> results;
  const pid_t child = start_child(results->failure, [&] {
    take_cpu(cpus.first);
    measure(*results);
  });
  PairResult result;
  if (!reap(child))
    result.reason = results->failure.empty() ? "the measuring process died" : results->failure.why();
  else
    result.pairs.assign(results->pairs.begin(), results->pairs.begin() + results->count);
  return result;
}

// One topic with its publisher and its subscriber, in one process.
class Pair {
 public:
  Pair(hf_client* client, const std::string& topic, int delivery = HF_DROP_OLDEST) {
    hf_publisher_options shape{};
    shape.struct_size = sizeof shape;
    shape.bytes_max = kLaneBytesMax;
    shape.linger_ns = 1;  // so that the topics of earlier blocks are gone
    hf_subscriber_options options{};
    options.struct_size = sizeof options;
    options.delivery = delivery;
    must("hf_publisher_open", hf_publisher_open(client, topic.c_str(), &shape, &publisher_));
    must("hf_subscriber_open", hf_subscriber_open(client, topic.c_str(), &options, &subscriber_));
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair() {
    hf_subscriber_close(subscriber_);
    hf_publisher_close(publisher_);
  }

  void publish_and_take() {
    alignas(32) const std::uint64_t payload[4] = {position_, position_, position_, position_};
    must("hf_publish", hf_publish(publisher_, payload, sizeof payload, 0));
    hf_view view;
    must("hf_take", hf_take(subscriber_, &view));
    require(view.position == position_++, "a sample has the wrong position");
    hf_view_release(&view);
  }

  void publish_untouched(std::uint64_t bytes) {
    hf_loan loan;
    must("hf_publisher_loan", hf_publisher_loan(publisher_, bytes, 0, 0, &loan));
    must("hf_loan_publish", hf_loan_publish(&loan, 0));
  }
  void publish_written(std::uint64_t bytes) {
    hf_loan loan;
    must("hf_publisher_loan", hf_publisher_loan(publisher_, bytes, 0, 0, &loan));
    std::memset(hf_loan_data(&loan), 1, bytes);
    must("hf_loan_publish", hf_loan_publish(&loan, 0));
  }
  void take_and_release() {
    hf_view view;
    must("hf_take", hf_take(subscriber_, &view));
    hf_view_release(&view);
  }

 private:
  hf_publisher* publisher_ = nullptr;
  hf_subscriber* subscriber_ = nullptr;
  std::uint64_t position_ = 0;
};

// Topics that are there and do nothing.
class Topics {
 public:
  explicit Topics(hf_client* client) : client_(client) {}

  void become(std::uint32_t count) {
    while (pairs_.size() > count) pairs_.pop_back();
    while (pairs_.size() < count)
      pairs_.push_back(std::make_unique<Pair>(client_, "bench/crowd/" + std::to_string(pairs_.size())));
  }
  Pair& operator[](std::size_t index) { return *pairs_[index]; }

 private:
  hf_client* client_;
  std::vector<std::unique_ptr<Pair>> pairs_;
};

// Few and many in turn, a few blocks of each: to open and close them takes much longer than the blocks. `operation` runs
// a while before, so that it is warm.
template <class Operation>
void with_few_and_many(Results& results, std::uint64_t block, Operation&& operation) {
  constexpr std::uint32_t kTurns = 5;
  const ClientHandle client = open_client();
  Topics others(client.get());
  const auto blocks = [&](std::uint32_t topics, double BlockPair::* member) {
    others.become(topics - 1);
    (void)seconds_per(block, operation);
    for (std::uint32_t i = 0; i < kPairs / kTurns; ++i)
      results.pairs[results.count + i].*member = seconds_per(block, operation);
  };
  for (std::uint32_t turn = 0; turn < kTurns; ++turn) {
    blocks(kFewTopics, &BlockPair::floor);
    blocks(kManyTopics, &BlockPair::measured);
    results.count += kPairs / kTurns;
  }
}

// In a process of its own: asleep on a topic of its own. A sample would end it.
void sleep_attached(std::uint32_t index, Attendants& sleepers) {
  CEndpoint endpoint;
  endpoint.connect();
  endpoint.subscribe_to("bench/asleep/" + std::to_string(index), {});
  sleepers.arrived();
  CEndpoint::Sample sample{};
  (void)endpoint.take_asleep(sample);
}

// A ring of cache lines in random order: each holds the index of the next.
class Walk {
 public:
  explicit Walk(std::size_t lines) : lines_(lines) {
    std::vector<std::uint32_t> order(lines);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
    for (std::size_t i = 0; i < lines; ++i) lines_[order[i]].next = order[(i + 1) % lines];
  }

  void step(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      CacheLine& line = lines_[at_];
      ++line.visits;
      at_ = line.next;
    }
  }

 private:
  struct alignas(64) CacheLine {
    std::uint32_t next;
    std::uint32_t visits;
  };
  std::vector<CacheLine> lines_;
  std::uint32_t at_ = 0;
};

}  // namespace

PairResult beside_topics(CpuPair cpus) {
  return in_child(cpus, [](Results& results) {
    const ClientHandle client = open_client();
    Pair pair(client.get(), "bench/crowd/one");
    with_few_and_many(results, kBlock, [&] { pair.publish_and_take(); });
  });
}

PairResult beside_sessions(CpuPair cpus) {
  return in_child(cpus, [](Results& results) {
    const ClientHandle client = open_client();
    Pair pair(client.get(), "bench/crowd/awake");
    const auto block = [&] { return seconds_per(kBlock, [&] { pair.publish_and_take(); }); };
    (void)block();
    for (BlockPair& one : results.pairs) one.floor = block();
    Attendants sleepers;
    sleepers.start(kManySessions, [&](std::uint32_t index) { sleep_attached(index, sleepers); });
    sleepers.await_all();
    (void)block();
    for (BlockPair& one : results.pairs) one.measured = block();
    results.count = kPairs;
  });
}

PairResult round_robin(CpuPair cpus) {
  return in_child(cpus, [](Results& results) {
    const ClientHandle client = open_client();
    Topics topics(client.get());
    topics.become(kManyTopics);
    Walk walk(std::size_t{kManyTopics} * kLinesPerTopic);
    std::size_t next = 0;
    const auto one = [&] { topics[next++ % kManyTopics].publish_and_take(); };
    const auto floor = [&] { walk.step(kLinesPerTopic); };
    (void)seconds_per(2 * kManyTopics, one);
    (void)seconds_per(2 * kManyTopics, floor);
    for (BlockPair& pair : results.pairs) {
      pair.floor = seconds_per(kManyTopics, floor);
      pair.measured = seconds_per(kManyTopics, one);
    }
    results.count = kPairs;
  });
}

PairResult opening_beside_topics(CpuPair cpus) {
  return in_child(cpus, [](Results& results) {
    std::uint64_t opened = 0;
    const auto block = [&] {
      return seconds_per(20, [&] {
        const ClientHandle client = open_client();
        Pair pair(client.get(), "bench/crowd/opened/" + std::to_string(opened++));
        pair.publish_and_take();
      });
    };
    // In turn it would measure how the broker does away with 10 000 topics: that goes on behind their closing.
    const ClientHandle client = open_client();
    Topics others(client.get());
    others.become(kFewTopics - 1);
    (void)block();
    for (BlockPair& one : results.pairs) one.floor = block();
    others.become(kManyTopics - 1);
    (void)block();
    for (BlockPair& one : results.pairs) one.measured = block();
    results.count = kPairs;
  });
}

PairResult take_and_release(CpuPair cpus, std::uint64_t bytes) {
  return in_child(cpus, [bytes](Results& results) {
    constexpr std::uint32_t kSamples = 3;  // all of them in memory at once
    constexpr std::uint32_t kRounds = 200;
    const ClientHandle client = open_client();
    Pair small(client.get(), "bench/release/4k", HF_LOSSLESS);
    Pair large(client.get(), "bench/release/large", HF_LOSSLESS);
    const auto block = [&](Pair& pair, std::uint64_t size) {
      double seconds = 0;
      for (std::uint32_t i = 0; i < kRounds; ++i) {
        for (std::uint32_t k = 0; k < kSamples; ++k) pair.publish_untouched(size);
        seconds += seconds_per(kSamples, [&] { pair.take_and_release(); });
      }
      return seconds / kRounds;
    };
    (void)block(small, 4096);
    (void)block(large, bytes);
    for (BlockPair& pair : results.pairs) pair = {block(small, 4096), block(large, bytes)};
    results.count = kPairs;
  });
}

double faults_of_warm_cycles() {
  constexpr std::uint64_t kBytes = 1 << 20;
  constexpr int kCycles = 10'000;
  const ClientHandle client = open_client();
  Pair pair(client.get(), "bench/faults");
  const auto cycle = [&] {
    pair.publish_written(kBytes);
    pair.take_and_release();
  };
  const auto faults = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_minflt);
  };
  for (int i = 0; i < 200; ++i) cycle();
  const double before = faults();
  for (int i = 0; i < kCycles; ++i) cycle();
  return faults() - before;
}

}  // namespace holdfast::bench
