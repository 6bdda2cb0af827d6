// SPDX-License-Identifier: MIT
//
// A subscriber: the lanes of one topic, read in turn. One thread at a time; views are released by any thread.
//
// Lifetimes. Each attached lane is a LaneView object, shared by the subscriber and by its live views: it keeps the
// mapping, the reader record and the session. It goes away, and tells the broker that its record is free, when the
// subscriber has let go of it and the last view is released. The handle is closed at the broker when its last lane is
// gone. So a view never depends on what was closed, and a record is never given to somebody else under a pin.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/include/holdfast/holdfast.h"
#include "client/src/deadline.hpp"
#include "client/src/policy.hpp"
#include "client/src/session.hpp"
#include "proto/shm/lane_reader.hpp"

namespace holdfast::client {

// What the broker knows as one subscriber handle. Closed there when the last owner lets go.
class Subscription {
 public:
  Subscription(std::shared_ptr<Session> session, std::uint64_t handle)
      : session_(std::move(session)),
        handle_(handle),
        forks_(g_fork_count) {}
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;
  ~Subscription();

  Session& session() const { return *session_; }
  std::uint64_t handle() const { return handle_; }
  bool closing = false;  // the whole handle goes: lanes need not be released one by one

 private:
  std::shared_ptr<Session> session_;
  std::uint64_t handle_;
  std::uint32_t forks_;
};

// One lane as one subscriber reads it.
class LaneView {
 public:
  using Reader = shm::LaneReader<Atomics>;

  // Maps and joins the lane that `described` (a ReaderLane of the protocol) names.
  [[nodiscard]] static int attach(const std::shared_ptr<Subscription>& subscription, const nlohmann::json& described,
                                  const nlohmann::json& topic, int fd, int delivery, int start, LaneView** lane);

  Reader& reader() { return *reader_; }
  std::uint64_t id() const { return id_; }
  std::uint32_t publisher() const { return publisher_; }
  const std::uint8_t* base() const { return mapping_.at(0); }
  std::uint32_t entry_index() const { return entry_index_; }
  shm::Board* board() const { return board_; }
  std::uint64_t& record_bell() const { return record_->bell; }

  // A view was taken. The subscriber's thread.
  void hold() { ++taken_; }
  std::uint64_t held() const { return taken_ - released_.load(std::memory_order_relaxed); }
  std::uint64_t held_max() const { return held_max_; }

  // A view is released. Any thread; the last one after let_go() deletes the object.
  void release(std::uint32_t chunk) {
    reader_->release(chunk);
    if (const std::uint64_t waits = reader_->writer_waits(); waits != 0) [[unlikely]]
      ring_writer(waits);
    put();
  }

  // The subscriber is done with this lane: no more takes.
  void let_go();

  void made_room() {
    if (const std::uint64_t waits = reader_->writer_waits(); waits != 0) [[unlikely]]
      ring_writer(waits);
  }

  // New growth of the file is faulted in here, once, and not at the first touch of each page.
  void populate_growth() {
    if (reader_->valid_bytes() > populated_) [[unlikely]]
      populate();
  }

  bool inherited() const { return forks_ != g_fork_count; }

 private:
  LaneView() = default;
  ~LaneView();

  void ring_writer(std::uint64_t waits);
  void populate();

  // One reference given back. released_ counts them; final_ is how many there will be, once that is known.
  void put() {
    if (released_.fetch_add(1, std::memory_order_acq_rel) + 1 == final_.load(std::memory_order_acquire)) [[unlikely]]
      delete this;
  }

  std::unique_ptr<Reader> reader_;
  std::uint64_t taken_ = 0;
  alignas(64) std::atomic<std::uint64_t> released_{0};
  std::atomic<std::uint64_t> final_{~std::uint64_t{0}};

  alignas(64) std::shared_ptr<Subscription> subscription_;
  std::shared_ptr<Peer> publisher_peer_;
  Mapping mapping_;
  shm::ReaderRecord* record_ = nullptr;
  shm::Board* board_ = nullptr;
  std::vector<std::uint32_t> uses_;
  std::uint64_t id_ = 0;
  std::uint64_t populated_ = 0;
  std::uint64_t held_max_ = 0;
  std::uint32_t publisher_ = 0;
  std::uint32_t entry_index_ = 0;
  std::uint32_t forks_ = g_fork_count;
};

}  // namespace holdfast::client

struct hf_subscriber {
 public:
  [[nodiscard]] static int open(const std::shared_ptr<holdfast::client::Session>& session, const char* topic,
                                const hf_subscriber_options& options, hf_subscriber** subscriber);

  int take(hf_view& view);
  int take_batch(hf_view* views, std::size_t count, std::size_t& taken);
  int fd();
  void close(bool handle_gone);

  bool unusable() const { return closed_ || forks_ != holdfast::client::g_fork_count; }
  int why_unusable() const;
  std::uint64_t spin_ns() const { return spin_ns_; }
  holdfast::client::Session& session() const { return subscription_->session(); }

  // For waiting. announce(): this thread sleeps on `bell` from now on; ready(): is there something to take?
  void announce(std::uint32_t bell);
  bool ready();

 private:
  using LaneView = holdfast::client::LaneView;

  hf_subscriber() = default;
  ~hf_subscriber() = default;

  bool lanes_changed() const;
  int attach_lanes();
  int attach_listed(const nlohmann::json& result, std::vector<holdfast::client::Descriptor>& fds);
  int take_any(hf_view& view);
  int deliver(LaneView& lane, const holdfast::shm::Taken& taken, hf_view& view);
  void fill_view(LaneView& lane, const holdfast::shm::Taken& taken, hf_view& view);
  int not_a_sample(holdfast::shm::Take result, const holdfast::shm::Taken& taken, hf_view& view);
  int too_many_views(const LaneView& lane) const;
  void drop_lane(std::size_t index);
  bool arm_event();

  bool closed_ = false;
  std::uint32_t forks_ = holdfast::client::g_fork_count;
  std::size_t next_ = 0;
  std::vector<LaneView*> lanes_;
  const holdfast::shm::RosterBlock* topic_block_ = nullptr;
  std::uint64_t changes_ = 0;

  std::shared_ptr<holdfast::client::Subscription> subscription_;
  std::string topic_;
  nlohmann::json topic_options_;
  int delivery_ = HF_DROP_OLDEST;
  int start_ = HF_START_NEXT;
  std::uint64_t spin_ns_ = 0;
  std::uint64_t newest_lane_ = 0;
  std::int64_t attach_again_ns_ = 0;
  bool handle_gone_ = false;

  // For event loops: an epoll over an eventfd bell and the control socket.
  holdfast::client::Descriptor epoll_;
  holdfast::client::Descriptor event_;
  std::uint32_t event_bell_ = 0;
  std::uint64_t event_ticket_ = 0;
};
