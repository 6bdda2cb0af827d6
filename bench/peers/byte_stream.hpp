// SPDX-License-Identifier: MIT
//
// Messages of one size through a descriptor that carries bytes. One that does not block is asked again and again.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include <unistd.h>

#include "bench/peers/peer.hpp"
#include "proto/control/descriptor.hpp"

namespace holdfast::bench {

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

// Sends to every descriptor in `ends`, one for each receiver.
class StreamSender : public Sender {
 public:
  StreamSender(std::size_t bytes, std::vector<Descriptor> ends) : message_(bytes), ends_(std::move(ends)) {}

  void send(const void* head, std::size_t head_bytes) override {
    std::memcpy(message_.data(), head, head_bytes);
    for (const Descriptor& end : ends_) write_all(end.get(), message_.data(), message_.size());
  }

 protected:
  void add(Descriptor end) { ends_.push_back(std::move(end)); }
  std::size_t end_count() const { return ends_.size(); }

 private:
  std::vector<unsigned char> message_;
  std::vector<Descriptor> ends_;
};

class StreamReceiver : public Receiver {
 public:
  StreamReceiver(std::size_t bytes, Descriptor end) : message_(bytes), end_(std::move(end)) {}

  void receive(void* head, std::size_t head_bytes) override {
    read_all(end_.get(), message_.data(), message_.size());
    std::memcpy(head, message_.data(), head_bytes);
  }

 private:
  std::vector<unsigned char> message_;
  Descriptor end_;
};

}  // namespace holdfast::bench
