// SPDX-License-Identifier: MIT
#include "client/src/mapping.hpp"

#include <algorithm>
#include <string>

#include <sys/mman.h>
#include <sys/stat.h>

#include "client/src/failure.hpp"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace holdfast::client {

namespace {

bool aligned(const void* base) { return reinterpret_cast<std::uintptr_t>(base) % Mapping::kHugePage == 0; }

// Where it may come to have huge pages, at a multiple of their size: only there can page tables name one. The kernel
// gives addresses downwards, so that the next place below is free, and the mapping after this one comes out aligned.
void* map_aligned(std::uint64_t bytes, int protection, int fd) {
  constexpr int kFlags = MAP_SHARED | MAP_NORESERVE;
  void* base = ::mmap(nullptr, bytes, protection, kFlags, fd, 0);
  if (base == MAP_FAILED || bytes < Mapping::kHugePage || aligned(base)) return base;
  auto* below = static_cast<std::uint8_t*>(base) - reinterpret_cast<std::uintptr_t>(base) % Mapping::kHugePage;
  ::munmap(base, bytes);
  return ::mmap(below, bytes, protection, kFlags, fd, 0);
}

}  // namespace

void Mapping::unmap() {
  // In a forked child the range is not ours: it was never inherited, and may be anything by now.
  if (base_ != nullptr && forks_ == g_fork_count) ::munmap(base_, reserve_bytes_);
  base_ = nullptr;
}

int Mapping::map(int fd, shm::SegmentKind kind, std::uint64_t segment_id, std::uint64_t valid_bytes,
                 std::uint64_t reserve_bytes, bool writable) {
  const std::string what = "segment " + std::to_string(segment_id);
  struct stat file{};
  if (::fstat(fd, &file) != 0) return fail_errno(what + ": fstat");
  if (valid_bytes < shm::kPage || static_cast<std::uint64_t>(file.st_size) < valid_bytes)
    return fail(HF_E_PROTOCOL, what + " has " + std::to_string(file.st_size) + " bytes, the broker says " +
                                   std::to_string(valid_bytes));
  reserve_bytes_ = shm::round_up(std::max(reserve_bytes, valid_bytes), shm::kPage);
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* base = map_aligned(reserve_bytes_, protection, fd);
  if (base == MAP_FAILED)
    return fail_errno(what + ": mapping " + std::to_string(reserve_bytes_) +
                      " bytes of address space failed; check ulimit -v and vm.max_map_count, or open publishers with a "
                      "smaller bytes_max");
  base_ = static_cast<std::uint8_t*>(base);
  writable_ = writable;
  if (::madvise(base_, reserve_bytes_, MADV_DONTFORK) != 0) return fail_errno(what + ": madvise");
  switch (shm::check_header(as<shm::SegmentHeader>(), kind, segment_id)) {
    case shm::HeaderCheck::kOk:
      return HF_OK;
    case shm::HeaderCheck::kVersion:
      return fail(HF_E_VERSION, what + " has layout " + std::to_string(as<shm::SegmentHeader>().layout_version) +
                                    ", this library knows layout " + std::to_string(shm::kLayoutVersion) +
                                    ": update the older of broker and library");
    case shm::HeaderCheck::kNotReady:
    case shm::HeaderCheck::kWrong:
      break;
  }
  return fail(HF_E_CORRUPT, what + " does not begin with the header of a segment of its kind");
}

void Mapping::populate(std::uint64_t from, std::uint64_t to) const {
  from = from / shm::kPage * shm::kPage;
  to = std::min(shm::round_up(to, shm::kPage), reserve_bytes_);
  if (from < to) ::madvise(base_ + from, to - from, writable_ ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

void Mapping::make_huge(std::uint64_t from, std::uint64_t to) const {
  from = shm::round_up(from, kHugePage);
  to = std::min(to, reserve_bytes_) / kHugePage * kHugePage;
  if (from < to) ::madvise(base_ + from, to - from, MADV_COLLAPSE);
}

}  // namespace holdfast::client
