// SPDX-License-Identifier: MIT
//
// Named pipes: one for each receiver of a topic.
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/peers/byte_stream.hpp"
#include "bench/peers/peers.hpp"

namespace holdfast::bench {

namespace {

// Opened for both directions: so opening waits for nobody.
int open_pipe(const std::string& topic, std::uint32_t index, Wait wait) {
  const std::string path = runtime_folder() + "/" + flat(topic) + ".pipe" + std::to_string(index);
  if (mkfifo(path.c_str(), 0600) != 0 && errno != EEXIST) call_failed("mkfifo");
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC | (wait == Wait::kSpin ? O_NONBLOCK : 0));
  if (descriptor < 0) call_failed("open");
  return descriptor;
}

class PipeSender : public Sender {
 public:
  PipeSender(const std::string& topic, const Shape& shape) : message_(shape.bytes) {
    for (std::uint32_t i = 0; i < shape.receivers; ++i) ends_.emplace_back(open_pipe(topic, i, shape.wait));
  }

  void send(const void* head, std::size_t head_bytes) override {
    std::memcpy(message_.data(), head, head_bytes);
    for (const Descriptor& end : ends_) write_all(end.get(), message_.data(), message_.size());
  }

 private:
  std::vector<unsigned char> message_;
  std::vector<Descriptor> ends_;
};

class PipeReceiver : public Receiver {
 public:
  PipeReceiver(const std::string& topic, std::uint32_t index, const Shape& shape)
      : message_(shape.bytes),
        end_(open_pipe(topic, index, shape.wait)) {}

  void receive(void* head, std::size_t head_bytes) override {
    read_all(end_.get(), message_.data(), message_.size());
    std::memcpy(head, message_.data(), head_bytes);
  }

 private:
  std::vector<unsigned char> message_;
  Descriptor end_;
};

class PipePeer : public Peer {
 public:
  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    return std::make_unique<PipeSender>(topic, shape);
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    return std::make_unique<PipeReceiver>(topic, shape.receivers == 1 ? 0 : next_index_++, shape);
  }

 private:
  std::uint32_t next_index_ = 0;
};

}  // namespace

std::unique_ptr<Peer> make_pipe() { return std::make_unique<PipePeer>(); }

}  // namespace holdfast::bench
