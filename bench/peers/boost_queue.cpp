// SPDX-License-Identifier: MIT
//
// Boost.Interprocess message_queue: one for each receiver of a topic, since a message is taken once.
#include <deque>
#include <string>
#include <vector>

#include <boost/interprocess/ipc/message_queue.hpp>

#include "bench/peers/peers.hpp"

namespace holdfast::bench {

namespace {

namespace ipc = boost::interprocess;

// It holds all of its messages from the start: as many small ones as Holdfast's ring, and two large ones.
std::size_t capacity_of(std::size_t bytes) { return bytes <= 4096 ? 64 : 2; }

std::string name_of(const std::string& topic, std::uint32_t index) {
  return shared_memory_prefix() + flat(topic) + ".boost" + std::to_string(index);
}

class QueueSender : public Sender {
 public:
  QueueSender(const std::string& topic, const Shape& shape) : wait_(shape.wait), message_(shape.bytes) {
    for (std::uint32_t i = 0; i < shape.receivers; ++i)
      queues_.emplace_back(ipc::open_or_create, name_of(topic, i).c_str(), capacity_of(shape.bytes), shape.bytes);
  }

  void send(const void* head, std::size_t head_bytes) override {
    std::memcpy(message_.data(), head, head_bytes);
    for (ipc::message_queue& queue : queues_) {
      if (wait_ == Wait::kSleep) {
        queue.send(message_.data(), message_.size(), 0);
      } else {
        while (!queue.try_send(message_.data(), message_.size(), 0)) pause();
      }
    }
  }

 private:
  Wait wait_;
  std::vector<unsigned char> message_;
  std::deque<ipc::message_queue> queues_;  // they cannot be moved
};

class QueueReceiver : public Receiver {
 public:
  QueueReceiver(const std::string& topic, std::uint32_t index, const Shape& shape)
      : wait_(shape.wait),
        message_(shape.bytes),
        queue_(ipc::open_or_create, name_of(topic, index).c_str(), capacity_of(shape.bytes), shape.bytes) {}

  void receive(void* head, std::size_t head_bytes) override {
    ipc::message_queue::size_type got = 0;
    unsigned priority = 0;
    if (wait_ == Wait::kSleep) {
      queue_.receive(message_.data(), message_.size(), got, priority);
    } else {
      while (!queue_.try_receive(message_.data(), message_.size(), got, priority)) pause();
    }
    require(got == message_.size(), "a message has the wrong size");
    std::memcpy(head, message_.data(), head_bytes);
  }

 private:
  Wait wait_;
  std::vector<unsigned char> message_;
  ipc::message_queue queue_;
};

class QueuePeer : public Peer {
 public:
  std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) override {
    return std::make_unique<QueueSender>(topic, shape);
  }
  std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) override {
    return std::make_unique<QueueReceiver>(topic, shape.receivers == 1 ? 0 : next_index_++, shape);
  }

 private:
  std::uint32_t next_index_ = 0;
};

}  // namespace

std::unique_ptr<Peer> make_boost_queue() { return std::make_unique<QueuePeer>(); }

}  // namespace holdfast::bench
