// SPDX-License-Identifier: MIT
#include "daemon/segments.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <boost/interprocess/permissions.hpp>
#include <boost/interprocess/shared_memory_object.hpp>

#include "daemon/broker/check.hpp"
#include "daemon/free_memory.hpp"
#include "daemon/policy.hpp"
#include "daemon/sweep.hpp"
#include "proto/shm/bell.hpp"
#include "proto/shm/roster.hpp"

namespace holdfast::daemon {

namespace ipc = boost::interprocess;
using broker::Outcome;

namespace {

// Below this, posix_fallocate alone decides; above, the machine is asked first.
constexpr std::uint64_t kAskFirstBytes = std::uint64_t{1} << 20;

// Of sealed segments. Nobody shrinks one under the broker, from its first moment on; session and bell segments are as they
// are from then on, too. Lanes get the rest when their publisher has mapped them.
constexpr int kSealsFirst = F_SEAL_SHRINK;
constexpr int kSealsOfShared = F_SEAL_SHRINK | F_SEAL_SEAL;
constexpr int kSealsOfLane = F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

// What mapped_region asks of something that it maps.
struct Mappable {
  int fd;
  ipc::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
  static ipc::mode_t get_mode() { return ipc::read_write; }
};

Outcome failed(const char* call, int error) {
  Outcome outcome;
  outcome.failure = error == EMFILE || error == ENFILE ? control::Failure::kBusy : control::Failure::kSystem;
  outcome.call = call;
  outcome.error = error;
  return outcome;
}

Outcome no_memory(std::uint64_t asked, std::uint64_t free) {
  Outcome outcome;
  outcome.failure = control::Failure::kNoMemory;
  outcome.asked_bytes = asked;
  outcome.free_bytes = free;
  return outcome;
}

Outcome seal_first(const broker::SegmentFacts& facts, int fd) {
  const int seals = facts.kind == shm::SegmentKind::kLane ? kSealsFirst : kSealsOfShared;
  return ::fcntl(fd, F_ADD_SEALS, seals) == 0 ? Outcome{} : failed("fcntl(F_ADD_SEALS)", errno);
}

std::string random_name() {
  std::uint8_t bytes[8];
  broker::check(::getrandom(bytes, sizeof bytes, 0) == sizeof bytes, "the kernel gives random bytes");
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text.push_back("0123456789abcdef"[byte >> 4]);
    text.push_back("0123456789abcdef"[byte & 15]);
  }
  return text;
}

// Of a lane the broker looks at the header only; the others it maps with the room that they may grow into.
std::uint64_t mapped_bytes(const broker::SegmentFacts& facts) {
  return facts.kind == shm::SegmentKind::kLane ? shm::kPage : facts.reserve_bytes;
}

// The broker's way to make a bell sound.
struct BrokerSound {
  int event;  // -1: none

  void post(shm::Bell& bell) const {
    const std::uint64_t one = 1;
    if (event >= 0) {
      [[maybe_unused]] const ssize_t written = ::write(event, &one, sizeof one);
    }
    ::sem_post(&bell.semaphore);
  }
};

}  // namespace

const char* kind_name(shm::SegmentKind kind) {
  switch (kind) {
    case shm::SegmentKind::kLane:
      return "lane";
    case shm::SegmentKind::kSession:
      return "session";
    case shm::SegmentKind::kBells:
      return "bells";
    case shm::SegmentKind::kRoster:
      return "roster";
  }
  return "segment";
}

Segments::~Segments() {
  if (!owns_) return;
  for (auto& [id, file] : files_)
    if (!file.name.empty()) ipc::shared_memory_object::remove(file.name.c_str());
  unlink_removed();
  store_.drop_all();
}

