// SPDX-License-Identifier: MIT
#include "client/src/publisher.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "client/src/failure.hpp"
#include "client/src/json_fields.hpp"
#include "client/src/options.hpp"
#include "client/src/sound.hpp"
#include "proto/shm/bell.hpp"
#include "proto/shm/roster.hpp"

using namespace holdfast::client;
namespace shm = holdfast::shm;
using shm::At;

namespace {

constexpr std::uint64_t kBytesMaxDefault = std::uint64_t{8} << 30;
constexpr std::uint64_t kGrowFirst = std::uint64_t{256} << 10;  // a fresh lane of small chunks gets this much
constexpr std::uint64_t kGrowMost = std::uint64_t{16} << 20;    // and grows by halves up to this much at a time
// What a caller who does not wait gives the broker to let a lane grow: so long, and the time that the memory takes. It is
// a round trip of a tenth of a millisecond where the broker has a CPU, and much longer on a machine that has too much to
// do. A broker that is stopped costs this once, until it answers.
constexpr std::int64_t kGrowNs = 1'000'000'000;
constexpr std::int64_t kGrowNsPerByte = 2;
constexpr std::int64_t kRoomWaitNs = 100'000'000;  // row 14: a reader that is stopped half-way rings nobody
constexpr std::uint64_t kNothingTaken = 0;  // the cursor of a reader that we cannot see

// What is left of a timeout: never 0, which would be a look, where it was a wait.
std::int64_t rest_of(std::int64_t timeout_ns, const Deadline& deadline) {
  return timeout_ns <= 0 ? timeout_ns : std::max<std::int64_t>(1, deadline.left_ns());
}

}  // namespace

hf_publisher::hf_publisher(std::shared_ptr<Session> session, std::string topic)
    : forks_(g_fork_count),
      session_(std::move(session)),
      topic_(std::move(topic)) {}

int hf_publisher::open(const std::shared_ptr<Session>& session, const char* topic, const hf_publisher_options& options,
                       hf_publisher** publisher) {
  nlohmann::json params{{"topic", topic}};
  if (const int result = encode_options(options, params); result != HF_OK) return result;
  Reply reply;
  std::shared_ptr<HeldHandle> handle;
  if (const int result = session->open_handle("publisher.open", std::move(params), reply, handle); result != HF_OK)
    return result;
  auto* opened = new hf_publisher(session, topic);
  opened->handle_ = std::move(handle);
  opened->resumed_ = session->resumed();
  if (const int result = opened->set_up(options, reply); result != HF_OK) {
    session->close_handle(opened->handle_->id);
    opened->let_go_lane();
    delete opened;
    return result;
  }
  *publisher = opened;
  return HF_OK;
}

int hf_publisher::set_up(const hf_publisher_options& options, Reply& reply) {
  const nlohmann::json& lane = reply.result["lane"];
  const nlohmann::json& topic = reply.result["topic"];
  const auto ring = static_cast<std::uint32_t>(number(topic, "ring"));
  chunks_max_ = static_cast<std::uint32_t>(number(topic, "chunks_max"));
  if (reply.fds.empty() || !shm::is_power_of_two(ring) || ring > shm::kRingSlotsMax || chunks_max_ == 0 ||
      chunks_max_ > shm::kChunksMax || chunks_max_ % 64 != 0)
    return fail(HF_E_PROTOCOL, "the broker's reply to publisher.open makes no sense");
  lane_bytes_ = number(lane, "bytes");
  if (lane_bytes_ < shm::chunks_offset(ring)) return fail(HF_E_PROTOCOL, "the lane is too small for its ring");
  int result = lane_.map(reply.fds.front().get(), shm::SegmentKind::kLane, number(lane, "segment"), lane_bytes_,
                         number(lane, "reserve_bytes"), true);
  if (result != HF_OK) return result;
  lane_segment_ = number(lane, "segment");
  keep_lane(reply);
  if (flag(lane, "sealed")) {
    Reply mapped;
    result = session_->request("publisher.mapped", {{"handle", handle_->id}}, mapped);
    if (result != HF_OK) return result;
  }
  lane_.populate(0, lane_bytes_);
  clock_ = decode_clock(text(topic, "clock"));
  plain_ = clock_ == HF_CLOCK_NONE && !lane_fd_;
  depth_ = static_cast<std::uint32_t>(number(topic, "depth", 1));
  stall_timeout_ns_ = decode_stall_timeout_ns(topic);
  bytes_max_ = options.bytes_max != 0 ? options.bytes_max : kBytesMaxDefault;
  huge_pages_ = options.huge_pages == 1;
  block_ = shm::roster_block<Atomics>(session_->roster(), number(lane, "block"));
  const std::uint64_t board = number(lane, "board");
  if (block_ == nullptr || board < shm::kBoardsOffset || board % sizeof(shm::Board) != 0 ||
      board + sizeof(shm::Board) > session_->bells().reserve_bytes())
    return fail(HF_E_PROTOCOL, "the broker's reply names a place outside its segments");
  make_writer(board, ring, chunks_max_);
  return HF_OK;
}

