// SPDX-License-Identifier: MIT
//
// A lane with one publisher, lossless and drop-oldest readers, and a broker that admits, detaches, turns, grows and
// repairs after a death. The processes run LaneWriter and LaneReader as they ship, and what the client does around them
// (refreshing the roster, waiting for room, ringing the writer) step by step. What is checked: no torn sample, no view
// rewritten, nothing lost to a lossless reader, exact loss counts, no chunk free while it is held or freed twice, none
// leaked, and no writer asleep while there is room.
//
// Payloads are one word per chunk that is no atomic: a stale or a later value is a torn sample, an unordered one a race.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "proto/shm/lane_reader.hpp"
#include "proto/shm/lane_writer.hpp"
#include "proto/shm/roster.hpp"
#include "tests/model/model_atomics.hpp"

namespace holdfast::model {

struct LaneShape {
  std::uint32_t ring = 2;
  std::uint32_t chunks = 3;  // that the publisher has; 0: inline samples
  std::uint64_t samples = 4;
  std::uint64_t batch = 1;  // of publishes and takes
  std::uint32_t lossless = 0;  // readers attached from the start
  std::uint32_t dropping = 1;
  std::uint32_t takes = 3;  // per reader
  bool joins = false;  // one more reader joins on the way, lossless
  bool again = false;  // the joining reader gets place and record of the first one, which has left
  shm::Start start = shm::Start::kOldest;  // of the joining reader
  bool readers_die = false;
  bool readers_stop = false;  // and never go on: what they hold stays held
  bool publisher_dies = false;
  bool turns = false;  // the broker turns the first lossless reader
  bool finishes = false;  // the publisher ends the lane; readers drain it
  bool grows = false;  // all chunks but the first are there only when the broker has grown the lane
  bool waits = false;  // the publisher sleeps until there is room
  bool full_fences = false;  // nobody has membarrier
  bool chained = false;  // the joining reader's entry is in a second block of the roster
  bool joiner_lacks = false;  // the joining reader has no membarrier, and the lane learns it with its entry
};

class LaneScenario : public Scenario {
 public:
  explicit LaneScenario(const LaneShape& shape);

  std::size_t processes() const override { return 1 + readers_.size() + 1; }
  void run(std::size_t process) override;
  std::string role(std::size_t process) const override;
  bool may_die(std::size_t process) const override;
  bool may_stop(std::size_t process) const override;
  bool registered(std::size_t process) const override;
  void check() override;

 private:
  static constexpr std::uint32_t kChunksMax = 8;  // pin bytes: one word

  using Writer = shm::LaneWriter<ModelAtomics>;
  using LaneReader = shm::LaneReader<ModelAtomics>;

  struct alignas(128) Reader {
    shm::ReaderRecord own_record{};
    shm::ReaderRecord* record = nullptr;
    std::array<std::uint32_t, kChunksMax> uses{};
    std::uint32_t place = 0;
    bool lossless = false;
    bool attached = true;  // from the start
    std::uint64_t entry = 0;
    std::uint64_t admitted = 0;  // the broker's reply
    // What it saw.
    std::uint64_t first = 0;
    std::uint64_t got = 0;
    std::uint64_t missed = 0;
    std::uint64_t cursor = 0;
    bool ended = false;
  };

  void publish();
  bool make_room(std::uint64_t count);
  bool has_room(std::uint64_t count);
  bool loan(std::uint32_t& chunk);
  bool take_back();
  bool grow();
  void freed(std::uint32_t chunk);
  template <class Ready>
  bool sleep_until(Ready&& ready);
  void refresh();
  const std::uint64_t* find_readers();
  void publish_part(std::uint64_t first, std::uint64_t count, const std::vector<std::uint32_t>& chunks);
  void collect_all();

  void read(Reader& reader);
  void begin(Reader& reader, LaneReader& lane);
  bool take_some(Reader& reader, LaneReader& lane, shm::Taken& held);
  void let_go(LaneReader& lane, shm::Taken& held);
  void made_room(const LaneReader& lane);
  void look(const shm::Taken& taken, std::uint64_t position);

  void serve();
  void admit(Reader& reader);
  void detach(Reader& reader);
  void store_entry(const Reader& reader, std::uint64_t entry);
  void link_second();
  const std::uint64_t& place_of(const Reader& reader) const;
  void turn(Reader& reader);
  void repair(std::size_t process);
  void hand_on();
  void ring_writer();

  std::size_t reader_count() const { return readers_.size(); }
  bool over(std::size_t process) const { return done(process) || dead(process) || asleep(process) || stopped(process); }
  bool due(const std::uint64_t& message, std::uint64_t handled) const;

  LaneShape shape_;
  alignas(128) shm::LaneHeader header_{};
  std::vector<shm::Slot> ring_;
  struct {
    shm::RosterHeader header{};
    shm::RosterBlock first{};
    shm::RosterBlock second{};
  } roster_;
  shm::RosterBlock& block_ = roster_.first;
  shm::Board board_{};
  shm::Bell bell_{};  // of the publisher
  std::vector<Reader> readers_;
  std::array<std::uint64_t, kChunksMax> payload_{};
  // Messages.
  std::uint64_t asked_ = 0;  // publisher → broker: memory
  std::uint64_t grown_ = 0;  // broker → publisher
  std::uint64_t left_ = 0;  // the first reader → broker
  std::uint64_t gone_ = 0;  // each reader, or the broker for a dead one → publisher

  bool handed_on_ = false;

  // The publisher's own.
  std::optional<Writer> writer_;
  std::array<shm::Published, kChunksMax> outstanding_{};
  std::array<std::uint32_t, kChunksMax> pinned_{};
  std::array<std::uint64_t, 1> held_{};
  std::vector<shm::ReaderRef> refs_;
  std::vector<std::uint32_t> free_;
  std::uint32_t given_ = 0;  // chunks that there are
  std::uint64_t wanted_ = 0;  // slots that it waits for; 0: a chunk
  std::uint64_t published_ = 0;
  std::uint64_t ticket_ = 0;
};

}  // namespace holdfast::model
