// SPDX-License-Identifier: MIT
//
// The two public APIs, each as what a workload asks of it, word for word and inline: CEndpoint and CppEndpoint. An
// endpoint is one process's client with at most one publisher and one subscriber. Failures throw.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "bench/workload.hpp"
#include "holdfast/holdfast.h"
#include "holdfast/holdfast.hpp"

namespace holdfast::bench {

struct Delivery {
  bool lossless = false;
};

struct PublisherShape {
  std::uint32_t ring_slots = 0;  // 0: the default
  int clock = HF_CLOCK_UNSET;
  bool huge_pages = false;
};

inline constexpr std::int64_t kOpenTimeoutNs = 10'000'000'000;

// A result that is no condition the workload can meet.
[[noreturn]] inline void fail(const char* call, int result) {
  throw std::runtime_error(std::string(call) + ": " + hf_result_name(result) +
                           (result < 0 ? std::string(": ") + hf_last_error() : std::string()));
}

inline void must(const char* call, int result) {
  if (result != HF_OK) [[unlikely]]
    fail(call, result);
}

struct CloseClient {
  void operator()(hf_client* client) const { hf_client_close(client); }
};
using ClientHandle = std::unique_ptr<hf_client, CloseClient>;

inline ClientHandle open_client() {
  hf_client* client = nullptr;
  must("hf_client_open", hf_client_open(nullptr, &client));
  return ClientHandle(client);
}

class CEndpoint {
 public:
  using Sample = hf_view;

  CEndpoint() = default;
  CEndpoint(const CEndpoint&) = delete;
  CEndpoint& operator=(const CEndpoint&) = delete;
  ~CEndpoint() {
    hf_subscriber_close(subscriber_);
    hf_publisher_close(publisher_);
  }

  void connect() { client_ = open_client(); }

  void publish_to(const std::string& topic, const PublisherShape& shape) {
    hf_publisher_options options{};
    options.struct_size = sizeof options;
    options.ring_slots = shape.ring_slots;
    options.clock = shape.clock;
    options.huge_pages = shape.huge_pages ? 1 : 0;
    must("hf_publisher_open", hf_publisher_open(client_.get(), topic.c_str(), &options, &publisher_));
  }

  void subscribe_to(const std::string& topic, const Delivery& delivery) {
    hf_subscriber_options options{};
    options.struct_size = sizeof options;
    options.delivery = delivery.lossless ? HF_LOSSLESS : HF_DROP_OLDEST;
    must("hf_subscriber_open", hf_subscriber_open(client_.get(), topic.c_str(), &options, &subscriber_));
  }

  // Closed with the client.
  hf_subscriber* one_more_subscriber(const std::string& topic) {
    hf_subscriber* subscriber = nullptr;
    must("hf_subscriber_open", hf_subscriber_open(client_.get(), topic.c_str(), nullptr, &subscriber));
    return subscriber;
  }

  void wait_for_subscriber(std::int64_t count = 1) {
    must("hf_publisher_wait_for_subscribers", hf_publisher_wait_for_subscribers(publisher_, count, kOpenTimeoutNs));
  }

  // False: full.
  bool publish(const void* payload, std::uint64_t bytes) {
    const int result = hf_publish(publisher_, payload, bytes, 0);
    if (result == HF_OK) [[likely]]
      return true;
    if (result != HF_FULL) fail("hf_publish", result);
    return false;
  }

  // How many of `count` values were published.
  template <class T>
  std::size_t publish_batch(const T* values, std::size_t count) {
    std::size_t published = 0;
    const int result = hf_publish_batch(publisher_, values, sizeof(T), sizeof(T), count, 0, &published);
    if (result != HF_OK && result != HF_FULL) fail("hf_publish_batch", result);
    return published;
  }

  // Loans `bytes`, lets `write(data)` fill them, publishes. A subscriber that keeps up leaves room.
  template <class Write>
  void publish_in_place(std::uint64_t bytes, Write&& write) {
    hf_loan loan;
    must("hf_publisher_loan", hf_publisher_loan(publisher_, bytes, 0, 0, &loan));
    write(hf_loan_data(&loan));
    must("hf_loan_publish", hf_loan_publish(&loan, 0));
  }

  // The same. False: no memory or no room, because the subscriber has not kept up.
  template <class Write>
  bool try_publish_in_place(std::uint64_t bytes, Write&& write) {
    hf_loan loan;
    const int loaned = hf_publisher_loan(publisher_, bytes, 0, 0, &loan);
    if (loaned == HF_E_EXHAUSTED) return false;
    must("hf_publisher_loan", loaned);
    write(hf_loan_data(&loan));
    const int result = hf_loan_publish(&loan, 0);
    if (result == HF_OK) [[likely]]
      return true;
    if (result != HF_FULL) fail("hf_loan_publish", result);
    hf_loan_drop(&loan);
    return false;
  }