// For a broker that may lose its own descriptor and cannot find the file by a name.
void hf_publisher::keep_lane(Reply& reply) {
  const nlohmann::json& listed = list(reply.result, "fds");
  if (listed.empty() || !flag(listed.front(), "keep")) return;
  lane_fd_ = std::move(reply.fds.front());
  close_in_child(lane_fd_.get());
  session_->keep_memory(lane_segment_, lane_fd_.get());
}

void hf_publisher::let_go_lane() {
  if (!lane_fd_) return;
  session_->let_go_memory(lane_segment_);
  forget_in_child(lane_fd_.get());
  lane_fd_.reset();
}

void hf_publisher::make_writer(std::uint64_t board_offset, std::uint32_t ring, std::uint32_t chunks) {
  ring_slots_ = ring;
  outstanding_.resize(chunks);
  pinned_.resize(chunks);
  held_.resize(chunks / 8);
  serials_.resize(chunks);
  all_pinned_.assign(chunks, 1);
  pool_ = ChunkPool(chunks);
  if (lane_bytes_ > shm::chunks_offset(ring))
    pool_.add(shm::chunks_offset(ring), lane_bytes_ - shm::chunks_offset(ring));
  writer_.emplace(shm::LaneWriterMemory{
      .header = &lane_.as<shm::LaneHeader>(),
      .ring = &lane_.as<shm::Slot>(shm::kRingOffset),
      .ring_slots = ring,
      .chunks_max = chunks,
      .board = &session_->bells().as<shm::Board>(board_offset),
      .block = block_,
      .outstanding = outstanding_,
      .pinned = pinned_,
      .held = held_,
      .full_fences = session_->full_fences(),
  });
  refresh_readers();
}

// ---- publishing ---------------------------------------------------------------------------------------------------

// Room for up to `part` samples: as many as there is room for now, or waits for one.
int hf_publisher::make_room_for(std::size_t& part, std::int64_t timeout_ns, const Deadline& deadline) {
  if (writer_->room(part) == shm::Room::kOk) [[likely]]
    return HF_OK;
  if (has_room(part)) return HF_OK;
  part = std::min<std::size_t>(part, writer_->available());
  if (part > 0) return HF_OK;
  part = 1;
  return make_room(1, rest_of(timeout_ns, deadline));
}

int hf_publisher::publish_inline(const void* payload, std::uint64_t bytes, std::uint32_t type,
                                 std::int64_t timeout_ns) {
  if (unusable()) return why_unusable();
  if (lane_fd_) give_memory_back();
  if (writer_->room(1) != shm::Room::kOk) {
    if (const int result = make_room(1, timeout_ns); result != HF_OK) return result;
  }
  std::uint64_t words[4];
  load_inline(payload, bytes, words);
  if (writer_->publish_one(bytes | shm::kFlagInline, std::uint64_t{type} << 32, now(), words)) ring_sleepers();
  return HF_OK;
}

int hf_publisher::publish_loan(hf_loan& loan, std::int64_t timeout_ns) {
  if (unusable()) return why_unusable();
  if (!good(loan)) return bad_loan();
  if (lane_fd_) give_memory_back();
  if (writer_->room(1) != shm::Room::kOk) {
    if (const int result = make_room(1, timeout_ns); result != HF_OK) return result;
  }
  if (publish_good(loan)) ring_sleepers();
  return HF_OK;
}

