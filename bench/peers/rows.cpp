// SPDX-License-Identifier: MIT
#include "bench/peers/rows.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "bench/fan_out.hpp"
#include "bench/floors.hpp"
#include "bench/footprint.hpp"
#include "bench/ours.hpp"
#include "bench/peers/external.hpp"
#include "bench/peers/peers.hpp"
#include "bench/peers/workloads.hpp"

namespace holdfast::bench {

namespace {

constexpr std::size_t kFlowRing = 64;  // Holdfast's default

enum class Kind { kRoundTrip, kFlow, kFanOut, kOpen, kFootprint };

struct What {
  std::string name;
  Kind kind;
  PeerTrip trip{};
  std::uint32_t receivers = 1;
  double PeerFootprint::* counted = nullptr;
  double Footprint::* ours_counted = nullptr;
};

struct System {
  std::string name;
  MakePeer make{};                    // a library
  std::vector<std::string> command{};  // or programs
  std::uint64_t warm_up = 0;
  Wait flow_wait = Wait::kSleep;  // with which its throughput is best
  std::function<void()> prepare{};
  std::function<void()> tidy{};
  std::string missing{};  // why it cannot be measured here
};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) cannot(std::string(name) + " is not set: run scripts/bench");
  return value;
}

std::string programs_folder() { return environment("HOLDFAST_PEERS_BUILD"); }

// Why the build script could not make it; empty if it could.
std::string missing_program(const std::string& peer) {
  std::ifstream file(programs_folder() + "/" + peer + ".reason");
  std::string reason;
  std::getline(file, reason);
  return reason;
}

std::vector<std::string> java_command() {
  const std::string folder = programs_folder() + "/aeron";
  return {"java",
          "-XX:+UseSerialGC",
          "-Xms256m",
          "-Xmx1g",
          "-XX:+AlwaysPreTouch",
          "-Dagrona.disable.bounds.checks=true",
          "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED",
          "-cp",
          folder + "/aeron-all.jar:" + folder + "/classes",
          "Peer"};
}

// Its media driver is to it what the broker is to us: started once, by the first row that needs it.
void start_media_driver() {
  static std::unique_ptr<Companion> driver;
  if (driver) return;
  std::vector<std::string> command = java_command();
  for (const std::string& argument :
       {std::string("role=driver"), "folder=" + runtime_folder(), "prefix=" + shared_memory_prefix()})
    command.push_back(argument);
  driver = std::make_unique<Companion>(command);
}

System library(const char* name, [[maybe_unused]] MakePeer make, Wait flow_wait, const char* missing = "") {
  return {.name = name, .make = std::move(make), .flow_wait = flow_wait, .missing = missing};
}

std::vector<System> all_systems() {
  std::vector<System> systems;
  systems.push_back({.name = "holdfast"});
  systems.push_back({.name = "iceoryx2",
                     .command = {programs_folder() + "/iceoryx2/release/peer_iceoryx2"},
                     .warm_up = 1000,
                     .missing = missing_program("iceoryx2")});
  systems.push_back({.name = "aeron",
                     .command = java_command(),
                     .warm_up = 200'000,
                     .prepare = start_media_driver,
                     .missing = missing_program("aeron")});
#ifdef HOLDFAST_PEER_BOOST_QUEUE
  systems.push_back(library("boost_queue", make_boost_queue, Wait::kSpin));
#else
  systems.push_back(library("boost_queue", {}, Wait::kSpin, "Debian's libboost1.81-dev is not installed"));
#endif
#ifdef HOLDFAST_PEER_ZEROMQ
  systems.push_back(library("zeromq", make_zeromq, Wait::kSleep));
#else
  systems.push_back(library("zeromq", {}, Wait::kSleep, "Debian's libzmq3-dev is not installed"));
#endif
#ifdef HOLDFAST_PEER_NNG
  systems.push_back(library("nng", make_nng, Wait::kSleep));
#else
  systems.push_back(library("nng", {}, Wait::kSleep, "Debian's libnng-dev is not installed"));
#endif
#ifdef HOLDFAST_PEER_FAST_DDS
  systems.push_back(library("fast_dds", make_fast_dds, Wait::kSpin));
  systems.back().tidy = tidy_fast_dds;
#else
  systems.push_back(library("fast_dds", {}, Wait::kSpin, "Debian's libfastrtps-dev is not installed"));
#endif
  systems.push_back(library("unix_socket", make_unix_socket, Wait::kSleep));
  systems.push_back(library("pipe", make_pipe, Wait::kSleep));
  return systems;
}