// The file is ours alone to name, but anybody of our uid could have made one of this name, so it is looked at like
// anything that comes from outside.
std::string Segments::adopt(const broker::SegmentFacts& facts, const std::string& name, Descriptor given) {
  File file;
  file.kind = facts.kind;
  file.reserved = file.valid = facts.bytes;
  Descriptor fd = std::move(given);
  if (const std::string wrong = facts.sealed ? find_sealed(facts, file, fd) : find_named(facts, name, fd);
      !wrong.empty())
    return wrong;
  if (!facts.sealed) file.name = name;
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != ::geteuid() ||
      (status.st_mode & 07777) != 0600 || (status.st_nlink == 0) != facts.sealed)
    return "its file is not ours";
  if (static_cast<std::uint64_t>(status.st_size) < facts.bytes) return "its file is shorter than its row says";
  file.inode = status.st_ino;
  const auto same = [&](const auto& other) { return other.second.inode == file.inode; };
  if (facts.sealed && std::any_of(files_.begin(), files_.end(), same)) return "its file is that of another segment";
  // A growth that was not finished may have added more: it stays for the next one. Nobody was told of it, but a reader
  // may have seen the new size, and must not find it cut.
  try {
    file.memory = ipc::mapped_region(Mappable{fd.get()}, file.readable_only ? ipc::read_only : ipc::read_write, 0,
                                     mapped_bytes(facts));
  } catch (const ipc::interprocess_exception& error) {
    return std::string("its file cannot be mapped: ") + std::strerror(error.get_native_error());
  }
  const auto& header = file.at<shm::SegmentHeader>();
  if (shm::check_header(header, facts.kind, facts.id) != shm::HeaderCheck::kOk)
    return "its header is that of another segment";
  if (facts.kind == shm::SegmentKind::kLane)
    ::madvise(file.memory.get_address(), file.memory.get_size(), MADV_DONTNEED);
  if (facts.sealed && !store_.has(facts.id))
    if (const int error = store_.keep(facts.id, fd.get()); error != 0) return std::strerror(error);
  if (facts.sealed) file.fd = std::move(fd);
  File& kept = files_[facts.id] = std::move(file);
  if (kept.kind == shm::SegmentKind::kRoster) {
    roster_ = &kept;
    Atomics::store<shm::At::kRosterSize>(kept.at<shm::RosterHeader>().valid_bytes, facts.bytes);
  }
  return "";
}