int hf_publisher::publish_inline_batch(const std::uint8_t* payloads, std::uint64_t bytes, std::size_t stride,
                                       std::size_t count, std::int64_t timeout_ns, std::size_t& published) {
  published = 0;
  if (unusable()) [[unlikely]]
    return why_unusable();
  if (lane_fd_) give_memory_back();
  const Deadline deadline(timeout_ns);
  while (published < count) {
    // A quarter of the ring at a time, so that a lossless reader takes one part while we write the next.
    std::size_t part = std::min<std::size_t>(count - published, ring_slots_ / 4);
    if (const int result = make_room_for(part, timeout_ns, deadline); result != HF_OK) return result;
    const std::uint64_t time = now();
    writer_->begin();
    for (std::size_t i = 0; i < part; ++i) {
      std::uint64_t words[4];
      load_inline(payloads + (published + i) * stride, bytes, words);
      writer_->fill(i, bytes | shm::kFlagInline, 0, time, words);
    }
    if (writer_->commit(part, bytes * part)) [[unlikely]]
      ring_sleepers();
    published += part;
  }
  return HF_OK;
}

void hf_publisher::fill(std::uint64_t index, const hf_loan& loan, std::uint64_t time) {
  const std::uint64_t tags = std::uint64_t{loan.type} << 32 | loan.attribute_bytes;
  if (loan.data == nullptr) {
    std::uint64_t words[4];
    std::memcpy(words, loan.inline_payload, sizeof words);
    writer_->fill(index, loan.bytes | shm::kFlagInline, tags, time, words);
    return;
  }
  const std::uint64_t words[4] = {loan.chunk, pool_.offset(loan.chunk), 0, 0};
  writer_->fill(index, loan.bytes, tags, time, words);
  writer_->own(index, loan.chunk);
}

int hf_publisher::bad_loan() const {
  return fail(HF_E_CLOSED, "this loan of topic " + topic_ + " is already published or dropped");
}

int hf_publisher::publish(hf_loan* loans, std::size_t count, std::int64_t timeout_ns, std::size_t& published) {
  published = 0;
  if (unusable()) [[unlikely]]
    return why_unusable();
  if (lane_fd_) give_memory_back();
  for (std::size_t i = 0; i < count; ++i)
    if (!good(loans[i])) [[unlikely]]
      return bad_loan();
  const Deadline deadline(timeout_ns);
  while (published < count) {
    std::size_t part = std::min<std::size_t>(count - published, ring_slots_ / 4);
    if (const int result = make_room_for(part, timeout_ns, deadline); result != HF_OK) return result;
    const std::uint64_t time = now();
    std::uint64_t bytes = 0;
    bool twice = false;  // the same loan, further up in this batch
    writer_->begin();
    for (std::size_t i = 0; i < part; ++i) {
      hf_loan& loan = loans[published + i];
      if (!good(loan)) [[unlikely]] {
        part = i;
        twice = true;
        break;
      }
      fill(i, loan, time);
      bytes += loan.bytes;
      if (loan.data != nullptr) {
        ++serials_[loan.chunk];
        --open_loans_;
      }
      loan.publisher = nullptr;
    }
    if (part > 0 && writer_->commit(part, bytes)) [[unlikely]]
      ring_sleepers();
    published += part;
    if (twice) return bad_loan();
  }
  return HF_OK;
}

int hf_publisher::publish_copy(const void* payload, std::uint64_t bytes, const void* attributes,
                               std::uint32_t attribute_bytes, std::uint32_t type, std::int64_t timeout_ns) {
  if (bytes <= shm::kInlineBytesMax && attribute_bytes == 0) return publish_inline(payload, bytes, type, timeout_ns);
  const Deadline deadline(timeout_ns);
  hf_loan loan;
  int result = this->loan(bytes, attribute_bytes, timeout_ns, loan);
  if (result != HF_OK) return result;
  if (bytes > 0) std::memcpy(loan.data, payload, bytes);
  if (attribute_bytes > 0) result = set_attributes(loan, attributes, attribute_bytes);
  loan.type = type;
  if (result == HF_OK) result = publish_loan(loan, rest_of(timeout_ns, deadline));
  if (result != HF_OK) drop(loan);
  return result;
}

// ---- loans --------------------------------------------------------------------------------------------------------

