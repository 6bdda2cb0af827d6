// SPDX-License-Identifier: MIT
//
// The publisher's private book of its lane's memory: which bytes are bound to which chunk, which chunks are free.
//
// A chunk is an index into the readers' pin bytes, bound to a range of the lane as long as anybody may look at it. A
// free chunk keeps its range, so that a steady publisher gets the same warm memory again in a few instructions. When
// sizes change, free chunks are dissolved, their ranges merge, and other chunks are cut from them: nothing is lost to
// sizes of yesterday. The slot says where a sample lies, so readers never see any of this, and nobody needs it when
// the publisher has died. One thread.
//
// Invariant: each byte of the lane behind the ring is in exactly one chunk with capacity > 0, or in one hole; holes do
// not touch each other.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace holdfast::client {

class ChunkPool {
 public:
  explicit ChunkPool(std::uint32_t chunks_max);

  // A free chunk whose class fits `bytes` well.
  bool take(std::uint64_t bytes, std::uint32_t& chunk) { return take_last(bytes, chunk) || take_class(bytes, chunk); }

  // The same, of the class that was used last.
  bool take_last(std::uint64_t bytes, std::uint32_t& chunk) {
    if (last_ == nullptr || bytes > last_capacity_ || bytes <= last_capacity_ / 2 || last_->empty()) [[unlikely]]
      return false;
    chunk = last_->back();
    last_->pop_back();
    return true;
  }

  // A new chunk from a hole.
  bool carve(std::uint64_t bytes, std::uint32_t& chunk);

  // Dissolves all free chunks, then carves; exact where the class does not fit.
  bool recarve(std::uint64_t bytes, std::uint32_t& chunk);

  // Gives a chunk back; it keeps its range.
  void give(std::uint32_t chunk) {
    if (last_ != nullptr && chunks_[chunk].capacity == last_capacity_) [[likely]]
      last_->push_back(chunk);
    else
      free_[chunks_[chunk].capacity].push_back(chunk);
  }

  // The lane has grown by [offset, offset + bytes).
  void add(std::uint64_t offset, std::uint64_t bytes);

  // Every chunk has a range: there is none to bind new memory to.
  bool out_of_chunks() const { return unbound_.empty(); }

  std::uint64_t offset(std::uint32_t chunk) const { return chunks_[chunk].offset; }
  std::uint64_t capacity(std::uint32_t chunk) const { return chunks_[chunk].capacity; }

  // What a loan of `bytes` takes: a power of two below a page; above, at most an eighth more, in whole pages.
  static std::uint64_t class_bytes(std::uint64_t bytes);

 private:
  struct Chunk {
    std::uint64_t offset = 0;
    std::uint64_t capacity = 0;
  };

  bool take_class(std::uint64_t bytes, std::uint32_t& chunk);
  bool cut(std::uint64_t capacity, std::uint32_t& chunk);
  void dissolve_free();

  std::vector<Chunk> chunks_;
  std::vector<std::uint32_t> unbound_;                        // indices without a range
  std::map<std::uint64_t, std::vector<std::uint32_t>> free_;  // by capacity
  std::map<std::uint64_t, std::uint64_t> holes_;              // offset → bytes
  std::vector<std::uint32_t>* last_ = nullptr;                // the class used last, an element of free_
  std::uint64_t last_capacity_ = 0;
};

}  // namespace holdfast::client