  // HF_OK, HF_EMPTY or HF_LAPPED.
  int take(Sample& sample) { return condition("hf_take", hf_take(subscriber_, &sample)); }
  int take_asleep(Sample& sample) { return condition("hf_take_wait", hf_take_wait(subscriber_, -1, &sample)); }

  // How many were taken; `result` says what ended it, and samples[taken] tells the rest where that is HF_LAPPED.
  std::size_t take_batch(Sample* samples, std::size_t count, int& result) {
    std::size_t taken = 0;
    result = condition("hf_take_batch", hf_take_batch(subscriber_, samples, count, &taken));
    return taken;
  }

  static const void* data(const Sample& sample) { return hf_view_data(&sample); }
  static std::uint64_t position(const Sample& sample) { return sample.position; }
  static std::uint64_t missed(const Sample& sample) { return sample.missed; }
  static void release(Sample& sample) { hf_view_release(&sample); }

 private:
  static int condition(const char* call, int result) {
    if (result < 0 || result > HF_LAPPED) [[unlikely]]
      fail(call, result);
    return result;
  }

  ClientHandle client_;
  hf_publisher* publisher_ = nullptr;
  hf_subscriber* subscriber_ = nullptr;
};

class CppEndpoint {
 public:
  using Sample = View;

  void connect() { client_.emplace(Client::connect_or_throw()); }

  void publish_to(const std::string& topic, const PublisherShape& shape) {
    PublisherOptions options;
    options.ring_slots = shape.ring_slots;
    options.clock = shape.clock;
    options.huge_pages = shape.huge_pages;
    publisher_.emplace(client_->publisher_or_throw(topic, options));
  }

  void subscribe_to(const std::string& topic, const Delivery& delivery) {
    SubscriberOptions options;
    options.lossless = delivery.lossless;
    subscriber_.emplace(client_->subscriber_or_throw(topic, options));
  }

  void wait_for_subscriber(std::int64_t count = 1) {
    if (publisher_->wait_for_subscribers(count, Timeout(kOpenTimeoutNs)).or_throw() != Status::kOk)
      throw std::runtime_error("Publisher::wait_for_subscribers: no subscriber came");
  }

  bool publish(const void* payload, std::uint64_t bytes) {
    const auto result = publisher_->publish(payload, bytes, kLook).or_throw();
    if (result == Status::kOk) [[likely]]
      return true;
    if (result != Status::kFull) fail("Publisher::publish", static_cast<int>(result));
    return false;
  }

  template <class T>
  std::size_t publish_batch(const T* values, std::size_t count) {
    std::size_t published = 0;
    const auto result = publisher_->publish_batch(values, count, kLook, &published).or_throw();
    if (result != Status::kOk && result != Status::kFull) fail("Publisher::publish_batch", static_cast<int>(result));
    return published;
  }

  template <class Write>
  void publish_in_place(std::uint64_t bytes, Write&& write) {
    Loan loan = publisher_->loan_or_throw(bytes, 0, kLook);
    write(loan.data());
    loan.publish_or_throw(kLook);
  }

  int take(Sample& sample) { return condition("Subscriber::take", subscriber_->take(sample)); }
  int take_asleep(Sample& sample) { return condition("Subscriber::take", subscriber_->take(sample, kForever)); }

  // The C++ API takes one by one.
  std::size_t take_batch(Sample* samples, std::size_t count, int& result) {
    std::size_t taken = 0;
    while (taken < count && (result = take(samples[taken])) == HF_OK) ++taken;
    return taken;
  }

  static const void* data(const Sample& sample) { return sample.data(); }
  static std::uint64_t position(const Sample& sample) { return sample.position(); }
  static std::uint64_t missed(const Sample& sample) { return sample.missed(); }
  static void release(Sample& sample) { sample.release(); }

 private:
  static int condition(const char* call, Result<Status>&& taken) {
    const int result = static_cast<int>(std::move(taken).or_throw());
    if (result > HF_LAPPED) [[unlikely]]
      fail(call, result);
    return result;
  }

  // Destroyed in reverse: the client goes last.
  std::optional<Client> client_;
  std::optional<Publisher> publisher_;
  std::optional<Subscriber> subscriber_;
};

}  // namespace holdfast::bench