int hf_publisher::loan(std::uint64_t bytes, std::uint32_t attribute_bytes, std::int64_t timeout_ns, hf_loan& loan) {
  loan.publisher = nullptr;
  if (unusable()) return why_unusable();
  if (attribute_bytes > shm::kAttributeBytesMax)
    return fail(HF_E_TOO_LARGE, std::to_string(attribute_bytes) + " bytes of attributes; a sample takes at most " +
                                    std::to_string(shm::kAttributeBytesMax));
  if (bytes <= shm::kInlineBytesMax && attribute_bytes == 0) {
    loan = {};
    loan.bytes = bytes;
    loan.publisher = this;
    return HF_OK;
  }
  const std::uint64_t room = bytes_max_ - std::min(bytes_max_, shm::chunks_offset(ring_slots_));
  if (bytes > shm::kPayloadBytesMax || shm::attributes_offset(bytes) + attribute_bytes > room)
    return fail(HF_E_TOO_LARGE, "a loan of " + std::to_string(bytes) + " bytes with " +
                                    std::to_string(attribute_bytes) + " of attributes does not fit a lane of topic " +
                                    topic_ + ", which takes " + std::to_string(room) +
                                    "; open the publisher with a larger bytes_max");
  const std::uint64_t need = shm::attributes_offset(bytes) + attribute_bytes;
  std::uint32_t chunk = 0;
  if (!pool_.take(need, chunk)) {
    if (const int result = allocate_waiting(need, timeout_ns, chunk); result != HF_OK) return result;
  }
  lend(chunk, bytes, loan);
  return HF_OK;
}

int hf_publisher::set_attributes(hf_loan& loan, const void* encoded, std::uint32_t bytes) {
  if (unusable()) return why_unusable();
  if (!good(loan)) return bad_loan();
  if (bytes > loan.attribute_room || loan.data == nullptr)
    return bytes == 0 ? HF_OK
                      : fail(HF_E_TOO_LARGE,
                             std::to_string(bytes) + " bytes of attributes, but the loan has room for " +
                                 std::to_string(loan.attribute_room) + "; say how many there will be when you loan");
  std::memcpy(static_cast<std::uint8_t*>(loan.data) + shm::attributes_offset(loan.bytes), encoded, bytes);
  loan.attribute_bytes = bytes;
  return HF_OK;
}

void hf_publisher::drop(hf_loan& loan) {
  if (forks_ != g_fork_count || !good(loan)) return;
  loan.publisher = nullptr;
  if (loan.data == nullptr) return;
  ++serials_[loan.chunk];
  --open_loans_;
  pool_.give(loan.chunk);
  if (!ended_ || open_loans_ > 0) return;
  lane_.unmap();
  if (handle_gone_) delete this;
}

// ---- memory -------------------------------------------------------------------------------------------------------

// Runs a scan until the roster that it used was the one that we know.
template <class Scan>
shm::Room hf_publisher::settled(Scan&& scan) {
  constexpr int kTriesMax = 100;
  shm::Room room = scan();
  for (int i = 0; i < kTriesMax && room == shm::Room::kRosterChanged; ++i) {
    refresh_readers();
    room = scan();
  }
  return room;
}

// Raises the floor so that at least the newest `keep` samples stay, and takes back what nobody uses.
bool hf_publisher::reclaim(std::uint64_t keep) {
  resolve_again();
  return settled([&] {
           return writer_->reclaim(writer_->floor_keeping(keep), [&](std::uint32_t chunk) { pool_.give(chunk); });
         }) == shm::Room::kOk;
}

bool hf_publisher::allocate_here(std::uint64_t bytes, std::uint32_t& chunk) {
  if (pool_.take(bytes, chunk) || pool_.carve(bytes, chunk)) return true;
  // Half of what is out, so that one scan of all readers serves many samples.
  reclaim(std::max<std::uint64_t>(depth_, writer_->outstanding() / 2));
  return pool_.take(bytes, chunk) || pool_.recarve(bytes, chunk);
}

