// SPDX-License-Identifier: MIT
#include "bench/cases.hpp"

#include <algorithm>
#include <iterator>

#include "bench/floors.hpp"
#include "bench/footprint.hpp"
#include "bench/ours.hpp"
#include "holdfast/holdfast.h"

namespace holdfast::bench {

namespace {

constexpr double kNanoseconds = 1e9;
constexpr double kMicroseconds = 1e6;
constexpr double kMillions = 1e-6;
constexpr std::size_t kRingDefault = 64;
constexpr std::size_t kBatch = 16;  // a quarter of the ring
constexpr std::size_t k64MiB = std::size_t{64} << 20;

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

Case write_case(Api api) {
  const std::string name = "write_read_64m" + suffix(api);
  return {.name = name,
          .unit = "GB/s",
          .floor_name = "memcpy of 64 MiB, warm",
          .direction = Direction::kUp,
          .goal = 0.9,
          .scale = static_cast<double>(k64MiB) * 1e-9,
          .floor = [] { return warm_memcpy(k64MiB); },
          .measured = [=] { return write_in_place(api, topic_of(name), k64MiB); },
          .options = {.pairs = 31, .count_most = 1}};
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
          .floor = [=] { return fan_out(Api::kC, topic_of(name) + "/one", bytes, 1); },
          .measured = [=] { return fan_out(Api::kC, topic_of(name) + "/all", bytes, 64); },
          .options = {.pairs = 51},
          .allowance = allowance,
          .most = most};
}

void add_footprint_cases(std::vector<Case>& cases) {
  const auto add = [&](const char* what, const char* unit, double limit, double Footprint::* member) {
    Case counted{};
    counted.name = std::string("footprint_") + what;
    counted.unit = unit;
    counted.floor_name = "limit";
    counted.goal = limit > 0 ? 1 : 0;
    counted.count = [=] { return footprint_of_topic().*member; };
    counted.limit = limit;
    cases.push_back(counted);
  };
  add("memory", "B", 8192, &Footprint::bytes);
  add("files", "", 1, &Footprint::files);
  add("mappings", "", 1, &Footprint::mappings_per_process);
  add("descriptors", "", 0, &Footprint::descriptors);
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
  for (const Api api : {Api::kC, Api::kCpp}) {
    cases.push_back(round_trip_case(api, "roundtrip_spin_32", {}, 1.15));
    cases.push_back(round_trip_case(api, "roundtrip_spin_4k", {.bytes = 4096}, 1.25));
    cases.push_back(round_trip_case(api, "roundtrip_touched_4k", {.bytes = 4096, .touched = true}, 1.6));
    cases.push_back(sleep_case(api));
    cases.push_back(flow_case(api, "throughput_32_single", {}, 0.9));
    cases.push_back(flow_case(api, "throughput_32_single_dropping", {.lossless = false}, 0.8));
    cases.push_back(flow_case(api, "throughput_32_batch", {.batch = kBatch}, 0.9));
    cases.push_back(flow_case(api, "throughput_32_batch_dropping", {.batch = kBatch, .lossless = false}, 0.8));
    cases.push_back(write_case(api));
  }
  for (const std::uint32_t slots : {32u, 128u, 256u, 1024u}) {
    const std::string name = "throughput_ring_" + std::to_string(slots);
    cases.push_back(flow_case(Api::kC, name + "_single", {.ring_slots = slots}, 0.9));
    cases.push_back(flow_case(Api::kC, name + "_batch", {.batch = kBatch, .ring_slots = slots}, 0.9));
  }
  cases.push_back(flow_case(Api::kC, "throughput_clock_coarse", {.clock = HF_CLOCK_COARSE}, 0.4));
  cases.push_back(flow_case(Api::kC, "throughput_clock_exact", {.clock = HF_CLOCK_EXACT}, 0.4));
  cases.push_back(round_trip_case(Api::kC, "roundtrip_large_1m", {.bytes = 1 << 20}, 1.25));
  cases.push_back(round_trip_case(Api::kC, "roundtrip_large_256m", {.bytes = 1 << 28}, 1.25));
  cases.push_back(round_trip_case(Api::kC, "roundtrip_lossless_32", {.lossless = true}, 1.15));
  cases.push_back(round_trip_case(Api::kC, "roundtrip_lossless_4k", {.bytes = 4096, .lossless = true}, 1.25));
  cases.push_back(open_case(Api::kC));
  cases.push_back(open_case(Api::kCpp));
  cases.push_back(fan_out_case("fanout_inline_64", 32, 1.2, 0, 50));
  cases.push_back(fan_out_case("fanout_4k_64", 4096, 1, 40, std::nullopt));
  add_footprint_cases(cases);
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
