// SPDX-License-Identifier: MIT
//
// A mapped segment. More address space is mapped than the file has, once, so that growth never moves memory; nothing
// beyond the valid size is ever touched, because that is SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>

#include "client/src/fork_guard.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::client {

class Mapping {
 public:
  static constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;

  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { unmap(); }

  // Maps `reserve_bytes` of `fd`, checks that the file has `valid_bytes` and the header is that of this segment.
  // The descriptor is not kept. Returns HF_OK or a failure with its sentence.
  [[nodiscard]] int map(int fd, shm::SegmentKind kind, std::uint64_t segment_id, std::uint64_t valid_bytes,
                        std::uint64_t reserve_bytes, bool writable);

  // Before its end. Nothing in it may be used any more.
  void unmap();

  std::uint8_t* at(std::uint64_t offset) const { return base_ + offset; }
  template <class T>
  T& as(std::uint64_t offset = 0) const {
    return *reinterpret_cast<T*>(base_ + offset);
  }
  std::uint64_t reserve_bytes() const { return reserve_bytes_; }

  // Takes the page faults of [from, to) now. Best effort: what is not populated is faulted in at first touch.
  void populate(std::uint64_t from, std::uint64_t to) const;
  // Makes huge pages of what [from, to) has of whole ones; what is there stays. Best effort: needs Linux 6.1 and free
  // memory in one piece. Other processes that have the range mapped fault once.
  void make_huge(std::uint64_t from, std::uint64_t to) const;

 private:
  std::uint8_t* base_ = nullptr;
  std::uint64_t reserve_bytes_ = 0;
  std::uint32_t forks_ = g_fork_count;
  bool writable_ = false;
};

}  // namespace holdfast::client
