// SPDX-License-Identifier: MIT
//
// A publisher: one lane, its memory, and the readers that it must respect. One thread at a time.
//
// Invariants:
//   (1) a chunk is lent (serial odd) or not (even); a loan is good while its serial is the chunk's.
//   (2) the object lives until it is closed *and* no loan is open: a loan's memory stays mapped while it is held.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/include/holdfast/holdfast.h"
#include "client/src/back_off.hpp"
#include "client/src/chunk_pool.hpp"
#include "client/src/deadline.hpp"
#include "client/src/policy.hpp"
#include "client/src/session.hpp"
#include "proto/shm/lane_writer.hpp"

struct hf_publisher {
 public:
  [[nodiscard]] static int open(const std::shared_ptr<holdfast::client::Session>& session, const char* topic,
                                const hf_publisher_options& options, hf_publisher** publisher);

  int loan(std::uint64_t bytes, std::uint32_t attribute_bytes, std::int64_t timeout_ns, hf_loan& loan);
  int publish_loan(hf_loan& loan, std::int64_t timeout_ns);

  // The shortest ways, which cannot fail.
  bool loan_quick(std::uint64_t bytes, std::uint32_t attribute_bytes, hf_loan& loan);
  bool quick() const;
  bool good(const hf_loan& loan) const;
  bool publish_quick(const void* payload);
  bool publish_good(hf_loan& loan);
  void ring_sleepers();

  int set_attributes(hf_loan& loan, const void* encoded, std::uint32_t bytes);
  int publish(hf_loan* loans, std::size_t count, std::int64_t timeout_ns, std::size_t& published);
  int publish_inline(const void* payload, std::uint64_t bytes, std::uint32_t type, std::int64_t timeout_ns);
  int publish_copy(const void* payload, std::uint64_t bytes, const void* attributes, std::uint32_t attribute_bytes,
                   std::uint32_t type, std::int64_t timeout_ns);
  int publish_inline_batch(const std::uint8_t* payloads, std::uint64_t bytes, std::size_t stride, std::size_t count,
                           std::int64_t timeout_ns, std::size_t& published);
  void drop(hf_loan& loan);

  std::int64_t subscriber_count();
  int wait_for_subscribers(std::int64_t count, std::int64_t timeout_ns);
  int drain(std::int64_t timeout_ns);
  std::uint64_t position() const;

  // Ends the lane. Deletes the object if `owner` says that the handle is gone, now or when the last loan is.
  void close(bool handle_gone);
  bool unusable() const { return closed_ || forks_ != holdfast::client::g_fork_count; }
  int why_unusable() const;

 private:
  using Atomics = holdfast::client::Atomics;
  using Writer = holdfast::shm::LaneWriter<Atomics>;
  using Deadline = holdfast::client::Deadline;

  hf_publisher(std::shared_ptr<holdfast::client::Session> session, std::string topic);
  ~hf_publisher() {
    // Closed at fork(): the number may be another's by now.
    if (forks_ != holdfast::client::g_fork_count) lane_fd_.release();
  }

  int set_up(const hf_publisher_options& options, holdfast::client::Reply& reply);
  void keep_lane(holdfast::client::Reply& reply);
  void let_go_lane();
  void make_writer(std::uint64_t board_offset, std::uint32_t ring, std::uint32_t chunks);

  // Room in the ring.
  int make_room(std::uint64_t count, std::int64_t timeout_ns);
  int full_now();
  int make_room_for(std::size_t& part, std::int64_t timeout_ns, const Deadline& deadline);
  bool has_room(std::uint64_t count);
  template <class Scan>
  holdfast::shm::Room settled(Scan&& scan);

  // Memory.
  void lend(std::uint32_t chunk, std::uint64_t bytes, hf_loan& loan);
  // How long to wait for a broker that is away, and for the answer of one that is there: 0 no time, negative as long as a
  // request may take.
  struct Patience {
    std::int64_t away_ns;
    std::int64_t answer_ns;
  };
  int allocate(std::uint64_t bytes, std::int64_t timeout_ns, std::uint32_t& chunk);
  bool allocate_here(std::uint64_t bytes, std::uint32_t& chunk);
  bool reclaim(std::uint64_t keep);
  int grow(std::uint64_t bytes, const Patience& patience);
  int grow_by(std::uint64_t bytes, const Patience& patience);
  int allocate_waiting(std::uint64_t bytes, std::int64_t timeout_ns, std::uint32_t& chunk);

  // Waiting for readers.
  template <class Ready>
  int sleep_until(Ready&& ready, const Deadline& deadline);
  void turn_stalled();

  // Who reads.
  std::int64_t joined_count();
  void refresh_readers();
  void resolve_again();
  void notice_broker();
  void give_memory_back();
  void resolve(std::size_t place, std::uint64_t entry, std::shared_ptr<holdfast::client::Peer> peer);

  std::uint64_t now() const;
  void fill(std::uint64_t index, const hf_loan& loan, std::uint64_t time);
  int bad_loan() const;

  // The data path reads these with every call.
  bool closed_ = false;
  std::uint32_t forks_;
  int clock_ = HF_CLOCK_NONE;
  bool plain_ = false;  // no clock, and no memory to look after: quick() may be
  std::uint32_t ring_slots_ = 0;
  std::optional<Writer> writer_;
  holdfast::client::ChunkPool pool_{0};
  std::vector<std::uint32_t> serials_;  // by chunk
  std::uint64_t open_loans_ = 0;