int hf_publisher::allocate(std::uint64_t bytes, std::int64_t timeout_ns, std::uint32_t& chunk) {
  if (allocate_here(bytes, chunk)) return HF_OK;
  // With every chunk in use, more memory would serve nobody.
  const int grown = pool_.out_of_chunks() ? HF_OK : grow(bytes, Patience{0, timeout_ns});
  if (grown == HF_OK && pool_.recarve(bytes, chunk)) return HF_OK;
  // No more memory: samples kept for late joiners go first, then the newest one, too.
  const std::string sentence = last_failure();
  for (const std::uint64_t keep : {std::uint64_t{depth_}, std::uint64_t{0}}) {
    reclaim(keep);
    if (pool_.recarve(bytes, chunk)) return HF_OK;
  }
  writer_->count_exhausted();
  if (grown != HF_OK) return fail(grown, sentence);
  return fail(HF_E_EXHAUSTED, "topic " + topic_ + ": all " + std::to_string(chunks_max_) +
                                  " chunks of this lane are in use by open loans, subscribers' views, or samples that "
                                  "lossless subscribers have not taken; release some, wait, or open with a larger "
                                  "chunks_max");
}

int hf_publisher::allocate_waiting(std::uint64_t bytes, std::int64_t timeout_ns, std::uint32_t& chunk) {
  const Deadline deadline(timeout_ns);
  while (true) {
    const int result = allocate(bytes, timeout_ns == 0 ? 0 : deadline.left_ns(), chunk);
    if (result == HF_OK) return HF_OK;
    const bool short_of_memory = result == HF_E_EXHAUSTED || result == HF_E_QUOTA || result == HF_E_NO_MEMORY ||
                                 result == HF_E_NO_BROKER || session_->lost();  // which is needed to grow
    // Only what readers still use comes back; and it has to be enough.
    const bool comes_back = writer_->owed() && bytes <= lane_bytes_ - shm::chunks_offset(ring_slots_);
    if (!short_of_memory || !comes_back) {
      if (result != HF_E_NO_BROKER || deadline.expired()) return result;
      // Only the broker can help.
      if (const int grown = grow(bytes, Patience{deadline.left_ns(), deadline.left_ns()}); grown != HF_OK) return grown;
      continue;
    }
    turn_stalled();
    if (deadline.expired()) return timeout_ns == 0 ? result : HF_TIMEOUT;
    bool found = false;
    const int slept = sleep_until([&] { return found = found || allocate_here(bytes, chunk); }, deadline);
    if (found) return HF_OK;
    if (slept != HF_OK) return slept;
  }
}

// Asks for memory for a chunk of `bytes`: generously, then exactly.
int hf_publisher::grow(std::uint64_t bytes, const Patience& patience) {
  const std::uint64_t exact = shm::round_up(std::max<std::uint64_t>(bytes, 1), shm::kPage);
  const std::uint64_t left = bytes_max_ > lane_bytes_ ? (bytes_max_ - lane_bytes_) / shm::kPage * shm::kPage : 0;
  if (exact > left)
    return fail(HF_E_EXHAUSTED, "topic " + topic_ + ": a loan of " + std::to_string(bytes) +
                                    " bytes needs more memory, the lane has " + std::to_string(lane_bytes_) +
                                    " and may have " + std::to_string(bytes_max_) +
                                    "; release views, wait, or open with a larger bytes_max");
  const std::uint64_t cls = shm::round_up(ChunkPool::class_bytes(bytes), shm::kPage);
  const std::uint64_t has = lane_bytes_ - shm::chunks_offset(ring_slots_);
  std::uint64_t want = std::max(
      {cls, std::min(kGrowFirst, ChunkPool::class_bytes(bytes) * shm::kChunksDefault), std::min(has / 2, kGrowMost)});
  // To the end of a huge page, so that the next growth begins with a whole one.
  if (huge_pages_) want = shm::round_up(lane_bytes_ + want, Mapping::kHugePage) - lane_bytes_;
  want = std::min(shm::round_up(want, shm::kPage), left);
  const int result = grow_by(want, patience);
  if (result == HF_OK || want == exact || (result != HF_E_QUOTA && result != HF_E_NO_MEMORY)) return result;
  return grow_by(exact, patience);
}

