// SPDX-License-Identifier: MIT
#include "daemon/fd_store.hpp"

#include <cerrno>
#include <charconv>
#include <utility>

#include "daemon/systemd.hpp"

namespace holdfast::daemon {

namespace {

constexpr int kNameBase = 36;

}  // namespace

std::string stored_name(broker::SegmentId segment) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, segment, kNameBase).ptr;
  return {digits, end};
}

broker::SegmentId stored_segment(const std::string& name) {
  broker::SegmentId segment = 0;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), end, segment, kNameBase);
  return parsed.ec == std::errc() && parsed.ptr == end && stored_name(segment) == name ? segment : 0;
}

FdStore::FdStore(std::size_t limit, Found found) : limit_(limit), found_(std::move(found)) {
  for (const auto& [segment, fd] : found_) kept_.insert(segment);
}

int FdStore::keep(broker::SegmentId segment, int fd) {
  if (limit_ == 0) return 0;
  // What is about to go still takes a place there.
  if (kept_.size() >= limit_) return EMFILE;
  if (const int error = notify_with("FDSTORE=1\nFDPOLL=0\nFDNAME=" + stored_name(segment), fd); error != 0)
    return error;
  kept_.insert(segment);
  return 0;
}

Descriptor FdStore::take(broker::SegmentId segment) {
  const auto at = found_.find(segment);
  if (at == found_.end()) return {};
  Descriptor taken = std::move(at->second);
  found_.erase(at);
  return taken;
}

void FdStore::drop(broker::SegmentId segment) {
  if (kept_.contains(segment)) dropped_.push_back(segment);
}

void FdStore::settle() {
  for (const broker::SegmentId segment : std::exchange(dropped_, {})) remove(segment);
}

std::size_t FdStore::drop_untaken() {
  const Found untaken = std::exchange(found_, {});
  for (const auto& [segment, fd] : untaken) remove(segment);
  return untaken.size();
}

void FdStore::drop_all() {
  found_.clear();
  dropped_.clear();
  for (const broker::SegmentId segment : std::set(kept_)) remove(segment);
}

void FdStore::remove(broker::SegmentId segment) {
  notify("FDSTOREREMOVE=1\nFDNAME=" + stored_name(segment));
  kept_.erase(segment);
}

}  // namespace holdfast::daemon