  std::shared_ptr<holdfast::client::Session> session_;
  std::string topic_;
  std::shared_ptr<holdfast::client::HeldHandle> handle_;
  std::uint32_t resumed_ = 0;  // the session, when we looked last
  holdfast::client::Mapping lane_;
  std::uint64_t lane_segment_ = 0;
  holdfast::Descriptor lane_fd_;  // of a sealed one that nobody else keeps for the broker
  std::uint64_t lane_bytes_ = 0;
  std::uint64_t bytes_max_ = 0;
  bool huge_pages_ = false;
  std::uint32_t chunks_max_ = 0;
  std::uint32_t depth_ = 1;
  std::int64_t stall_timeout_ns_ = 0;
  bool handle_gone_ = false;
  bool ended_ = false;  // the lane, and what belongs to it at the broker

  // Memory of the writer.
  std::vector<holdfast::shm::Published> outstanding_;
  std::vector<std::uint32_t> pinned_;
  std::vector<std::uint64_t> held_;

  const holdfast::shm::RosterBlock* block_ = nullptr;
  std::vector<holdfast::shm::ReaderRef> readers_;
  std::vector<std::shared_ptr<holdfast::client::Peer>> reader_peers_;
  std::vector<std::uint8_t> all_pinned_;  // the pins of a reader that we cannot see
  std::size_t unresolved_ = 0;
  std::int64_t resolve_again_ns_ = 0;
  holdfast::client::BackOff back_off_;

  // The last full ring that was told.
  std::uint64_t full_at_ = ~std::uint64_t{0};
  std::uint32_t full_times_ = 0;

  // The lossless reader that held us back when we last looked.
  std::size_t stalled_place_ = 0;
  std::uint64_t stalled_cursor_ = 0;
  std::int64_t stalled_since_ns_ = 0;
};

// ---- the shortest way, inline into the C ABI ------------------------------------------------------------------------

inline std::uint64_t hf_publisher::now() const {
  if (clock_ == HF_CLOCK_NONE) [[likely]]
    return 0;
  return static_cast<std::uint64_t>(
      holdfast::client::monotonic_ns(clock_ == HF_CLOCK_COARSE ? CLOCK_MONOTONIC_COARSE : CLOCK_MONOTONIC));
}

namespace holdfast::client {

// Word by word, so that none waits for two smaller stores of the caller to leave the store buffer.
[[gnu::always_inline]] inline void load_words(const void* payload, std::uint64_t (&words)[4]) {
  const auto* from = static_cast<const std::uint8_t*>(payload);
  for (int i = 0; i < 4; ++i) {
    std::memcpy(&words[i], from + 8 * i, 8);
    __asm__("" : "+r"(words[i]));  // not two at a time
  }
}

// At most 32 bytes as four words.
inline void load_inline(const void* payload, std::uint64_t bytes, std::uint64_t (&words)[4]) {
  if (bytes == 32) return load_words(payload, words);
  words[0] = words[1] = words[2] = words[3] = 0;
  if (bytes > 0) std::memcpy(words, payload, bytes);
}

}  // namespace holdfast::client

// Is there room for one sample, and nothing else to see to? False: the long way.
inline bool hf_publisher::quick() const { return !unusable() && plain_ && writer_->available() > 0; }

// 32 bytes, from the caller's memory to the slot in registers. Requires: quick(). Returns whether somebody sleeps: then
// ring_sleepers().
[[gnu::always_inline]] inline bool hf_publisher::publish_quick(const void* payload) {
  std::uint64_t words[4];
  holdfast::client::load_words(payload, words);
  return writer_->publish_one(holdfast::shm::kInlineBytesMax | holdfast::shm::kFlagInline, 0, 0, words);
}

inline bool hf_publisher::good(const hf_loan& loan) const {
  return loan.publisher == this &&
         (loan.data == nullptr ? loan.bytes <= holdfast::shm::kInlineBytesMax
                               : loan.chunk < chunks_max_ && serials_[loan.chunk] == loan.serial);
}

// Requires: good(loan), room for it. Returns whether somebody sleeps: then ring_sleepers().
[[gnu::always_inline]] inline bool hf_publisher::publish_good(hf_loan& loan) {
  namespace shm = holdfast::shm;
  std::uint64_t words[4] = {};
  std::uint64_t size = loan.bytes;
  if (loan.data != nullptr) [[likely]] {
    words[0] = loan.chunk;
    words[1] = pool_.offset(loan.chunk);
    writer_->own(0, loan.chunk);
    ++serials_[loan.chunk];
    --open_loans_;
  } else {
    holdfast::client::load_words(loan.inline_payload, words);
    size |= shm::kFlagInline;
  }
  loan.publisher = nullptr;
  return writer_->publish_one(size, std::uint64_t{loan.type} << 32 | loan.attribute_bytes, now(), words);
}

inline void hf_publisher::lend(std::uint32_t chunk, std::uint64_t bytes, hf_loan& loan) {
  loan.data = lane_.at(pool_.offset(chunk));
  loan.bytes = bytes;
  loan.attribute_room = std::min<std::uint64_t>(pool_.capacity(chunk) - holdfast::shm::attributes_offset(bytes),
                                                holdfast::shm::kAttributeBytesMax);
  loan.attribute_bytes = 0;
  loan.type = 0;
  loan.publisher = this;
  loan.chunk = chunk;
  loan.serial = ++serials_[chunk];
  ++open_loans_;
}

// A chunk of the size that was used last. False: the long way.
inline bool hf_publisher::loan_quick(std::uint64_t bytes, std::uint32_t attribute_bytes, hf_loan& loan) {
  namespace shm = holdfast::shm;
  std::uint32_t chunk = 0;
  if (unusable() || bytes <= shm::kInlineBytesMax || bytes > shm::kPayloadBytesMax ||
      attribute_bytes > shm::kAttributeBytesMax ||
      !pool_.take_last(shm::attributes_offset(bytes) + attribute_bytes, chunk)) [[unlikely]]
    return false;
  lend(chunk, bytes, loan);
  return true;
}
