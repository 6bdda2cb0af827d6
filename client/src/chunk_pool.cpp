// SPDX-License-Identifier: MIT
#include "client/src/chunk_pool.hpp"

#include <algorithm>
#include <bit>
#include <iterator>

#include "proto/shm/lane_layout.hpp"

namespace holdfast::client {

using shm::kPage;
using shm::kPayloadAlign;
using shm::round_up;

ChunkPool::ChunkPool(std::uint32_t chunks_max) : chunks_(chunks_max) {
  unbound_.reserve(chunks_max);
  for (std::uint32_t i = chunks_max; i > 0; --i) unbound_.push_back(i - 1);
}

std::uint64_t ChunkPool::class_bytes(std::uint64_t bytes) {
  if (bytes <= kPayloadAlign) return kPayloadAlign;
  if (bytes < kPage) return std::bit_ceil(bytes);
  const std::uint64_t step = std::max<std::uint64_t>(kPage, std::bit_floor(bytes) / 8);
  return round_up(bytes, step);
}

bool ChunkPool::take_class(std::uint64_t bytes, std::uint32_t& chunk) {
  const std::uint64_t most = std::max(2 * class_bytes(bytes), bytes);
  for (auto at = free_.lower_bound(bytes); at != free_.end() && at->first <= most; ++at) {
    if (at->second.empty()) continue;
    last_ = &at->second;
    last_capacity_ = at->first;
    chunk = last_->back();
    last_->pop_back();
    return true;
  }
  return false;
}

bool ChunkPool::carve(std::uint64_t bytes, std::uint32_t& chunk) { return cut(class_bytes(bytes), chunk); }

bool ChunkPool::recarve(std::uint64_t bytes, std::uint32_t& chunk) {
  dissolve_free();
  const std::uint64_t exact = round_up(std::max<std::uint64_t>(bytes, 1), bytes >= kPage ? kPage : kPayloadAlign);
  return cut(class_bytes(bytes), chunk) || cut(exact, chunk);
}

void ChunkPool::add(std::uint64_t offset, std::uint64_t bytes) {
  auto [at, inserted] = holes_.emplace(offset, bytes);
  if (auto next = std::next(at); next != holes_.end() && at->first + at->second == next->first) {
    at->second += next->second;
    holes_.erase(next);
  }
  if (at != holes_.begin()) {
    if (auto before = std::prev(at); before->first + before->second == at->first) {
      before->second += at->second;
      holes_.erase(at);
    }
  }
}

// Cuts `capacity` bytes from the smallest hole that has them, page-aligned from a page up.
bool ChunkPool::cut(std::uint64_t capacity, std::uint32_t& chunk) {
  if (unbound_.empty()) return false;
  const std::uint64_t align = capacity >= kPage ? kPage : kPayloadAlign;
  auto best = holes_.end();
  for (auto at = holes_.begin(); at != holes_.end(); ++at) {
    const std::uint64_t skipped = round_up(at->first, align) - at->first;
    if (at->second < capacity + skipped) continue;
    if (best == holes_.end() || at->second < best->second) best = at;
  }
  if (best == holes_.end()) return false;
  const auto [offset, bytes] = *best;
  const std::uint64_t start = round_up(offset, align);
  holes_.erase(best);
  if (start > offset) holes_.emplace(offset, start - offset);
  if (offset + bytes > start + capacity) holes_.emplace(start + capacity, offset + bytes - start - capacity);
  chunk = unbound_.back();
  unbound_.pop_back();
  chunks_[chunk] = {start, capacity};
  return true;
}

void ChunkPool::dissolve_free() {
  for (const auto& [capacity, chunks] : free_) {
    for (const std::uint32_t chunk : chunks) {
      add(chunks_[chunk].offset, capacity);
      chunks_[chunk] = {};
      unbound_.push_back(chunk);
    }
  }
  free_.clear();
  last_ = nullptr;
  last_capacity_ = 0;
}

}  // namespace holdfast::client
