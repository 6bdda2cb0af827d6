// SPDX-License-Identifier: MIT
//
// Places ranges of bytes in a segment that can grow: reader records, boards, roster blocks. The lowest hole that fits
// is taken, so that a segment grows only when it has to. Pure bookkeeping, the memory itself is never touched.
//
// Invariants:
//   (1) every byte of [begin, limit) is either given or in exactly one hole; holes do not touch each other.
//   (2) nothing is given twice; what is given back was given, as a whole.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace holdfast::broker {

class RangeAllocator {
 public:
  // Requires: begin and limit are multiples of `unit`, begin <= limit.
  RangeAllocator(std::uint64_t begin, std::uint64_t limit, std::uint64_t unit);

  // A range of `bytes`, rounded up to the unit; nothing if there is no hole for it.
  [[nodiscard]] std::optional<std::uint64_t> allocate(std::uint64_t bytes);

  // Exactly this range, as allocate() gave it once. False: it lies outside, is not aligned, or is not free.
  [[nodiscard]] bool take(std::uint64_t offset, std::uint64_t bytes);

  // Requires: [offset, offset + bytes) was given by allocate(bytes).
  void free(std::uint64_t offset, std::uint64_t bytes);

  std::uint64_t given_bytes() const { return given_bytes_; }

 private:
  std::map<std::uint64_t, std::uint64_t> holes_;  // offset → bytes
  std::uint64_t unit_;
  std::uint64_t given_bytes_ = 0;
};

}  // namespace holdfast::broker