std::vector<What> all_whats() {
  const std::pair<const char*, std::size_t> kSizes[] = {
      {"4k", 4096}, {"1m", std::size_t{1} << 20}, {"100m", std::size_t{100} << 20}};
  std::vector<What> whats;
  const auto trip = [&](const std::string& name, const PeerTrip& shape) {
    whats.push_back({.name = name, .kind = Kind::kRoundTrip, .trip = shape});
  };
  trip("roundtrip_spin_32", {});
  for (const auto& [size, bytes] : kSizes)
    trip(std::string("roundtrip_spin_") + size, {.bytes = bytes, .touched = false});
  for (const auto& [size, bytes] : kSizes) trip(std::string("roundtrip_touched_") + size, {.bytes = bytes});
  trip("roundtrip_sleep_32", {.wait = Wait::kSleep});
  for (const auto& [size, bytes] : kSizes)
    trip(std::string("roundtrip_sleep_") + size, {.bytes = bytes, .touched = false, .wait = Wait::kSleep});
  whats.push_back({.name = "throughput_32_single", .kind = Kind::kFlow});
  for (const std::uint32_t receivers : {1u, 8u, 64u})
    whats.push_back({.name = "fanout_" + std::to_string(receivers), .kind = Kind::kFanOut, .receivers = receivers});
  whats.push_back({.name = "open", .kind = Kind::kOpen});
  const auto count = [&](const char* name, double PeerFootprint::* counted, double Footprint::* ours) {
    whats.push_back({.name = name, .kind = Kind::kFootprint, .counted = counted, .ours_counted = ours});
  };
  count("footprint_memory", &PeerFootprint::bytes, &Footprint::bytes);
  count("footprint_files", &PeerFootprint::files, &Footprint::files);
  count("footprint_descriptors", &PeerFootprint::descriptors, &Footprint::descriptors);
  return whats;
}

std::unique_ptr<Workload> our_workload(const What& what, const std::string& topic) {
  switch (what.kind) {
    case Kind::kRoundTrip:
      return round_trip(Api::kC, topic,
                        {.bytes = what.trip.bytes,
                         .touched = what.trip.touched && what.trip.bytes > 32,
                         .asleep = what.trip.wait == Wait::kSleep});
    case Kind::kFlow:
      return flow(Api::kC, topic, {});
    case Kind::kFanOut:
      return fan_out(topic, 32, what.receivers);
    case Kind::kOpen:
      return opening(Api::kC, topic);
    case Kind::kFootprint:
      break;
  }
  std::abort();
}

std::unique_ptr<Workload> library_workload(const What& what, const System& system, const std::string& topic) {
  switch (what.kind) {
    case Kind::kRoundTrip:
      return peer_round_trip(system.make, topic, what.trip);
    case Kind::kFlow:
      return peer_flow(system.make, topic, system.flow_wait);
    case Kind::kFanOut:
      return peer_fan_out(system.make, topic, what.receivers);
    case Kind::kOpen:
      return peer_opening(system.make, topic);
    case Kind::kFootprint:
      break;
  }
  std::abort();
}

