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
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/include/holdfast/holdfast.h"
#include "client/src/back_off.hpp"
#include "client/src/deadline.hpp"
#include "client/src/policy.hpp"
#include "client/src/session.hpp"
#include "client/src/view_count.hpp"
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

  // The whole handle goes: lanes need not be released one by one. Said by the subscriber's thread, asked by whichever
  // thread releases the last view of a lane. Relaxed is enough, for nothing else is read because of it: who misses it
  // sends a request too many, before the handle's own, since that one waits for the last lane.
  void set_closing() { closing_.store(true, std::memory_order_relaxed); }
  bool closing() const { return closing_.load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<Session> session_;
  std::uint64_t handle_;
  std::uint32_t forks_;
  std::atomic<bool> closing_{false};
};

// One lane as one subscriber reads it.
class LaneView {
 public:
  using Reader = shm::LaneReader<Atomics>;

  // Maps and joins the lane that `described` (a ReaderLane of the protocol) names.
  [[nodiscard]] static int attach(const std::shared_ptr<Subscription>& subscription, const nlohmann::json& described,
                                  const nlohmann::json& topic, int fd, int delivery, int start,
                                  const Session::Patience& patience, LaneView** lane);

  Reader& reader() { return *reader_; }
  std::uint64_t id() const { return id_; }
  std::uint32_t publisher() const { return publisher_; }
  std::uint32_t lane_number() const { return static_cast<std::uint32_t>(id_); }
  const std::uint8_t* base() const { return mapping_.at(0); }
  std::uint32_t entry_index() const { return entry_index_; }
  shm::Board* board() const { return board_; }
  std::uint64_t& record_bell() const { return record_->bell; }

  // A view was taken. The subscriber's thread.
  void hold() { views_.take(); }
  std::uint64_t held() const { return views_.held(); }
  std::uint64_t held_max() const { return held_max_; }

  // A view is released. Any thread; the last one after let_go() deletes the object.
  void release(std::uint32_t chunk) {
    reader_->release(chunk);
    if (const std::uint64_t waits = reader_->writer_waits(); waits != 0) [[unlikely]]
      ring_writer(waits);
    if (views_.give_back()) [[unlikely]]
      delete this;
  }

  // The subscriber is done with this lane: no more takes.
  void let_go();

  // After a take of a lossless reader. Does the publisher wait for it?
  bool writer_waits() const { return reader_->lossless() && reader_->writer_waits() != 0; }
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

  std::optional<Reader> reader_;
  ViewCount views_;

  std::shared_ptr<Subscription> subscription_;
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
  using LaneView = holdfast::client::LaneView;

  [[nodiscard]] static int open(const std::shared_ptr<holdfast::client::Session>& session, const char* topic,
                                const hf_subscriber_options& options, hf_subscriber** subscriber);

  LaneView* quick_lane() const;
  int take(hf_view& view);
  int take_batch(hf_view* views, std::size_t count, std::size_t& taken);
  int fd();
  void close(bool handle_gone);

  bool unusable() const { return closed_ || forks_ != holdfast::client::g_fork_count; }
  int why_unusable() const;
  std::uint64_t spin_ns() const { return spin_ns_; }
  holdfast::client::Session& session() const { return subscription_->session(); }

  // For waiting. announce(): this thread sleeps on `bell` from now on; ready(): is there something to take?
  // changes_due(): perhaps, behind see_changes(), as lanes have come or ended that this subscriber has not looked at.
  void announce(std::uint32_t bell);
  bool ready() const;
  bool changes_due() const;
  void see_changes();
  // A lane may have come that we could not attach: no sleep is longer than this. At most `most_ns`.
  std::int64_t sleep_ns(std::int64_t most_ns) const;
  // After a sleep that nobody ended: perhaps nobody can any more.
  void look_for_broker();

 private:
  hf_subscriber() = default;
  ~hf_subscriber() = default;

  bool lanes_changed() const;
  bool attach_due() const;
  using Patience = holdfast::client::Session::Patience;
  int attach_lanes(const Patience& patience);
  int ask_for_lanes(const Patience& patience);
  int list_lanes(const Patience& patience, holdfast::client::Reply& reply);
  int attach_listed(const nlohmann::json& result, std::vector<holdfast::Descriptor>& fds, const Patience& patience);
  void attach_no_more(int why);
  void see_ends();
  int take_any(hf_view& view);
  int not_taken(holdfast::shm::Take result, holdfast::shm::Told told, hf_view& view);
  int deliver(LaneView& lane, const holdfast::shm::Taken& taken, hf_view& view);
  int not_a_sample(holdfast::shm::Take result, const holdfast::shm::Told& told, hf_view& view);
  int too_many_views(const LaneView& lane) const;
  void drop_lane(std::size_t index);
  void note_only() { only_ = lanes_.size() == 1 && !epoll_ ? lanes_.front() : nullptr; }
  bool arm_event();
  void rejoin_event();

  bool closed_ = false;
  std::uint32_t forks_ = holdfast::client::g_fork_count;
  LaneView* only_ = nullptr;  // the lane if there is one and no event loop
  const holdfast::shm::RosterBlock* topic_block_ = nullptr;
  std::uint64_t changes_ = 0;
  std::size_t next_ = 0;
  std::vector<LaneView*> lanes_;