std::string Segments::find_named(const broker::SegmentFacts& facts, const std::string& name, Descriptor& fd) {
  const std::string prefix = "holdfast." + instance_ + "." + kind_name(facts.kind) + ".";
  if (!name.starts_with(prefix) || name.size() != prefix.size() + 16 ||
      name.find_first_not_of("0123456789abcdef", prefix.size()) != std::string::npos)
    return "its name is not one that we give";
  fd = Descriptor(::shm_open(("/" + name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0));
  return fd ? "" : std::string("its file cannot be opened: ") + std::strerror(errno);
}

broker::SegmentId Segments::sealed_segment(int fd) {
  broker::SegmentId id = 0;
  if (::fcntl(fd, F_GET_SEALS) < 0) return 0;
  return ::pread(fd, &id, sizeof id, offsetof(shm::SegmentHeader, segment_id)) == sizeof id ? id : 0;
}

// Its seals say whether it is what we made. A client may have added some to a lane that had not all of them yet: that
// lane is lost, and nobody else's.
std::string Segments::find_sealed(const broker::SegmentFacts& facts, File& file, Descriptor& fd) {
  if (!fd) fd = store_.take(facts.id);
  if (!fd) return "it was sealed, and nobody kept its descriptor";
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  const bool lane = facts.kind == shm::SegmentKind::kLane;
  if (seals != (lane ? kSealsOfLane : kSealsOfShared) && !(lane && seals == kSealsFirst))
    return "its seals are not those that we put on it";
  file.readable_only = seals == kSealsOfLane;
  return "";
}

// If we die between a commit and this store, the registry is ahead: that is no older state. Behind it, names are left that
// no row has.
void Segments::note_commits(std::uint64_t commits) {
  if (roster_ != nullptr) roster_->at<shm::RosterHeader>().commits = commits;  // nobody else looks at it
  unlink_removed();
  store_.settle();
}

void Segments::unlink_removed() {
  for (const std::string& name : std::exchange(removed_, {})) ipc::shared_memory_object::remove(name.c_str());
}

std::uint64_t Segments::noted_commits() const {
  return static_cast<const shm::RosterHeader*>(roster_->memory.get_address())->commits;
}

std::vector<shm::RosterBlock> Segments::roster_blocks() const {
  std::vector<shm::RosterBlock> blocks(roster_->valid / sizeof(shm::RosterBlock));
  // Nobody else writes it.
  std::memcpy(blocks.data(), roster_->memory.get_address(), blocks.size() * sizeof blocks[0]);
  return blocks;
}

pid_t Segments::session_holder(broker::SegmentId records) {
  const File* file = find(records);
  if (file == nullptr) return -1;
  const Descriptor fd = reopen(*file, false);
  // Nobody is taken for dead because we could not look.
  return fd || errno == ENOENT ? lock_holder(fd.get()) : 0;
}

Segments::File* Segments::find(broker::SegmentId segment) {
  const auto at = files_.find(segment);
  return at == files_.end() ? nullptr : &at->second;
}

Outcome Segments::run(const broker::CreateSegment& create) {
  File file;
  Descriptor fd;
  Outcome outcome = create_file(create.facts, file, fd);
  if (!outcome.failure) outcome = reserve(fd.get(), file, create.facts.bytes);
  if (!outcome.failure) {
    file.reserved = file.valid = create.facts.bytes;
    try {
      file.memory = ipc::mapped_region(Mappable{fd.get()}, ipc::read_write, 0, mapped_bytes(create.facts));
      write_contents(create, file);
      // The page stays in the file and is no longer in our resident memory: the next look at a lane may be days away.
      // (Boost's own advice is posix_madvise(), which ignores this one.)
      if (create.facts.kind == shm::SegmentKind::kLane)
        ::madvise(file.memory.get_address(), file.memory.get_size(), MADV_DONTNEED);
      if (create.facts.sealed) outcome = seal_first(create.facts, fd.get());
      if (create.facts.sealed) file.fd = std::move(fd);
    } catch (const ipc::interprocess_exception& error) {
      outcome = failed("mmap", error.get_native_error());
    }
  }
  // From here on it outlives us.
  if (!outcome.failure && create.facts.sealed)
    if (const int error = store_.keep(create.facts.id, file.fd.get()); error != 0) outcome = failed("sd_notify", error);
  if (outcome.failure) {
    if (!file.name.empty()) ipc::shared_memory_object::remove(file.name.c_str());
    return outcome;
  }
  File& kept = files_[create.facts.id] = std::move(file);
  if (kept.kind == shm::SegmentKind::kRoster) roster_ = &kept;
  return outcome;
}

Outcome Segments::create_file(const broker::SegmentFacts& facts, File& file, Descriptor& fd) {
  file.kind = facts.kind;
  if (facts.sealed) {
    fd = Descriptor(::memfd_create(("holdfast." + instance_ + "." + kind_name(facts.kind)).c_str(),
                                   MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) return failed("memfd_create", errno);
    // So that who gets it read-only cannot open it again read-write.
    if (::fchmod(fd.get(), 0600) != 0) return failed("fchmod", errno);
    return {};
  }
  const std::string name = "holdfast." + instance_ + "." + kind_name(facts.kind) + "." + random_name();
  try {
    const ipc::shared_memory_object object(ipc::create_only, name.c_str(), ipc::read_write, ipc::permissions(0600));
    file.name = name;
    // The object closes its own descriptor.
    fd = Descriptor(::fcntl(object.get_mapping_handle().handle, F_DUPFD_CLOEXEC, 0));
    if (!fd) return failed("dup", errno);
  } catch (const ipc::interprocess_exception& error) {
    return failed("shm_open", error.get_native_error());
  }
  return {};
}

// Memory for [reserved, bytes) of the file, or an error: never a signal later.
Outcome Segments::reserve(int fd, const File& file, std::uint64_t bytes) {
  if (bytes <= file.reserved) return {};
  const std::uint64_t asked = bytes - file.reserved;
  const auto free_bytes = [&file] {
    const FreeMemory memory = free_memory();
    // A memfd is not on /dev/shm.
    return file.name.empty() ? memory.machine_free_bytes : std::min(memory.shm_free_bytes, memory.machine_free_bytes);
  };
  if (asked >= kAskFirstBytes) {
    const std::uint64_t free = free_bytes();
    if (asked > free) return no_memory(asked, free);
  }
  int error = 0;
  do {
    error = ::posix_fallocate(fd, static_cast<off_t>(file.reserved), static_cast<off_t>(asked));
  } while (error == EINTR);
  if (error == ENOSPC || error == ENOMEM || error == EFBIG) return no_memory(asked, free_bytes());
  if (error != 0) return failed("posix_fallocate", error);
  return {};
}

void Segments::write_contents(const broker::CreateSegment& create, File& file) {
  switch (create.facts.kind) {
    case shm::SegmentKind::kLane: {
      auto& header = file.at<shm::LaneHeader>();
      header.ring_slots = create.ring;
      header.chunks_max = create.chunks_max;
      header.lane_id = create.facts.lane;
      header.topic_id = create.topic;
      header.session = create.facts.session;
      break;
    }
    case shm::SegmentKind::kSession: {
      auto& header = file.at<shm::SessionHeader>();
      header.session = create.facts.session;
      header.pid = static_cast<std::uint32_t>(create.pid);
      break;
    }
    case shm::SegmentKind::kBells:
      for (shm::Bell& bell : file.at<shm::BellSegment>().bells) ::sem_init(&bell.semaphore, 1, 0);
      break;
    case shm::SegmentKind::kRoster:
      Atomics::store<shm::At::kRosterSize>(file.at<shm::RosterHeader>().valid_bytes, create.facts.bytes);
      break;
  }
  shm::write_header<Atomics>(file.at<shm::SegmentHeader>(), create.facts.kind, create.facts.bytes, create.facts.id,
                             epoch_);
}

Descriptor Segments::reopen(const File& file, bool writable) {
  if (!file.name.empty()) {
    const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW;
    return Descriptor(::shm_open(("/" + file.name).c_str(), flags, 0));
  }
  if (writable) return Descriptor(::fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 0));
  return Descriptor(::open(("/proc/self/fd/" + std::to_string(file.fd.get())).c_str(), O_RDONLY | O_CLOEXEC));
}

Outcome Segments::run(const broker::GrowSegment& grow) {
  Progress progress = grow_step(grow, UINT64_MAX);
  return progress.outcome;
}

std::uint64_t Segments::lane_lacks(const broker::GrowSegment& grow) const {
  const auto at = files_.find(grow.segment);
  if (at == files_.end() || at->second.kind != shm::SegmentKind::kLane) return 0;
  return grow.bytes - std::min(grow.bytes, at->second.reserved);
}

Segments::Progress Segments::grow_step(const broker::GrowSegment& grow, std::uint64_t step) {
  File* file = find(grow.segment);
  if (file == nullptr) return {true, failed("grow", ENOENT)};
  // The whole is refused before the first part is taken.
  if (grow.bytes > file->reserved && grow.bytes - file->reserved > step) {
    const FreeMemory memory = free_memory();
    const std::uint64_t free =
        file->name.empty() ? memory.machine_free_bytes : std::min(memory.shm_free_bytes, memory.machine_free_bytes);
    if (grow.bytes - file->reserved > free) return {true, no_memory(grow.bytes - file->reserved, free)};
  }
  const Descriptor fd = reopen(*file, true);
  if (!fd) return {true, failed("shm_open", errno)};
  const std::uint64_t bytes = std::min(grow.bytes, file->reserved + std::min(step, grow.bytes));
  Outcome outcome = reserve(fd.get(), *file, bytes);
  if (outcome.failure) {
    // What earlier parts took goes back. A sealed file cannot shrink: there it waits for the next growth.
    if (!file->name.empty() && ::ftruncate(fd.get(), static_cast<off_t>(file->valid)) == 0)
      file->reserved = file->valid;
    return {true, outcome};
  }
  file->reserved = std::max(file->reserved, bytes);
  if (file->reserved < grow.bytes) return {false, outcome};
  file->valid = grow.bytes;
  if (file->kind == shm::SegmentKind::kRoster)
    Atomics::store<shm::At::kRosterSize>(file->at<shm::RosterHeader>().valid_bytes, grow.bytes);
  return {true, outcome};
}

Outcome Segments::run(const broker::SealSegment& seal) {
  File* file = find(seal.segment);
  if (file == nullptr || !file->fd) return failed("seal", ENOENT);
  // An earlier broker may have done it, and died before it could say so.
  if (::fcntl(file->fd.get(), F_GET_SEALS) == kSealsOfLane) return {};
  if (::fcntl(file->fd.get(), F_ADD_SEALS, kSealsOfLane) != 0) return failed("fcntl(F_ADD_SEALS)", errno);
  return {};
}

Outcome Segments::run(const broker::ReadCursor& read) {
  const shm::ReaderRecord* found = record(read.segment, read.record);
  if (found == nullptr) return failed("read", ENOENT);
  Outcome outcome;
  outcome.value = Atomics::load<shm::At::kScanCursor>(found->cursor);
  return outcome;
}

Outcome Segments::run(const broker::OpenEvent& open) {
  File* file = find(open.segment);
  if (file == nullptr) return failed("eventfd", ENOENT);
  Descriptor event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return failed("eventfd", errno);
  file->events[open.bell] = {open.event, std::move(event)};
  event_segments_[open.event] = open.segment;
  Atomics::store<shm::At::kRosterFlags>(file->at<shm::BellSegment>().bells[open.bell].event, open.event);
  return {};
}

void Segments::run(const broker::RemoveSegment& remove) {
  const auto at = files_.find(remove.segment);
  if (at == files_.end()) return;
  File& file = at->second;
  if (file.kind == shm::SegmentKind::kLane) {
    const auto& header = file.at<shm::LaneHeader>();
    totals_.samples += Atomics::load<shm::At::kObserve>(header.head);
    totals_.payload_bytes += Atomics::load<shm::At::kObserve>(header.payload_bytes);
  }
  for (const auto& [bell, event] : file.events) event_segments_.erase(event.first);
  if (!file.name.empty()) removed_.push_back(std::move(file.name));
  store_.drop(remove.segment);
  files_.erase(at);
}

void Segments::run(const broker::ResetRecord& reset) {
  File* file = find(reset.segment);
  if (file == nullptr) return;
  auto& found = file->at<shm::ReaderRecord>(reset.record);
  totals_.missed += Atomics::load<shm::At::kObserve>(found.missed);
  shm::reset_record<Atomics>(found, reset.chunks_max, reset.cursor);
}

void Segments::run(const broker::ClearBoard& clear) {
  File* file = find(clear.segment);
  if (file == nullptr) return;
  Atomics::store<shm::At::kRecordZero>(file->at<shm::Board>(clear.board).sleepers, std::uint64_t{0});
}

shm::RosterBlock& Segments::block(std::uint64_t offset) {
  broker::check(roster_ != nullptr && offset >= sizeof(shm::RosterHeader) &&
                    offset + sizeof(shm::RosterBlock) <= roster_->reserved,
                "a block lies in the roster");
  return roster_->at<shm::RosterBlock>(offset);
}

void Segments::run(const broker::ClearBlock& clear) {
  shm::RosterBlock& cleared = block(clear.block);
  for (std::uint32_t place = 0; place < shm::kRosterEntries; ++place) shm::store_entry<Atomics>(cleared, place, 0);
  shm::store_next<Atomics>(cleared, 0);
  shm::store_size<Atomics>(cleared, 0);
  shm::store_flags<Atomics>(cleared, 0);
}

void Segments::run(const broker::StoreEntry& store) {
  shm::store_entry<Atomics>(block(store.block), store.place, store.entry);
}
void Segments::run(const broker::StoreSize& store) { shm::store_size<Atomics>(block(store.block), store.bytes); }
void Segments::run(const broker::StoreFlags& store) { shm::store_flags<Atomics>(block(store.block), store.flags); }
void Segments::run(const broker::StoreNext& store) { shm::store_next<Atomics>(block(store.block), store.next); }
void Segments::run(const broker::BumpChanges& bump) { shm::bump_changes<Atomics>(block(bump.block)); }

void Segments::run(const broker::EndLane& end) {
  File* file = find(end.segment);
  // What cannot be written ends on the roster.
  if (file == nullptr || file->readable_only) return;
  Atomics::compare_exchange<shm::At::kLaneAbort>(file->at<shm::LaneHeader>().state,
                                                 static_cast<std::uint64_t>(shm::LaneState::kOpen),
                                                 static_cast<std::uint64_t>(end.state));
}

// Rows 8b, 8c and 14b: what was stored before is seen by whoever is not rung here.
void Segments::run(const broker::RingBells& ring) {
  Atomics::heavy_fence<shm::At::kSleepFence>();
  for (const broker::SegmentId segment : ring.bells) {
    File* file = find(segment);
    if (file == nullptr) continue;
    auto& bells = file->at<shm::BellSegment>().bells;
    for (std::uint32_t bell = 0; bell < shm::kBellCount; ++bell) {
      const auto event = file->events.find(bell);
      // An event loop whose eventfd an earlier broker made hears nobody here: it stays armed for those who have it. The
      // end of its connection wakes it.
      if (event == file->events.end() && Atomics::load<shm::At::kObserve>(bells[bell].event) != 0) continue;
      shm::ring<Atomics>(bells[bell], BrokerSound{event == file->events.end() ? -1 : event->second.second.get()});
    }
  }
}

Descriptor Segments::open(const broker::DescriptorRequest& request) {
  errno = ENOENT;
  if (request.event != 0) {
    const auto at = event_segments_.find(request.event);
    if (at == event_segments_.end()) return {};
    for (const auto& [bell, event] : files_.at(at->second).events)
      if (event.first == request.event) return Descriptor(::fcntl(event.second.get(), F_DUPFD_CLOEXEC, 0));
    return {};
  }
  const File* file = find(request.segment);
  return file == nullptr ? Descriptor() : reopen(*file, request.writable);
}

const shm::LaneHeader* Segments::lane(broker::SegmentId segment) const {
  const auto at = files_.find(segment);
  if (at == files_.end()) return nullptr;
  return static_cast<const shm::LaneHeader*>(at->second.memory.get_address());
}

const shm::ReaderRecord* Segments::record(broker::SegmentId segment, std::uint64_t offset) const {
  const auto at = files_.find(segment);
  if (at == files_.end()) return nullptr;
  const auto* base = static_cast<const std::uint8_t*>(at->second.memory.get_address());
  return reinterpret_cast<const shm::ReaderRecord*>(base + offset);
}

ipc::mapped_region Segments::map_ring(broker::SegmentId segment, std::uint32_t ring) {
  File* file = find(segment);
  if (file == nullptr) return {};
  const Descriptor fd = reopen(*file, false);
  if (!fd) return {};
  try {
    return {Mappable{fd.get()}, ipc::read_only, static_cast<ipc::offset_t>(shm::kRingOffset),
            std::size_t{ring} * sizeof(shm::Slot)};
  } catch (const ipc::interprocess_exception&) {
    return {};
  }
}

const std::string& Segments::name(broker::SegmentId segment) const {
  static const std::string kNone;
  const auto at = files_.find(segment);
  return at == files_.end() ? kNone : at->second.name;
}

}  // namespace holdfast::daemon
