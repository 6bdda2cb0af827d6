// SPDX-License-Identifier: MIT
//
// Row 8: two publishers with a lane each, one or two subscribers that read both lanes and sleep when there is nothing,
// each on its own bell, and a broker that adds a lane late, ends the lanes of the dead and rings. What the client does
// (looking at all lanes, arming, announcing, ringing) is done here step by step around the code that ships.
//
// What is checked: nothing is lost or torn, and when all has come to rest nobody sleeps on a sample, an end or a lane
// that he has not seen. Sleeps have no bound here: what a bounded sleep would mend counts as wrong. The one exception
// is a publisher that is stopped: what it published itself may stay unseen until it goes on.
//
// A bell may be an eventfd that the broker has still to name to the publisher (`unknown_bell`). Who slept on it when the
// board came down is put back on it, so that the next publish rings; that one can.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "proto/shm/bell.hpp"
#include "proto/shm/lane_reader.hpp"
#include "proto/shm/lane_writer.hpp"
#include "proto/shm/roster.hpp"
#include "tests/model/model_atomics.hpp"

namespace holdfast::model {

struct BellShape {
  std::array<std::uint64_t, 2> samples{1, 1};  // of each publisher
  std::uint32_t subscribers = 1;
  bool late_subscriber = false;  // the first subscriber comes when the publishers run already
  bool late_lane = false;  // the second lane is added while subscribers read the first
  bool finishes = true;  // publishers end their lanes
  bool publishers_die = false;
  bool publishers_stop = false;
  bool subscribers_die = false;
  bool subscribers_stop = false;
  bool unknown_bell = false;  // publishers cannot ring the first subscriber before their last publish
  bool full_fences = false;  // nobody has membarrier
};

class BellScenario : public Scenario {
 public:
  explicit BellScenario(const BellShape& shape);

  std::size_t processes() const override { return 2 + subscribers_.size() + 1; }
  void run(std::size_t process) override;
  std::string role(std::size_t process) const override;
  bool may_die(std::size_t process) const override;
  bool may_stop(std::size_t process) const override;
  bool registered(std::size_t) const override { return !shape_.full_fences; }
  void check() override;

 private:
  static constexpr std::uint32_t kRing = 4;
  static constexpr std::uint32_t kChunksMax = 8;
  using Writer = shm::LaneWriter<ModelAtomics>;
  using LaneReader = shm::LaneReader<ModelAtomics>;

  struct Lane {
    shm::LaneHeader header{};
    std::array<shm::Slot, kRing> ring{};
    shm::RosterBlock block{};
    shm::Board board{};
    std::uint64_t opened = 0;  // the broker's reply to its publisher
    std::array<shm::ReaderRef, 2> refs{};
  };
  struct alignas(128) Subscriber {
    std::array<shm::ReaderRecord, 2> records{};
    std::array<std::uint32_t, kChunksMax> uses{};
    shm::Bell bell{};
    std::array<std::optional<LaneReader>, 2> lanes;
    std::uint64_t admitted = 0;  // the broker's reply
    std::uint64_t changes = 0;  // of the topic, as it knows them
    std::uint64_t ticket = 0;
    std::array<std::uint64_t, 2> got{};
  };

  void publish(std::size_t index);
  void refresh(Writer& writer, Lane& lane);
  void ring_sleepers(Writer& writer, Lane& lane, bool last);
  bool ring(std::size_t subscriber, bool last);
  void subscribe(Subscriber& subscriber);
  void attach(Subscriber& subscriber, std::size_t lane);
  bool lanes_changed(const Subscriber& subscriber) const;
  bool ready(Subscriber& subscriber) const;
  bool take_any(Subscriber& subscriber);
  void sleep_once(Subscriber& subscriber);
  void serve();
  void add_lane();
  void end_lane(std::size_t lane);
  void detach(std::size_t subscriber);
  void admit(std::size_t subscriber);
  void ring_all();

  BellShape shape_;
  std::array<Lane, 2> lanes_{};
  shm::RosterBlock topic_{};
  std::vector<Subscriber> subscribers_;
  std::uint64_t listed_ = 0;  // broker → subscribers: the late lane
};

}  // namespace holdfast::model
