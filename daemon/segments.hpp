// SPDX-License-Identifier: MIT
//
// The files behind the segments, and every access of the broker to shared memory. Called by the broker's one thread.
//
// Named segments are Boost.Interprocess shared memory objects: exclusive, mode 0600, close-on-exec and never through a
// symbolic link (which is what shm_open does). They are opened again by name whenever a descriptor is needed, so that a
// segment costs no descriptor. Sealed ones are memfds, which Boost does not know; their descriptor is kept, by us and by
// the descriptor store for the next broker, and readers get a read-only one through /proc/self/fd.
//
// Invariants:
//   (1) no page is touched that posix_fallocate has not reserved.
//   (2) what a client can write (records, bells, lane headers) is loaded once and checked before it is used.
//   (3) of a sealed lane the header page is mapped before the seals go on; nothing else of it is ever written. Who
//       adopts it finds the seals on, and maps the page to read: then nothing of it is ever written.
//   (4) a file is there before its row is committed, and goes after its row has, as in fd_store.hpp: a broker that dies in
//       between leaves one too many, which the next one sweeps because no row names it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <sys/types.h>
#include <boost/interprocess/mapped_region.hpp>

#include "daemon/broker/action.hpp"
#include "daemon/broker/event.hpp"
#include "daemon/fd_store.hpp"
#include "proto/control/descriptor.hpp"
#include "proto/shm/bells_layout.hpp"
#include "proto/shm/lane_layout.hpp"
#include "proto/shm/roster_layout.hpp"
#include "proto/shm/session_layout.hpp"

namespace holdfast::daemon {

// As names of files and the control socket say it.
const char* kind_name(shm::SegmentKind kind);

// What lanes and readers that are gone have counted.
struct Totals {
  std::uint64_t samples = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t missed = 0;
};

class Segments {
 public:
  Segments(std::string instance, std::uint64_t epoch, FdStore& store)
      : instance_(std::move(instance)),
        epoch_(epoch),
        store_(store) {}
  Segments(const Segments&) = delete;
  Segments& operator=(const Segments&) = delete;
  // Removes every file that is left, if it owns them.
  ~Segments();

  // Takes over the file of a segment that an earlier broker made, if it is what its row says. Returns why not, or "". A
  // sealed one is where the store has it, or `given`.
  [[nodiscard]] std::string adopt(const broker::SegmentFacts& facts, const std::string& name, Descriptor given = {});
  // Which segment a descriptor says that it is; 0: it is no sealed memory. Nothing else is done with others: they might
  // answer when they please.
  static broker::SegmentId sealed_segment(int fd);
  // From now on files are removed at the end: before, a start that fails leaves what it found.
  void own() { owns_ = true; }
  // Files stay for the next broker.
  void leave() { owns_ = false; }
  // What the registry has committed by now, which the roster notes; what was removed before goes from /dev/shm and from
  // the store.
  void note_commits(std::uint64_t commits);
  std::uint64_t noted_commits() const;
  // Does memory of removed segments wait for the next commit?
  bool removes() const { return !removed_.empty() || store_.drops(); }
  // The roster as it is in memory, block by block; the first stands for its header.
  std::vector<shm::RosterBlock> roster_blocks() const;
  // Whose lock is on the records of a session: -1 nobody's, 0 a process that we cannot see.
  pid_t session_holder(broker::SegmentId records);

  // Actions that can fail.
  [[nodiscard]] broker::Outcome run(const broker::CreateSegment& create);
  [[nodiscard]] broker::Outcome run(const broker::GrowSegment& grow);
  [[nodiscard]] broker::Outcome run(const broker::SealSegment& seal);
  [[nodiscard]] broker::Outcome run(const broker::ReadCursor& read);
  [[nodiscard]] broker::Outcome run(const broker::OpenEvent& open);

  // Actions that cannot.
  void run(const broker::RemoveSegment& remove);
  void run(const broker::ResetRecord& reset);
  void run(const broker::ClearBoard& clear);
  void run(const broker::ClearBlock& clear);
  void run(const broker::StoreEntry& store);
  void run(const broker::StoreSize& store);
  void run(const broker::StoreFlags& store);
  void run(const broker::StoreNext& store);
  void run(const broker::BumpChanges& bump);
  void run(const broker::EndLane& end);
  void run(const broker::RingBells& ring);

  // A fresh descriptor for a client; none with errno set.
  [[nodiscard]] Descriptor open(const broker::DescriptorRequest& request);

  // One part of a long growth: reserves at most `step` bytes more towards `bytes`. Says whether it is done, or failed.
  struct Progress {
    bool done;
    broker::Outcome outcome;
  };
  [[nodiscard]] Progress grow_step(const broker::GrowSegment& grow, std::uint64_t step);
  // How much a lane lacks for this growth; 0 for other segments, which grow little and at once.
  std::uint64_t lane_lacks(const broker::GrowSegment& grow) const;

  // For reports. nullptr where the segment is gone.
  const shm::LaneHeader* lane(broker::SegmentId segment) const;
  const shm::ReaderRecord* record(broker::SegmentId segment, std::uint64_t offset) const;
  // The ring of a lane, mapped read-only while it is looked at.
  boost::interprocess::mapped_region map_ring(broker::SegmentId segment, std::uint32_t ring);
  const std::string& name(broker::SegmentId segment) const;
  const Totals& totals() const { return totals_; }

 private:
  struct File {
    shm::SegmentKind kind = shm::SegmentKind::kLane;
    std::string name;  // empty: sealed
    ino_t inode = 0;  // of an adopted one
    Descriptor fd;  // sealed ones only
    std::uint64_t reserved = 0;  // bytes that posix_fallocate has reserved
    std::uint64_t valid = 0;  // bytes that clients may use: less while a growth is under way
    boost::interprocess::mapped_region memory;
    bool readable_only = false;  // an adopted lane whose seals are on
    std::map<std::uint32_t, std::pair<std::uint64_t, Descriptor>> events;  // bell → number, eventfd

    template <class T>
    T& at(std::uint64_t offset = 0) {
      return *reinterpret_cast<T*>(static_cast<std::uint8_t*>(memory.get_address()) + offset);
    }
  };

  std::string find_named(const broker::SegmentFacts& facts, const std::string& name, Descriptor& fd);
  std::string find_sealed(const broker::SegmentFacts& facts, File& file, Descriptor& fd);
  broker::Outcome create_file(const broker::SegmentFacts& facts, File& file, Descriptor& fd);
  broker::Outcome reserve(int fd, const File& file, std::uint64_t bytes);
  void write_contents(const broker::CreateSegment& create, File& file);
  Descriptor reopen(const File& file, bool writable);
  shm::RosterBlock& block(std::uint64_t offset);
  File* find(broker::SegmentId segment);
  void unlink_removed();

  std::string instance_;
  std::uint64_t epoch_;
  FdStore& store_;
  std::unordered_map<broker::SegmentId, File> files_;
  std::vector<std::string> removed_;  // names that go with the next commit
  std::unordered_map<std::uint64_t, broker::SegmentId> event_segments_;  // eventfd number → bell segment
  File* roster_ = nullptr;
  bool owns_ = false;
  Totals totals_;
};

}  // namespace holdfast::daemon