  std::shared_ptr<holdfast::client::Subscription> subscription_;
  std::string topic_;
  nlohmann::json topic_options_;
  int delivery_ = HF_DROP_OLDEST;
  int start_ = HF_START_NEXT;
  std::uint64_t spin_ns_ = 0;
  std::uint64_t newest_lane_ = 0;
  std::int64_t attach_again_ns_ = 0;
  std::shared_ptr<holdfast::client::LateAnswer> late_lanes_ = std::make_shared<holdfast::client::LateAnswer>();
  holdfast::client::BackOff back_off_;
  bool handle_gone_ = false;
  int no_more_ = HF_OK;  // why no lane will ever come again, and in words
  std::string no_more_sentence_;

  // For event loops: an epoll over an eventfd bell, the control socket and a timer. A broker that resumed the session has
  // given the bell a new eventfd: those before stay, for publishers that have not heard of it.
  holdfast::Descriptor epoll_;
  holdfast::Descriptor event_;
  std::deque<holdfast::Descriptor> events_before_;
  std::uint32_t event_resumed_ = 0;  // the session, when the bell's eventfd was asked for
  std::shared_ptr<holdfast::client::LateAnswer> late_event_ = std::make_shared<holdfast::client::LateAnswer>();
  holdfast::Descriptor look_again_;
  bool broker_gone_ = false;
  std::uint32_t event_bell_ = 0;
  std::uint64_t event_ticket_ = 0;
};

// ---- the shortest way, inline into the C ABI ------------------------------------------------------------------------

inline bool hf_subscriber::lanes_changed() const {
  return holdfast::client::Atomics::load<holdfast::shm::At::kSleepTopic>(topic_block_->changes) != changes_;
}

namespace holdfast::client {

// Two neighbouring words of a view in one store. The way back to the publisher waits for every store before it, and a
// user who loads 16 bytes at once would wait for two stores of 8 to leave the store buffer.
template <std::size_t kOffset>
[[gnu::always_inline]] inline void store_pair(hf_view& view, std::uint64_t first, std::uint64_t second) {
  using Pair = std::uint64_t __attribute__((vector_size(16)));
  static_assert(kOffset % sizeof(Pair) == 0 && kOffset + sizeof(Pair) <= sizeof(hf_view));
  const Pair pair{first, second};
  std::memcpy(reinterpret_cast<std::uint8_t*>(&view) + kOffset, &pair, sizeof pair);
}

static_assert(offsetof(hf_view, bytes) == offsetof(hf_view, data) + 8 &&
              offsetof(hf_view, type) == offsetof(hf_view, attributes) + 12 &&
              offsetof(hf_view, time_ns) == offsetof(hf_view, position) + 8 &&
              offsetof(hf_view, turned) == offsetof(hf_view, missed) + 12 &&
              offsetof(hf_view, lane) == offsetof(hf_view, holder) + 12 && sizeof(void*) == 8 &&
              std::endian::native == std::endian::little);

[[gnu::always_inline]] inline void fill_view(LaneView& lane, const shm::Taken& taken, const void* data,
                                             const void* attributes, void* holder, hf_view& view) {
  store_pair<offsetof(hf_view, data)>(view, reinterpret_cast<std::uintptr_t>(data), taken.payload_bytes);
  store_pair<offsetof(hf_view, attributes)>(view, reinterpret_cast<std::uintptr_t>(attributes),
                                            taken.attribute_bytes | std::uint64_t{taken.type} << 32);
  store_pair<offsetof(hf_view, position)>(view, taken.position, taken.time);
  store_pair<offsetof(hf_view, missed)>(view, 0, lane.publisher());  // and not turned
  store_pair<offsetof(hf_view, holder)>(view, reinterpret_cast<std::uintptr_t>(holder),
                                        taken.chunk | std::uint64_t{lane.lane_number()} << 32);
}

[[gnu::always_inline]] inline void fill_inline_view(LaneView& lane, const shm::Taken& taken, hf_view& view) {
  fill_view(lane, taken, nullptr, nullptr, nullptr, view);
  store_pair<offsetof(hf_view, inline_payload)>(view, taken.words[0], taken.words[1]);
  store_pair<offsetof(hf_view, inline_payload) + 16>(view, taken.words[2], taken.words[3]);
}

[[gnu::always_inline]] inline void fill_chunk_view(LaneView& lane, const shm::Taken& taken, hf_view& view) {
  lane.populate_growth();
  const std::uint8_t* payload = lane.base() + taken.offset;
  fill_view(lane, taken, payload,
            taken.attribute_bytes != 0 ? payload + shm::attributes_offset(taken.payload_bytes) : nullptr, &lane, view);
  lane.hold();
}

inline void fill_view(LaneView& lane, const shm::Taken& taken, hf_view& view) {
  taken.chunk == shm::kNoChunk ? fill_inline_view(lane, taken, view) : fill_chunk_view(lane, taken, view);
}

}  // namespace holdfast::client

// One lane and nothing new: straight to it. nullptr: the long way.
inline holdfast::client::LaneView* hf_subscriber::quick_lane() const {
  LaneView* const only = only_;  // none in a closed subscriber
  if (only == nullptr || forks_ != holdfast::client::g_fork_count || lanes_changed()) [[unlikely]]
    return nullptr;
  return only;
}
