// SPDX-License-Identifier: MIT
#include "tests/model/scenarios.hpp"

#include "tests/model/bell_scenario.hpp"
#include "tests/model/lane_scenario.hpp"

namespace holdfast::model {

namespace {

Make lane(const LaneShape& shape) {
  return [shape] { return std::make_unique<LaneScenario>(shape); };
}

Make bells(const BellShape& shape) {
  return [shape] { return std::make_unique<BellScenario>(shape); };
}

}  // namespace

std::span<const Case> cases() {
  static const Case all[] = {
      {"inline-dropping", lane({.chunks = 0, .samples = 4})},
      {"inline-lossless", lane({.chunks = 0, .lossless = 1, .dropping = 0})},
      {"chunk-dropping", lane({})},
      {"chunk-lossless", lane({.lossless = 1, .dropping = 0})},
      {"chunk-both", lane({.lossless = 1})},
      {"chunk-turned", lane({.lossless = 1, .dropping = 0, .takes = 5, .turns = true})},
      {"one-chunk-turned", lane({.chunks = 1, .samples = 2, .lossless = 1, .dropping = 0, .takes = 2, .turns = true})},
      {"inline-turned", lane({.chunks = 0, .lossless = 1, .dropping = 0, .takes = 5, .turns = true})},
      {"chunk-join", lane({.dropping = 0, .joins = true})},
      {"inline-join", lane({.chunks = 0, .samples = 5, .dropping = 0, .joins = true})},
      {"inline-join-latest",
       lane({.chunks = 0, .samples = 5, .dropping = 0, .joins = true, .start = shm::Start::kLatest})},
      {"inline-join-next", lane({.chunks = 0, .samples = 5, .dropping = 0, .joins = true, .start = shm::Start::kNext})},
      {"roster-chain", lane({.chunks = 0, .samples = 5, .dropping = 0, .joins = true, .chained = true})},
      {"chunk-again", lane({.dropping = 1, .takes = 2, .joins = true, .again = true})},
      {"inline-again",
       lane({.chunks = 0, .samples = 5, .lossless = 1, .dropping = 0, .takes = 2, .joins = true, .again = true})},
      {"batch", lane({.ring = 4, .chunks = 4, .samples = 6, .batch = 2})},
      {"batch-lossless", lane({.ring = 4, .chunks = 4, .samples = 6, .batch = 2, .lossless = 1, .dropping = 0})},
      {"batch-inline", lane({.ring = 4, .chunks = 0, .samples = 6, .batch = 2, .lossless = 1})},
      {"batch-turned",
       lane({.ring = 4, .chunks = 4, .samples = 6, .batch = 2, .lossless = 1, .dropping = 0, .turns = true})},
      {"finish", lane({.chunks = 0, .samples = 2, .lossless = 1, .dropping = 0, .takes = 6, .finishes = true})},
      {"grow", lane({.samples = 3, .lossless = 1, .dropping = 1, .grows = true})},
      {"grow-deaths", lane({.samples = 3, .lossless = 1, .readers_die = true, .publisher_dies = true, .grows = true}),
       1},
      {"deaths", lane({.lossless = 1, .takes = 4, .readers_die = true, .publisher_dies = true}), 1},
      {"stops", lane({.lossless = 1, .takes = 3, .readers_stop = true}), 1},
      {"turned-stops", lane({.lossless = 1, .dropping = 0, .takes = 5, .readers_stop = true, .turns = true}), 1},
      {"two-deaths", lane({.samples = 3, .lossless = 1, .readers_die = true, .publisher_dies = true}), 2},
      {"batch-deaths",
       lane({.ring = 4,
             .chunks = 4,
             .samples = 6,
             .batch = 2,
             .lossless = 1,
             .readers_die = true,
             .publisher_dies = true}),
       1},
      {"again-deaths",
       lane({.lossless = 1, .dropping = 0, .takes = 2, .joins = true, .again = true, .readers_die = true}), 1},
      {"room-inline", lane({.chunks = 0, .lossless = 1, .dropping = 0, .takes = 4, .waits = true})},
      {"room-chunk", lane({.chunks = 1, .samples = 3, .lossless = 1, .dropping = 0, .takes = 4, .waits = true})},
      {"room-dropping", lane({.chunks = 1, .samples = 3, .takes = 3, .waits = true})},
      {"room-both", lane({.chunks = 2, .lossless = 1, .takes = 3, .waits = true})},
      {"room-turned", lane({.chunks = 1, .lossless = 1, .dropping = 0, .takes = 4, .turns = true, .waits = true})},
      {"room-deaths", lane({.chunks = 1, .samples = 3, .lossless = 1, .takes = 3, .readers_die = true, .waits = true}),
       1},
      {"room-publisher-dies",
       lane({.chunks = 1, .samples = 3, .lossless = 1, .takes = 3, .publisher_dies = true, .waits = true}), 1},
      {"room-batch",
       lane({.ring = 4, .chunks = 4, .samples = 6, .batch = 2, .lossless = 1, .takes = 3, .waits = true})},
      {"full-dropping", lane({.full_fences = true})},
      {"full-join", lane({.chunks = 0, .samples = 5, .dropping = 0, .joins = true, .full_fences = true})},
      {"full-turned",
       lane({.chunks = 1, .samples = 2, .lossless = 1, .dropping = 0, .takes = 2, .turns = true, .full_fences = true})},
      {"full-room",
       lane({.chunks = 1, .samples = 3, .lossless = 1, .dropping = 0, .takes = 4, .waits = true, .full_fences = true})},
      {"lacking-join", lane({.chunks = 0, .samples = 5, .dropping = 0, .joins = true, .joiner_lacks = true})},
      {"bells", bells({.samples = {2, 0}, .finishes = false})},
      {"bells-two-lanes", bells({})},
      {"bells-late-lane", bells({.late_lane = true})},
      {"bells-late-subscriber", bells({.samples = {2, 0}, .late_subscriber = true, .finishes = false})},
      {"bells-two-by-two", bells({.subscribers = 2})},
      {"bells-two-by-two-late", bells({.subscribers = 2, .late_lane = true})},
      {"bells-deaths", bells({.subscribers = 2, .publishers_die = true}), 1},
      {"bells-subscriber-deaths", bells({.subscribers = 2, .subscribers_die = true}), 1},
      {"bells-stops", bells({.samples = {1, 2}, .publishers_stop = true}), 1},
      {"bells-subscriber-stops", bells({.subscribers = 2, .subscribers_stop = true}), 1},
      {"bells-skipped", bells({.samples = {2, 0}, .subscribers = 2, .finishes = false, .unknown_bell = true})},
      {"bells-skipped-two-lanes", bells({.samples = {1, 2}, .unknown_bell = true})},
      {"bells-skipped-deaths", bells({.samples = {2, 1}, .publishers_die = true, .unknown_bell = true}), 1},
      {"full-bells-open", bells({.samples = {2, 0}, .finishes = false, .full_fences = true})},
      {"full-bells", bells({.samples = {2, 1}, .full_fences = true})},
  };
  return all;
}

const Case* find_case(const std::string& name) {
  for (const Case& one : cases())
    if (name == one.name) return &one;
  return nullptr;
}

const char* name_of(Memory memory) {
  constexpr const char* kNames[] = {"sequential", "buffers", "views"};
  return kNames[static_cast<std::size_t>(memory)];
}

}  // namespace holdfast::model
