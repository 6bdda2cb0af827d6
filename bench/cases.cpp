// SPDX-License-Identifier: MIT
#include "bench/cases.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include <sys/statvfs.h>

#include "bench/crowd.hpp"
#include "bench/fan_out.hpp"
#include "bench/floors.hpp"
#include "bench/footprint.hpp"
#include "bench/idle.hpp"
#include "bench/ours.hpp"
#include "holdfast/holdfast.h"

namespace holdfast::bench {

namespace {

constexpr double kNanoseconds = 1e9;
constexpr double kMicroseconds = 1e6;
constexpr double kMillions = 1e-6;
constexpr std::size_t kRingDefault = 64;
constexpr std::size_t kBatch = 16;  // a quarter of the ring
constexpr std::size_t k1MiB = std::size_t{1} << 20;
constexpr std::size_t k64MiB = std::size_t{64} << 20;
constexpr std::size_t k1GiB = std::size_t{1} << 30;

std::string suffix(Api api) { return api == Api::kCpp ? "_cpp" : ""; }
std::string topic_of(const std::string& name) { return "bench/" + name; }

Case round_trip_case(Api api, std::string name, const Trip& trip, double goal) {
  name += suffix(api);
  return {.name = name,
          .unit = "ns",
          .floor_name = "cache-line round trip",
          .direction = Direction::kDown,
          .goal = goal,
          .scale = kNanoseconds,
          .floor = cache_line_round_trip,
          .measured = [=] { return round_trip(api, topic_of(name), trip); },
          .options = {.pairs = 101}};
}

Case sleep_case(Api api) {
  const std::string name = "roundtrip_sleep" + suffix(api);
  return {.name = name,
          .unit = "us",
          .floor_name = "semaphore round trip",
          .direction = Direction::kDown,
          .goal = 1.1,
          .scale = kMicroseconds,
          .floor = semaphore_round_trip,
          .measured = [=] { return round_trip(api, topic_of(name), {.asleep = true}); },
          .options = {.pairs = 81, .block_ms = 10, .sleeps = true}};
}

Case flow_case(Api api, std::string name, const Flow& shape, double goal) {
  name += suffix(api);
  const std::size_t slots = shape.ring_slots != 0 ? shape.ring_slots : kRingDefault;
  return {.name = name,
          .unit = "M/s",
          .floor_name = "bare ring of " + std::to_string(slots) +
                        (shape.batch == 1 ? ", one by one" : ", batches of " + std::to_string(shape.batch)),
          .direction = Direction::kUp,
          .goal = goal,
          .scale = kMillions,
          .floor = [=] { return bare_ring(slots, shape.batch); },
          .measured = [=] { return flow(api, topic_of(name), shape); },
          .options = {.pairs = 101}};
}

// Both processes hold samples of `bytes`, and the lanes keep a few more.
void need_shared_memory(std::size_t bytes) {
  struct statvfs status{};
  constexpr std::uint64_t kNeed = 4;  // samples
  if (statvfs("/dev/shm", &status) != 0 || std::uint64_t{status.f_frsize} * status.f_bavail < kNeed * bytes)
    throw std::runtime_error("/dev/shm has less than " + std::to_string(kNeed * bytes >> 20) + " MiB to give");
}

Case write_case(Api api, const std::string& size, std::size_t bytes) {
  const std::string name = "write_read_" + size + suffix(api);
  return {.name = name,
          .unit = "GB/s",
          .floor_name = "memcpy of as much, warm",
          .direction = Direction::kUp,
          .goal = 0.9,
          .scale = static_cast<double>(bytes) * 1e-9,
          .floor = [=] { return warm_memcpy(bytes); },
          .measured =
              [=] {
                need_shared_memory(bytes);
                return write_in_place(api, topic_of(name), bytes, false);
              },
          .options = {.pairs = bytes > k64MiB ? 21u : 31u, .count_most = bytes >= k64MiB ? 1u : 1000u}};
}

// With huge pages beside without: what the option gives.
Case huge_case(const std::string& size, std::size_t bytes) {
  const std::string name = "write_read_" + size + "_huge";
  const auto with = [=](bool huge_pages) {
    need_shared_memory(2 * bytes);
    return write_in_place(Api::kC, topic_of(name) + (huge_pages ? "/huge" : "/small"), bytes, huge_pages);
  };
  return {.name = name,
          .unit = "GB/s",
          .floor_name = "the same without huge pages",
          .direction = Direction::kUp,
          .goal = 0.9,
          .scale = static_cast<double>(bytes) * 1e-9,
          .floor = [=] { return with(false); },
          .measured = [=] { return with(true); },
          .options = {.pairs = 31u, .count_most = 1u}};
}

// A larger sample beside one of 4 KiB: the size must not matter.
Case size_case(const std::string& what, const std::string& size, std::uint64_t bytes, bool touched) {
  const std::string name = "roundtrip_" + what + "_" + size + "_over_4k";
  return {.name = name,
          .unit = "ns",
          .floor_name = "the same with 4 KiB",
          .direction = Direction::kDown,
          .goal = 1.15,
          .scale = kNanoseconds,
          .floor = [=] { return round_trip(Api::kC, topic_of(name) + "/4k", {.bytes = 4096, .touched = touched}); },
          .measured =
              [=] {
                need_shared_memory(bytes);
                return round_trip(Api::kC, topic_of(name), {.bytes = bytes, .touched = touched});
              },
          .options = {.pairs = 101}};
}

Case loan_flow_case(const std::string& name, bool lossless, double goal) {
  return {.name = name,
          .unit = "M/s",
          .floor_name = "bare ring of 64, one by one",
          .direction = Direction::kUp,
          .goal = goal,
          .scale = kMillions,
          .floor = [=] { return bare_ring(kRingDefault, 1); },
          .measured = [=] { return loan_flow(topic_of(name), 4096, lossless); },
          .options = {.pairs = 101}};
}

// One process measures by itself.
Case alone_case(const std::string& name, const std::string& floor, double goal,
                std::function<PairResult(CpuPair)> pairs) {
  Case alone{};
  alone.name = name;
  alone.unit = "ns";
  alone.floor_name = floor;
  alone.direction = Direction::kDown;
  alone.goal = goal;
  alone.scale = kNanoseconds;
  alone.pairs = std::move(pairs);
  return alone;
}

void add_crowd_cases(std::vector<Case>& cases) {
  cases.push_back(alone_case("scale_topics", "while 10 topics exist", 1.3, beside_topics));
  cases.push_back(alone_case("scale_round_robin", "random walk over as many lines", 1.5, round_robin));
  cases.push_back(alone_case("scale_sessions", "without other processes", 1.1, beside_sessions));
  cases.push_back(alone_case("open_beside_10000", "while 10 topics exist", 1.3, opening_beside_topics));
  cases.push_back(alone_case("take_release_1g", "take and release of 4 KiB", 1.5, [](CpuPair cpus) {
    need_shared_memory(k1GiB);
    return take_and_release(cpus, k1GiB);
  }));
  Case many{.name = "wait_many_1000",
            .unit = "us",
            .floor_name = "the same with one subscription",
            .direction = Direction::kDown,
            .goal = 1.5,
            .scale = kMicroseconds,
            .floor = [] { return wait_many(topic_of("wait_many/one"), 1); },
            .measured = [] { return wait_many(topic_of("wait_many/all"), 1000); },
            .options = {.pairs = 51, .block_ms = 10, .sleeps = true}};
  cases.push_back(std::move(many));
  Case asleep{.name = "fanout_asleep_64",
              .unit = "us",
              .floor_name = "a post to each of 64 sleepers",
              .direction = Direction::kDown,
              .goal = 1.5,
              .scale = kMicroseconds,
              .floor = [] { return wake_semaphores(64); },
              .measured = [] { return fan_out_asleep(topic_of("fanout_asleep_64"), 64); },
              .options = {.pairs = 31, .block_ms = 10, .count_most = 20, .sleeps = true}};
  cases.push_back(std::move(asleep));
}

Case open_case(Api api) {
  const std::string name = "open" + suffix(api);
  return {.name = name,
          .unit = "us",
          .floor_name = "Unix-socket round trip, spinning",
          .direction = Direction::kDown,
          .goal = 8,
          .scale = kMicroseconds,
          .floor = socket_round_trip,
          .measured = [=] { return opening(api, topic_of(name)); },
          .options = {.pairs = 31, .block_ms = 20, .sleeps = true}};
}

Case fan_out_case(const std::string& name, std::uint64_t bytes, double goal, double allowance,
                  std::optional<double> most) {
  return {.name = name,
          .unit = "ns",
          .floor_name = "publish with 1 subscriber",
          .direction = Direction::kDown,
          .goal = goal,
          .scale = kNanoseconds,
          .floor = [=] { return fan_out(topic_of(name) + "/one", bytes, 1); },
          .measured = [=] { return fan_out(topic_of(name) + "/all", bytes, 64); },
          .options = {.pairs = 51},
          .allowance = allowance,
          .most = most};
}

void add_footprint_cases(std::vector<Case>& cases) {
  const auto add = [&](const std::string& name, const char* unit, double limit, std::function<double()> count) {
    Case counted{};
    counted.name = name;
    counted.unit = unit;
    counted.floor_name = "limit";
    counted.goal = limit > 0 ? 1 : 0;
    counted.count = std::move(count);
    counted.limit = limit;
    cases.push_back(counted);
  };
  add("footprint_memory", "B", 8192, [] { return footprint_of_topic().bytes; });
  add("footprint_files", "", 1, [] { return footprint_of_topic().files; });
  add("footprint_mappings", "", 1, [] { return footprint_of_topic().mappings_per_process; });
  add("footprint_descriptors", "", 0, [] { return footprint_of_topic().descriptors; });
  add("faults_10000_cycles", "", 0, faults_of_warm_cycles);
  add("idle_switches", "", 0, [] { return idle_broker().switches; });
  add("idle_resident", "MiB", kIdleResidentMiB, [] { return idle_broker().resident_mib; });
}

// A floor against itself: how far from 1 the ratio is, and how wide p10 to p90, is the error of the harness.
Case null_case(const std::string& name, std::function<std::unique_ptr<Workload>()> floor, PairOptions options) {
  return {.name = "null_" + name,
          .unit = "ns",
          .floor_name = "itself",
          .direction = Direction::kDown,
          .goal = 1.05,
          .scale = kNanoseconds,
          .floor = floor,
          .measured = floor,
          .options = options,
          .on_demand = true};
}

void add_null_cases(std::vector<Case>& cases) {
  cases.push_back(null_case("roundtrip", cache_line_round_trip, {.pairs = 101}));
  cases.push_back(null_case("sleep", semaphore_round_trip, {.pairs = 81, .block_ms = 10, .sleeps = true}));
  cases.push_back(null_case("ring_single", [] { return bare_ring(kRingDefault, 1); }, {.pairs = 101}));
  cases.push_back(null_case("ring_batch", [] { return bare_ring(kRingDefault, kBatch); }, {.pairs = 101}));
  cases.push_back(null_case("memcpy_64m", [] { return warm_memcpy(k64MiB); }, {.pairs = 31, .count_most = 1}));
}

}  // namespace

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  add_footprint_cases(cases);  // first: later ones leave lanes that linger, and their timers
  for (const Api api : {Api::kC, Api::kCpp}) {
    cases.push_back(round_trip_case(api, "roundtrip_spin_32", {}, 1.15));
    cases.push_back(round_trip_case(api, "roundtrip_spin_4k", {.bytes = 4096}, 1.25));
    cases.push_back(round_trip_case(api, "roundtrip_touched_4k", {.bytes = 4096, .touched = true}, 1.6));
    cases.push_back(sleep_case(api));
    cases.push_back(flow_case(api, "throughput_32_single", {}, 0.9));
    cases.push_back(flow_case(api, "throughput_32_single_dropping", {.lossless = false}, 0.8));
    cases.push_back(flow_case(api, "throughput_32_batch", {.batch = kBatch}, 0.9));
    cases.push_back(flow_case(api, "throughput_32_batch_dropping", {.batch = kBatch, .lossless = false}, 0.8));
    cases.push_back(write_case(api, "64m", k64MiB));
  }
  for (const std::uint32_t slots : {32u, 128u, 256u, 1024u}) {
    const std::string name = "throughput_ring_" + std::to_string(slots);
    cases.push_back(flow_case(Api::kC, name + "_single", {.ring_slots = slots}, 0.9));
    cases.push_back(flow_case(Api::kC, name + "_batch", {.batch = kBatch, .ring_slots = slots}, 0.9));
  }
  cases.push_back(flow_case(Api::kC, "throughput_clock_coarse", {.clock = HF_CLOCK_COARSE}, 0.4));
  cases.push_back(flow_case(Api::kC, "throughput_clock_exact", {.clock = HF_CLOCK_EXACT}, 0.4));
  for (const bool touched : {false, true}) {
    const std::string what = touched ? "touched" : "spin";
    for (const auto& [size, bytes] : {std::pair{"1m", k1MiB}, std::pair{"1g", k1GiB}}) {
      Case large = round_trip_case(Api::kC, "roundtrip_" + what + "_" + size, {.bytes = bytes, .touched = touched},
                                   touched ? 1.6 : 1.25);
      large.measured = [bytes = bytes, make = large.measured] {
        need_shared_memory(bytes);
        return make();
      };
      cases.push_back(std::move(large));
      cases.push_back(size_case(what, size, bytes, touched));
    }
  }
  cases.push_back(write_case(Api::kC, "1m", k1MiB));
  cases.push_back(write_case(Api::kC, "1g", k1GiB));
  cases.push_back(huge_case("64m", k64MiB));
  cases.push_back(loan_flow_case("throughput_4k_lossless", true, 0.25));
  cases.push_back(loan_flow_case("throughput_4k_dropping", false, 0.1));
  cases.push_back(round_trip_case(Api::kC, "roundtrip_lossless_32", {.lossless = true}, 1.15));
  cases.push_back(round_trip_case(Api::kC, "roundtrip_lossless_4k", {.bytes = 4096, .lossless = true}, 1.25));
  cases.push_back(open_case(Api::kC));
  cases.push_back(open_case(Api::kCpp));
  cases.push_back(fan_out_case("fanout_inline_64", 32, 1.2, 0, 50));
  cases.push_back(fan_out_case("fanout_4k_64", 4096, 1, 40, std::nullopt));
  add_crowd_cases(cases);
  add_null_cases(cases);
  return cases;
}

std::vector<Case> chosen_cases(const std::string& only) {
  std::vector<Case> cases = all_cases();
  std::vector<Case> chosen;
  std::copy_if(cases.begin(), cases.end(), std::back_inserter(chosen), [&](const Case& one) {
    return (only.empty() && !one.on_demand) || one.name == only || (!only.empty() && one.name.starts_with(only + "_"));
  });
  return chosen;
}

}  // namespace holdfast::bench