// With the size that we know, so that a request that is repeated, or was given up, does not grow the lane twice: what has
// been added meanwhile is the answer to the next one.
int hf_publisher::grow_by(std::uint64_t bytes, const Patience& patience) {
  Reply reply;
  const nlohmann::json params{{"handle", handle_->id}, {"bytes", bytes}, {"size", lane_bytes_}};
  const std::int64_t work_ns = kGrowNs + static_cast<std::int64_t>(bytes) * kGrowNsPerByte;
  const Session::Patience bounded{patience.away_ns, patience.answer_ns < 0 ? -1 : std::max(patience.answer_ns, work_ns),
                                  patience.answer_ns == 0};
  const int result = session_->request_within("lane.grow", params, reply, bounded);
  if (result != HF_OK) return result;
  const std::uint64_t size = number(reply.result, "size");
  if (size < lane_bytes_ + bytes || size > lane_.reserve_bytes())
    return fail(HF_E_PROTOCOL, "the broker says that the lane has " + std::to_string(size) + " bytes");
  if (huge_pages_) lane_.make_huge(lane_bytes_, size);
  lane_.populate(lane_bytes_, size);
  pool_.add(lane_bytes_, size - lane_bytes_);
  lane_bytes_ = size;
  return HF_OK;
}

// ---- waiting ------------------------------------------------------------------------------------------------------

bool hf_publisher::has_room(std::uint64_t count) {
  resolve_again();
  return settled([&] { return writer_->room(count); }) == shm::Room::kOk;
}

void hf_publisher::resolve_again() {
  notice_broker();
  if (unresolved_ > 0 && monotonic_ns() >= resolve_again_ns_) refresh_readers();
}

// A caller that does not wait may ask again at once, many times: a stall is looked for now and then, and a full ring is
// counted once per position.
int hf_publisher::full_now() {
  constexpr std::uint32_t kLookEvery = 256;
  if (full_at_ != writer_->position()) {
    full_at_ = writer_->position();
    full_times_ = 0;
    writer_->count_full();
  }
  if (full_times_++ % kLookEvery == 0) turn_stalled();
  return HF_FULL;
}

int hf_publisher::make_room(std::uint64_t count, std::int64_t timeout_ns) {
  const Deadline deadline(timeout_ns);
  while (!has_room(count)) {
    if (timeout_ns == 0) return full_now();
    writer_->count_full();
    turn_stalled();
    if (deadline.expired()) return HF_TIMEOUT;
    if (const int slept = sleep_until([&] { return has_room(count); }, deadline); slept != HF_OK) return slept;
  }
  return HF_OK;
}

// Row 14: drain, arm, announce, heavy fence, look again; then sleep, bounded.
template <class Ready>
int hf_publisher::sleep_until(Ready&& ready, const Deadline& deadline) {
  std::uint32_t index = 0;
  if (const int leased = session_->lease_bell(index); leased != HF_OK) return leased;
  shm::Bell& bell = session_->bell(index);
  const std::uint64_t ticket = session_->fresh_ticket();
  shm::arm<Atomics, At::kRoomArm>(bell, ticket, SemaphoreSound{});
  writer_->announce_wait(index);
  if (!ready()) {
    // Whoever could be resolved by now rings nobody.
    const std::int64_t look_ns = unresolved_ == 0 ? kRoomWaitNs : resolve_again_ns_ - monotonic_ns();
    const timespec until = deadline.bounded(std::clamp<std::int64_t>(look_ns, 0, kRoomWaitNs));
    sem_clockwait(&bell.semaphore, CLOCK_MONOTONIC, &until);
  }
  writer_->end_wait();
  shm::disarm<Atomics, At::kRoomDisarm>(bell, ticket);
  session_->return_bell(index);
  return HF_OK;
}

// A lossless reader that has not moved for the stall timeout is turned to drop-oldest by the broker.
void hf_publisher::turn_stalled() {
  if (stall_timeout_ns_ < 0) return;
  std::size_t place = 0;
  std::uint64_t cursor = 0;
  if (!writer_->slowest(place, cursor) || cursor >= writer_->position()) return;
  const std::int64_t now_ns = monotonic_ns();
  if (stalled_since_ns_ == 0 || place != stalled_place_ || cursor != stalled_cursor_) {
    stalled_place_ = place;
    stalled_cursor_ = cursor;
    stalled_since_ns_ = now_ns;
    return;
  }
  if (now_ns - stalled_since_ns_ < stall_timeout_ns_) return;
  Reply reply;
  const nlohmann::json params{{"handle", handle_->id}, {"entry", place}, {"cursor", cursor}};
  const int result = session_->request_within("lane.turn", params, reply, Session::kSoon);
  // A late answer is no matter: the roster says that the reader was turned. What was not asked is asked at the next look.
  if (result != HF_E_NO_BROKER) stalled_since_ns_ = 0;
}

