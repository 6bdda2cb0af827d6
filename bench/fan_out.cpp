// SPDX-License-Identifier: MIT
#include "bench/fan_out.hpp"

#include <utility>

#include <unistd.h>

#include "bench/attendants.hpp"
#include "bench/endpoint.hpp"
#include "bench/message.hpp"
#include "bench/wake_rounds.hpp"

namespace holdfast::bench {

namespace {

// The lead opens its publisher when the subscribers' processes are started: they need a name to subscribe to, not a lane.
class FanOut : public Workload {
 public:
  FanOut(std::string topic, std::uint32_t subscribers) : topic_(std::move(topic)), subscribers_(subscribers) {}

  void open(Role role) final {
    if (role == Role::kFollow) return;
    attendants_.start(subscribers_, [this](std::uint32_t) {
      CEndpoint endpoint;
      endpoint.connect();
      endpoint.subscribe_to(topic_, {});
      attend(endpoint);
    });
    endpoint_.connect();
    endpoint_.publish_to(topic_, {});
    endpoint_.wait_for_subscriber(subscribers_);
    begin();
    attendants_.await_all();
  }

  std::uint64_t run(Role role, std::uint64_t count) final {
    if (role == Role::kLead) publish(count);
    return count;
  }

 protected:
  // What a subscriber does, in its process: it says that it has arrived, and does not return.
  virtual void attend(CEndpoint& endpoint) = 0;
  virtual void begin() {}  // by the lead, when all have subscribed
  virtual void publish(std::uint64_t count) = 0;

  void publish_message(std::uint64_t bytes = sizeof(Message)) {
    const Message message = Message::of(position_++);
    require(endpoint_.publish(&message, bytes), "the ring is full");
  }

  std::uint32_t subscribers() const { return subscribers_; }

  Attendants attendants_;
  CEndpoint endpoint_;

 private:
  std::string topic_;
  std::uint32_t subscribers_;
  std::uint64_t position_ = 0;
};

class FanOutIdle : public FanOut {
 public:
  FanOutIdle(std::string topic, std::uint64_t bytes, std::uint32_t subscribers)
      : FanOut(std::move(topic), subscribers),
        bytes_(bytes) {}

 private:
  // Idle from its first sample on.
  void attend(CEndpoint& endpoint) override {
    CEndpoint::Sample sample{};
    require(endpoint.take_asleep(sample) == HF_OK, "the first sample did not come");
    CEndpoint::release(sample);
    attendants_.arrived();
    while (true) ::pause();
  }

  void begin() override { publish(1); }

  void publish(std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (bytes_ <= sizeof(Message))
        publish_message(bytes_);
      else
        endpoint_.publish_in_place(bytes_, [](void*) {});
    }
  }

  std::uint64_t bytes_;
};

class FanOutAsleep : public FanOut {
 public:
  FanOutAsleep(std::string topic, std::uint32_t subscribers)
      : FanOut(std::move(topic), subscribers),
        rounds_(subscribers) {}

  double uncounted_seconds() const override { return rounds_.uncounted_seconds(); }

 private:
  void attend(CEndpoint& endpoint) override {
    attendants_.arrived();
    CEndpoint::Sample sample{};
    while (endpoint.take_asleep(sample) == HF_OK) rounds_.woken();
    wrong("a sleeping subscriber missed a sample");
  }

  void publish(std::uint64_t count) override {
    rounds_.run(count, [this] { publish_message(); });
  }

  WakeRounds rounds_;
};

}  // namespace

std::unique_ptr<Workload> fan_out(const std::string& topic, std::uint64_t bytes, std::uint32_t subscribers) {
  return std::make_unique<FanOutIdle>(topic, bytes, subscribers);
}
std::unique_ptr<Workload> fan_out_asleep(const std::string& topic, std::uint32_t subscribers) {
  return std::make_unique<FanOutAsleep>(topic, subscribers);
}

}  // namespace holdfast::bench
