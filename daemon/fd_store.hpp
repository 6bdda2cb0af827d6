// SPDX-License-Identifier: MIT
//
// The descriptor store of systemd: what is put there outlives this broker, however it ends, and is passed to the next
// one. A sealed segment has no name, so this is how the next broker comes by it. Where nobody keeps descriptors for us
// all of it does nothing. Called by the broker's one thread.
//
// Each descriptor stands there under the id of its segment, in base 36: names reach the next broker in one environment
// string, which has 128 KiB.
//
// Invariants:
//   (1) a segment is there before its row is committed, and goes after its row has: a broker that dies in between
//       leaves one too many, which the next one drops because no row names it.
//   (2) there are never more than `limit`: systemd drops what is too much without a word, so we refuse it before.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/broker/rows.hpp"
#include "proto/control/descriptor.hpp"

namespace holdfast::daemon {

class FdStore {
 public:
  using Found = std::map<broker::SegmentId, Descriptor>;

  // None.
  FdStore() = default;
  // `limit`: how many systemd keeps; 0: none. `found`: what an earlier broker has put there.
  FdStore(std::size_t limit, Found found);

  // Puts it there. Returns 0, EMFILE where there are as many as may be, or why systemd did not take it.
  [[nodiscard]] int keep(broker::SegmentId segment, int fd);
  bool there() const { return limit_ > 0; }
  bool has(broker::SegmentId segment) const { return kept_.contains(segment); }
  // What an earlier broker has put there for this segment, once; it stays there.
  [[nodiscard]] Descriptor take(broker::SegmentId segment);
  // Nobody needs it any more, once settle() says that the registry knows.
  void drop(broker::SegmentId segment);
  bool drops() const { return !dropped_.empty(); }
  void settle();
  // Drops at once what nobody has taken, or all that there is. Returns how many.
  std::size_t drop_untaken();
  void drop_all();

 private:
  void remove(broker::SegmentId segment);

  std::size_t limit_ = 0;
  Found found_;  // not taken yet
  std::set<broker::SegmentId> kept_;
  std::vector<broker::SegmentId> dropped_;
};

// How a segment is called there, and back: 0 for what is no name of ours.
std::string stored_name(broker::SegmentId segment);
broker::SegmentId stored_segment(const std::string& name);

}  // namespace holdfast::daemon
