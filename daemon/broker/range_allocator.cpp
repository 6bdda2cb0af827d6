// SPDX-License-Identifier: MIT
#include "daemon/broker/range_allocator.hpp"

#include <iterator>

#include "daemon/broker/check.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::broker {

RangeAllocator::RangeAllocator(std::uint64_t begin, std::uint64_t limit, std::uint64_t unit) : unit_(unit) {
  check(begin % unit == 0 && limit % unit == 0 && begin <= limit, "a range is made of whole units");
  if (begin < limit) holes_.emplace(begin, limit - begin);
}

std::optional<std::uint64_t> RangeAllocator::allocate(std::uint64_t bytes) {
  bytes = shm::round_up(bytes, unit_);
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    if (hole->second < bytes) continue;
    const std::uint64_t offset = hole->first;
    const std::uint64_t left = hole->second - bytes;
    hole = holes_.erase(hole);
    if (left > 0) holes_.emplace_hint(hole, offset + bytes, left);
    given_bytes_ += bytes;
    return offset;
  }
  return std::nullopt;
}

bool RangeAllocator::take(std::uint64_t offset, std::uint64_t bytes) {
  if (offset % unit_ != 0 || bytes == 0 || bytes > UINT64_MAX - offset - unit_) return false;
  bytes = shm::round_up(bytes, unit_);
  auto hole = holes_.upper_bound(offset);
  if (hole == holes_.begin()) return false;
  --hole;
  const std::uint64_t begin = hole->first;
  const std::uint64_t end = begin + hole->second;
  if (offset + bytes > end) return false;
  hole = holes_.erase(hole);
  if (offset + bytes < end) hole = holes_.emplace_hint(hole, offset + bytes, end - offset - bytes);
  if (begin < offset) holes_.emplace_hint(hole, begin, offset - begin);
  given_bytes_ += bytes;
  return true;
}

void RangeAllocator::free(std::uint64_t offset, std::uint64_t bytes) {
  bytes = shm::round_up(bytes, unit_);
  check(given_bytes_ >= bytes, "a range is given back once");
  given_bytes_ -= bytes;
  auto after = holes_.lower_bound(offset);
  check(after == holes_.end() || after->first >= offset + bytes, "a range is given back once");
  if (after != holes_.end() && after->first == offset + bytes) {
    bytes += after->second;
    after = holes_.erase(after);
  }
  if (after != holes_.begin()) {
    const auto before = std::prev(after);
    check(before->first + before->second <= offset, "a range is given back once");
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  holes_.emplace_hint(after, offset, bytes);
}

}  // namespace holdfast::broker
