// SPDX-License-Identifier: MIT
//
// A lane with one publisher, lossless and drop-oldest readers, and a broker that repairs after a death. The processes
// run LaneWriter and LaneReader as they ship. What is checked: no torn sample, no view rewritten, nothing lost to a
// lossless reader, exact loss counts, no chunk free while it is held.
//
// Payloads are one word per chunk, written and read with relaxed accesses: a stale or a later value is a torn sample.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "proto/shm/lane_reader.hpp"
#include "proto/shm/lane_writer.hpp"
#include "proto/shm/roster.hpp"
#include "tests/model/model_atomics.hpp"

namespace holdfast::model {

struct LaneShape {
  std::uint32_t ring = 2;
  std::uint32_t chunks = 3;     // that the publisher has; 0: inline samples
  std::uint64_t samples = 4;
  std::uint64_t batch = 1;      // of publishes and takes
  std::uint32_t lossless = 0;   // readers attached from the start
  std::uint32_t dropping = 1;
  bool joins = false;           // one more reader joins on the way, lossless
  std::uint32_t takes = 3;      // per reader
  bool readers_die = false;
  bool publisher_dies = false;
  bool turns = false;           // the broker turns the first lossless reader
  bool finishes = false;        // the publisher ends the lane; readers drain it
};

class LaneScenario : public Scenario {
 public:
  explicit LaneScenario(const LaneShape& shape);

  std::size_t processes() const override { return 1 + readers_.size() + 1; }
  void run(std::size_t process) override;
  bool may_die(std::size_t process) const override;
  void check() override;

 private:
  static constexpr std::uint32_t kChunksMax = 8;  // pin bytes: one word

  struct alignas(128) Reader {
    shm::ReaderRecord record{};
    std::array<std::uint32_t, kChunksMax> uses{};
    bool lossless = false;
    bool attached = true;   // from the start
    std::uint64_t entry = 0;
    // What it saw.
    std::uint64_t first = 0;
    std::uint64_t got = 0;
    std::uint64_t missed = 0;
    std::uint64_t cursor = 0;
    bool ended = false;
  };

  void publish();
  void read(Reader& reader);
  void repair();
  bool make_room(shm::LaneWriter<ModelAtomics>& writer, std::uint64_t count);
  bool loan(shm::LaneWriter<ModelAtomics>& writer, std::uint32_t& chunk);
  void refresh(shm::LaneWriter<ModelAtomics>& writer);
  void look(const shm::Taken& taken, std::uint64_t position);

  LaneShape shape_;
  alignas(128) shm::LaneHeader header_{};
  std::vector<shm::Slot> ring_;
  shm::RosterBlock block_{};
  shm::Board board_{};
  std::vector<Reader> readers_;
  std::array<std::uint64_t, kChunksMax> payload_{};
  std::uint64_t joined_ = 0;   // broker → joining reader: its entry is there

  // The publisher's own.
  std::array<shm::Published, kChunksMax> outstanding_{};
  std::array<std::uint32_t, kChunksMax> pinned_{};
  std::array<std::uint64_t, 1> held_{};
  std::array<shm::ReaderRef, shm::kRosterEntries> refs_{};
  std::vector<std::uint32_t> free_;
  std::uint64_t published_ = 0;
};

}  // namespace holdfast::model