std::int64_t hf_publisher::subscriber_count() {
  std::int64_t count = 0;
  shm::walk_roster<Atomics>(session_->roster(), *block_, [&](std::uint32_t, const std::uint64_t& place) {
    if (Atomics::load<At::kScanRoster>(place) != 0) ++count;
  });
  return count;
}

// Those of them that have joined. Before that, a reader that starts at the next sample may still begin behind what we
// publish now, and a lossless one holds nothing back.
std::int64_t hf_publisher::joined_count() {
  refresh_readers();
  std::int64_t count = 0;
  for (std::size_t i = 0; i < readers_.size(); ++i)
    if (reader_peers_[i] != nullptr && Atomics::load<At::kScanCursor>(*readers_[i].cursor) != shm::kCursorNone) ++count;
  return count;
}

int hf_publisher::wait_for_subscribers(std::int64_t count, std::int64_t timeout_ns) {
  if (unusable()) return why_unusable();
  const Deadline deadline(timeout_ns);
  const auto joined = [&] { return subscriber_count() >= count && joined_count() >= count; };
  while (!joined()) {
    if (deadline.expired()) return HF_TIMEOUT;
    if (const int slept = sleep_until(joined, deadline); slept != HF_OK) return slept;
  }
  return HF_OK;
}

int hf_publisher::drain(std::int64_t timeout_ns) {
  if (unusable()) return why_unusable();
  const Deadline deadline(timeout_ns);
  const auto drained = [&] {
    refresh_readers();
    std::size_t place = 0;
    std::uint64_t cursor = 0;
    return !writer_->slowest(place, cursor) || (cursor >= writer_->position() && !writer_->lossless_views());
  };
  while (!drained()) {
    turn_stalled();
    if (deadline.expired()) return HF_TIMEOUT;
    if (const int slept = sleep_until(drained, deadline); slept != HF_OK) return slept;
  }
  return HF_OK;
}

// ---- readers ------------------------------------------------------------------------------------------------------

// A broker that has gone is looked for; after one has resumed the session, so are the readers. The broker may not know
// our handle any more (its lane was not what the registry says): then nothing is published any more, and the lane ends
// when it is closed, behind what this call may still publish.
void hf_publisher::notice_broker() {
  if (session_->broker_away()) [[unlikely]]
    session_->glance_for_broker(false);
  if (session_->resumed() == resumed_) [[likely]]
    return;
  resumed_ = session_->resumed();
  if (handle_->unknown.load(std::memory_order_relaxed)) closed_ = true;
  refresh_readers();
}

// The memory of such a lane comes back to the next broker with us alone, and until then nobody new can read: every publish
// looks whether there is one. A load, and once some milliseconds.
void hf_publisher::give_memory_back() {
  if (!writer_->roster_changed() && !session_->broker_away()) [[likely]]
    return;
  session_->look_for_broker();
  notice_broker();
  if (writer_->roster_changed()) refresh_readers();
}

