// SPDX-License-Identifier: MIT
//
// Messages of one size through a descriptor that carries bytes. One that does not block is asked again and again.
#pragma once

#include <cerrno>
#include <cstddef>
#include <utility>

#include <unistd.h>

#include "bench/peers/peer.hpp"

namespace holdfast::bench {

class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  Descriptor(Descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Descriptor() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

inline void write_all(int descriptor, const unsigned char* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = write(descriptor, data, bytes);
    if (written < 0 && errno != EAGAIN && errno != EINTR) call_failed("write");
    if (written < 0) {
      pause();
      continue;
    }
    data += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

inline void read_all(int descriptor, unsigned char* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = read(descriptor, data, bytes);
    if (got == 0) cannot("the other end closed");
    if (got < 0 && errno != EAGAIN && errno != EINTR) call_failed("read");
    if (got < 0) {
      pause();
      continue;
    }
    data += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

}  // namespace holdfast::bench
