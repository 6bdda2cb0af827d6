// SPDX-License-Identifier: MIT
//
// Zeroed memory that the processes of a benchmark share, faulted in: mapped before the fork, inherited by all.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include <sys/mman.h>

namespace holdfast::bench {

template <class T>
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t count = 1) : bytes_(count * sizeof(T)) {
    constexpr int kProtection = PROT_READ | PROT_WRITE;
    void* mapped = mmap(nullptr, bytes_, kProtection, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<T*>(mapped);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { munmap(data_, bytes_); }

  T& operator*() const { return *data_; }
  T* operator->() const { return data_; }
  T& operator[](std::size_t index) const { return data_[index]; }

 private:
  std::size_t bytes_;
  T* data_;
};

// A word with a cache line for itself, and for the one that is fetched with it.
struct alignas(128) Line {
  std::atomic<std::uint64_t> value;
};

}  // namespace holdfast::bench