// Looks at the whole roster again. Readers that cannot be resolved (the broker is away) hold back everything that they
// could use: what is held stays valid, and that comes before going on.
void hf_publisher::refresh_readers() {
  // A restarted broker changes every roster: that is when publishers notice, and then it is there.
  const bool changed = writer_->roster_changed();
  session_->glance_for_broker(changed);
  const std::uint64_t changes = Atomics::load<At::kScanRoster>(block_->changes);
  std::vector<std::uint64_t> entries;
  readers_.clear();
  const std::uint64_t* tail =
      shm::walk_roster<Atomics>(session_->roster(), *block_, [&](std::uint32_t, const std::uint64_t& place) {
        readers_.push_back({.place = &place});
        entries.push_back(Atomics::load<At::kScanRoster>(place));
      });
  // Row 7: one membarrier after a mode was seen for the first time, before anything is decided by it.
  Atomics::heavy_fence<At::kReclaimFence>();
  std::vector<std::uint32_t> sessions;
  for (const std::uint64_t entry : entries)
    if (entry != 0) sessions.push_back(shm::entry_session(entry));
  std::vector<std::shared_ptr<Peer>> peers(sessions.size());
  const bool look = unresolved_ == 0 || changed || monotonic_ns() >= resolve_again_ns_;
  if (!sessions.empty() && look) (void)session_->peers(sessions, peers, Session::kSoon);
  const std::vector<std::shared_ptr<Peer>> before = std::move(reader_peers_);
  reader_peers_.assign(entries.size(), nullptr);
  unresolved_ = 0;
  for (std::size_t place = 0, next = 0; place < entries.size(); ++place) {
    if (entries[place] == 0) continue;
    std::shared_ptr<Peer> peer = std::move(peers[next++]);
    for (std::size_t i = 0; peer == nullptr && i < before.size(); ++i)
      if (before[i] != nullptr && before[i]->session() == shm::entry_session(entries[place])) peer = before[i];
    resolve(place, entries[place], std::move(peer));
  }
  if (unresolved_ == 0)
    back_off_.reset();
  else if (look)
    resolve_again_ns_ = monotonic_ns() + back_off_.next_ns();
  writer_->set_readers(readers_, tail, changes);
}

void hf_publisher::resolve(std::size_t place, std::uint64_t entry, std::shared_ptr<Peer> peer) {
  shm::ReaderRef& reader = readers_[place];
  reader.entry = entry;
  const std::uint64_t offset = shm::entry_record(entry);
  const bool visible = peer != nullptr && offset >= shm::kPage &&
                       offset + shm::record_bytes(chunks_max_) <= peer->records().reserve_bytes();
  if (!visible) {
    reader.cursor = &kNothingTaken;
    reader.pins = all_pinned_.data();
    ++unresolved_;
    return;
  }
  const auto& record = peer->records().as<const shm::ReaderRecord>(offset);
  reader.cursor = &record.cursor;
  reader.pins = record.pins;
  reader_peers_[place] = std::move(peer);
}

void hf_publisher::ring_sleepers() {
  const std::uint64_t sleepers = writer_->take_board();
  // Whoever set a bit had its reply from the broker before, and the counter had been bumped before that.
  if (writer_->roster_changed()) refresh_readers();
  resolve_again();
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    if ((sleepers >> (i % 64) & 1) == 0 || readers_[i].entry == 0) continue;
    if (reader_peers_[i] == nullptr) {
      writer_->keep_on_board(std::uint64_t{1} << (i % 64));  // nobody has said yet who it is
      continue;
    }
    Peer& peer = *reader_peers_[i];
    const auto& record = peer.records().as<const shm::ReaderRecord>(shm::entry_record(readers_[i].entry));
    const std::uint64_t bell = Atomics::load<At::kObserve>(record.bell);
    // Who could not be rung stays on the board: the next publish tries again.
    if (bell != 0 && !session_->ring(peer, bell - 1)) writer_->keep_on_board(std::uint64_t{1} << (i % 64));
  }
}

// ---- the end ------------------------------------------------------------------------------------------------------

std::uint64_t hf_publisher::position() const { return writer_->position(); }

int hf_publisher::why_unusable() const {
  if (forks_ != g_fork_count)
    return fail(HF_E_FORKED, "the publisher of topic " + topic_ + " belongs to the parent process; open one here");
  if (handle_->unknown.load(std::memory_order_relaxed))
    return fail(HF_E_CLOSED, "the broker was restarted and does not know the publisher of topic " + topic_ +
                                 " any more: its lane has ended; close it and open another");
  return fail(HF_E_CLOSED, "the publisher of topic " + topic_ + " is closed");
}

void hf_publisher::close(bool handle_gone) {
  if (forks_ == g_fork_count && !ended_) {
    ended_ = true;
    closed_ = true;
    writer_->finish();
    ring_sleepers();
    session_->close_handle(handle_->id);
    let_go_lane();
    // Open loans keep the lane's memory, and nothing else.
    reader_peers_.clear();
    session_.reset();
    if (open_loans_ == 0) lane_.unmap();
  }
  handle_gone_ = handle_gone_ || handle_gone;
  if (handle_gone_ && (open_loans_ == 0 || forks_ != g_fork_count)) delete this;
}