External external_of(const What& what, const System& system, const std::string& topic) {
  static const char* const kNames[] = {"roundtrip", "flow", "fanout", "open", "footprint"};
  const bool small = what.kind == Kind::kRoundTrip && what.trip.bytes <= 4096 && what.trip.wait == Wait::kSpin;
  return {.command = system.command,
          .what = kNames[static_cast<int>(what.kind)],
          .topic = topic,
          .trip = what.trip,
          .receivers = what.receivers,
          .warm_up = small || what.kind == Kind::kFlow || what.kind == Kind::kFanOut ? system.warm_up : 0};
}

std::unique_ptr<Workload> make_workload(const What& what, const System& system, const std::string& topic) {
  if (!system.missing.empty()) cannot(system.missing);
  if (system.prepare) system.prepare();
  if (system.make) return library_workload(what, system, topic);
  if (!system.command.empty()) return external(external_of(what, system, topic));
  return our_workload(what, topic);
}

double count_footprint(const What& what, const System& system, const std::string& topic) {
  if (!system.missing.empty()) cannot(system.missing);
  if (system.prepare) system.prepare();
  if (system.make) return peer_footprint(system.make, topic).*what.counted;
  if (!system.command.empty()) return external_footprint(external_of(what, system, topic)).*what.counted;
  return footprint_of_topic().*what.ours_counted;
}

void add_floor(const What& what, Case& row) {
  const auto set = [&](const char* name, const char* unit, double scale,
                       std::function<std::unique_ptr<Workload>()> floor, const PairOptions& options) {
    row.floor_name = name;
    row.unit = unit;
    row.scale = scale;
    row.floor = std::move(floor);
    row.options = options;
  };
  const bool large = what.trip.bytes > (std::size_t{1} << 20);
  if (what.kind == Kind::kRoundTrip && what.trip.wait == Wait::kSleep)
    set("semaphore round trip", "us", 1e6, semaphore_round_trip,
        {.pairs = large ? 21u : 41u, .block_ms = 10, .sleeps = true});
  else if (what.kind == Kind::kRoundTrip)
    set("cache-line round trip", "ns", 1e9, cache_line_round_trip,
        {.pairs = large ? 21u : 51u, .sleeps = what.trip.bytes > 4096});
  else if (what.kind == Kind::kFlow)
    set("bare ring of 64, one by one", "M/s", 1e-6, [] { return bare_ring(kFlowRing, 1); },
        {.pairs = 51, .block_ms = 10});
  else if (what.kind == Kind::kFanOut)
    set("cache-line round trip", "ns", 1e9, cache_line_round_trip, {.pairs = 51, .block_ms = 10, .sleeps = true});
  else
    set("Unix-socket round trip, spinning", "us", 1e6, socket_round_trip,
        {.pairs = 31, .block_ms = 10, .sleeps = true});
}

Case case_of(const What& what, const System& system) {
  const std::string topic = "peers/" + what.name + "/" + system.name;
  Case row{};
  row.name = "peers_" + what.name + "_" + system.name;
  row.direction = what.kind == Kind::kFlow ? Direction::kUp : Direction::kDown;
  if (what.kind == Kind::kFootprint) {
    row.unit = what.name == "footprint_memory" ? "B" : "";
    row.floor_name = "none";
    row.count = [=] { return count_footprint(what, system, topic); };
    return row;
  }
  add_floor(what, row);
  row.measured = [=] { return make_workload(what, system, topic); };
  return row;
}

}  // namespace

std::string runtime_folder() { return environment("HOLDFAST_BENCH_RUNTIME"); }
std::string shared_memory_prefix() { return "holdfast." + environment("HOLDFAST_INSTANCE") + "."; }

std::vector<PeerRow> peer_rows(const std::string& only) {
  std::vector<PeerRow> rows;
  const std::vector<System> systems = all_systems();
  for (const What& what : all_whats())
    for (const System& system : systems) {
      PeerRow row{.what = what.name, .peer = system.name, .measured = case_of(what, system), .tidy = system.tidy};
      if (only.empty() || row.measured.name == only || row.measured.name.starts_with(only + "_"))
        rows.push_back(std::move(row));
    }
  return rows;
}

}  // namespace holdfast::bench
