// SPDX-License-Identifier: MIT
#include "bench/ours.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "bench/endpoint.hpp"
#include "bench/message.hpp"
#include "bench/semaphore.hpp"
#include "bench/shared_memory.hpp"

namespace holdfast::bench {

namespace {

constexpr std::size_t kTouchedBytes = 64;

template <class Endpoint>
class RoundTrip : public Workload {
 public:
  RoundTrip(std::string topic, const Trip& trip) : topic_(std::move(topic)), trip_(trip) {}

  void open(Role role) override {
    const std::string there = topic_ + "/there";
    const std::string back = topic_ + "/back";
    endpoint_.connect();
    endpoint_.publish_to(role == Role::kLead ? there : back, {});
    endpoint_.subscribe_to(role == Role::kLead ? back : there, {.lossless = trip_.lossless});
    endpoint_.wait_for_subscriber();
  }

  // What is sent and how is settled before the loop: the harness should cost what the floor's loop costs.
  std::uint64_t run(Role role, std::uint64_t count) override {
    if (trip_.asleep) return run<Kind::kAsleep>(role, count);
    if (trip_.bytes == sizeof(Message)) return run<Kind::kMessage>(role, count);
    return trip_.touched ? run<Kind::kTouched>(role, count) : run<Kind::kLoan>(role, count);
  }

  double uncounted_seconds() const override { return trip_.asleep ? Settle::seconds_per_round_trip() : 0; }

 private:
  using Sample = typename Endpoint::Sample;
  enum class Kind { kMessage, kLoan, kTouched, kAsleep };  // kAsleep: a message, too

  template <Kind kKind>
  std::uint64_t run(Role role, std::uint64_t count) {
    const std::uint64_t end = position_ + count;
    if (role == Role::kLead) {
      for (; position_ < end; ++position_) {
        send<kKind>();
        receive<kKind>();
      }
    } else {
      for (; position_ < end; ++position_) {
        receive<kKind>();
        send<kKind>();
      }
    }
    return count;
  }

  template <Kind kKind>
  void send() {
    if constexpr (kKind == Kind::kAsleep) Settle::wait();
    if constexpr (kKind == Kind::kMessage || kKind == Kind::kAsleep) {
      const Message message = Message::of(position_);
      require(endpoint_.publish(&message, sizeof message), "the ring is full");
    } else {
      endpoint_.publish_in_place(trip_.bytes, [&](void* data) {
        if constexpr (kKind == Kind::kTouched) std::memset(data, static_cast<int>(position_ & 0xff), kTouchedBytes);
      });
    }
  }

  template <Kind kKind>
  void receive() {
    if constexpr (kKind == Kind::kAsleep) {
      require(endpoint_.take_asleep(sample_) == HF_OK, "a sample was missed");
    } else {
      int result = HF_EMPTY;
      while ((result = endpoint_.take(sample_)) == HF_EMPTY) pause();
      require(result == HF_OK, "a sample was missed");
    }
    require(Endpoint::position(sample_) == position_, "a sample has the wrong position");
    look<kKind>(Endpoint::data(sample_));
    Endpoint::release(sample_);
  }

  template <Kind kKind>
  void look(const void* data) const {
    if constexpr (kKind == Kind::kTouched) {
      std::array<std::uint64_t, kTouchedBytes / 8> words;
      std::memcpy(words.data(), data, kTouchedBytes);
      const std::uint64_t expected = (position_ & 0xff) * 0x0101010101010101;
      std::uint64_t wrong = 0;
      for (const std::uint64_t word : words) wrong |= word ^ expected;
      require(wrong == 0, "a sample has the wrong content");
    } else if constexpr (kKind != Kind::kLoan) {
      Message message;
      std::memcpy(&message, data, sizeof message);
      require(message.is_of(position_), "a sample has the wrong content");
    }
  }

  std::string topic_;
  Trip trip_;
  Endpoint endpoint_;
  Sample sample_{};
  std::uint64_t position_ = 0;
};

template <class Endpoint>
class FlowOf : public Workload {
 public:
  FlowOf(std::string topic, const Flow& flow) : topic_(std::move(topic)), flow_(flow) {}

  void open(Role role) override {
    endpoint_.connect();
    if (role == Role::kLead) {
      endpoint_.publish_to(topic_, {.ring_slots = flow_.ring_slots, .clock = flow_.clock});
      endpoint_.wait_for_subscriber();
      messages_.resize(flow_.batch);
    } else {
      endpoint_.subscribe_to(topic_, {.lossless = flow_.lossless});
      samples_.resize(flow_.batch);
    }
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    const std::uint64_t end = position_ + count;
    std::uint64_t completed = count;
    if (role == Role::kLead)
      flow_.batch == 1 ? publish_singly(end) : publish_batches(end);
    else
      completed = flow_.batch == 1 ? take_singly(end) : take_batches(end);
    position_ = end;
    return completed;
  }

 private:
  using Sample = typename Endpoint::Sample;

  void publish_singly(std::uint64_t end) {
    for (std::uint64_t position = position_; position < end; ++position) {
      const Message message = Message::of(position);
      while (!endpoint_.publish(&message, sizeof message)) pause();
    }
  }

  void publish_batches(std::uint64_t end) {
    for (std::uint64_t position = position_; position < end;) {
      const std::uint64_t part = std::min<std::uint64_t>(flow_.batch, end - position);
      for (std::uint64_t i = 0; i < part; ++i) messages_[i] = Message::of(position + i);
      for (std::uint64_t sent = 0; sent < part;) {
        const std::uint64_t more = endpoint_.publish_batch(messages_.data() + sent, part - sent);
        if (more == 0) pause();
        sent += more;
      }
      position += part;
    }
  }

  // Takes until the sample before `end` is there.
  std::uint64_t take_singly(std::uint64_t end) {
    Sample& sample = samples_[0];
    std::uint64_t taken = 0;
    for (std::uint64_t next = position_; next < end;) {
      const int result = endpoint_.take(sample);
      if (result == HF_EMPTY) {
        pause();
      } else if (result == HF_LAPPED) {
        require(!flow_.lossless, "a lossless subscriber missed samples");
        next += Endpoint::missed(sample);
      } else {
        check(sample, next++);
        ++taken;
      }
    }
    return taken;
  }

  std::uint64_t take_batches(std::uint64_t end) {
    std::uint64_t taken = 0;
    for (std::uint64_t next = position_; next < end;) {
      int result = HF_EMPTY;
      const std::size_t found = endpoint_.take_batch(samples_.data(), samples_.size(), result);
      for (std::size_t i = 0; i < found; ++i) check(samples_[i], next++);
      taken += found;
      if (result == HF_LAPPED) {
        require(!flow_.lossless, "a lossless subscriber missed samples");
        next += Endpoint::missed(samples_[found]);
      } else if (found == 0) {
        pause();
      }
    }
    return taken;
  }

  static void check(Sample& sample, std::uint64_t position) {
    Message message;
    std::memcpy(&message, Endpoint::data(sample), sizeof message);
    require(Endpoint::position(sample) == position && message.is_of(position), "a sample is not the one that is due");
    Endpoint::release(sample);
  }

  std::string topic_;
  Flow flow_;
  Endpoint endpoint_;
  std::vector<Message> messages_;
  std::vector<Sample> samples_;
  std::uint64_t position_ = 0;
};

class LoanFlow : public Workload {
 public:
  LoanFlow(std::string topic, std::uint64_t bytes, bool lossless)
      : topic_(std::move(topic)),
        bytes_(bytes),
        lossless_(lossless) {}

  void open(Role role) override {
    endpoint_.connect();
    if (role == Role::kLead) {
      endpoint_.publish_to(topic_, {});
      endpoint_.wait_for_subscriber();
    } else {
      endpoint_.subscribe_to(topic_, {.lossless = lossless_});
    }
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    const std::uint64_t end = position_ + count;
    if (role == Role::kLead) {
      for (; position_ < end; ++position_) publish();
      return count;
    }
    return take_until(end);
  }

 private:
  void publish() {
    const auto write = [this](void* data) {
      std::memset(data, static_cast<int>(position_ & 0xff), kTouchedBytes);
      std::memcpy(data, &position_, sizeof position_);
    };
    while (!endpoint_.try_publish_in_place(bytes_, write)) pause();
  }

  std::uint64_t take_until(std::uint64_t end) {
    std::uint64_t taken = 0;
    while (position_ < end) {
      const int result = endpoint_.take(sample_);
      if (result == HF_EMPTY) {
        pause();
      } else if (result == HF_LAPPED) {
        require(!lossless_, "a lossless subscriber missed samples");
        position_ += CEndpoint::missed(sample_);
      } else {
        std::uint64_t position = 0;
        std::memcpy(&position, CEndpoint::data(sample_), sizeof position);
        require(position == position_, "a sample has the wrong content");
        CEndpoint::release(sample_);
        ++position_;
        ++taken;
      }
    }
    return taken;
  }

  std::string topic_;
  std::uint64_t bytes_;
  bool lossless_;
  CEndpoint endpoint_;
  CEndpoint::Sample sample_{};
  std::uint64_t position_ = 0;
};

class WaitMany : public Workload {
 public:
  WaitMany(std::string topic, std::uint32_t subscriptions) : topic_(std::move(topic)), subscriptions_(subscriptions) {}

  void open(Role role) override {
    endpoint_.connect();
    if (role == Role::kLead) {
      endpoint_.publish_to(topic_ + "/there/0", {});
      endpoint_.subscribe_to(topic_ + "/back", {});
    } else {
      endpoint_.publish_to(topic_ + "/back", {});
      for (std::uint32_t i = 0; i < subscriptions_; ++i)
        waited_for_.push_back(endpoint_.one_more_subscriber(topic_ + "/there/" + std::to_string(i)));
    }
    endpoint_.wait_for_subscriber();
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    for (const std::uint64_t end = position_ + count; position_ < end; ++position_) {
      if (role == Role::kLead) {
        send();
        require(endpoint_.take_asleep(sample_) == HF_OK, "a sample was missed");
      } else {
        std::size_t ready = 0;
        require(hf_wait(waited_for_.data(), waited_for_.size(), -1, &ready) == HF_OK, "hf_wait");
        require(hf_take(waited_for_[ready], &sample_) == HF_OK, "a sample was missed");
        send();
      }
      require(CEndpoint::position(sample_) == position_, "a sample has the wrong position");
    }
    return count;
  }

  double uncounted_seconds() const override { return Settle::seconds_per_round_trip(); }

 private:
  void send() {
    Settle::wait();
    const Message message = Message::of(position_);
    require(endpoint_.publish(&message, sizeof message), "the ring is full");
  }

  std::string topic_;
  std::uint32_t subscriptions_;
  CEndpoint endpoint_;
  std::vector<hf_subscriber*> waited_for_;
  CEndpoint::Sample sample_{};
  std::uint64_t position_ = 0;
};

template <class Endpoint>
class WriteInPlace : public Workload {
 public:
  WriteInPlace(std::string topic, std::size_t bytes, bool huge_pages)
      : topic_(std::move(topic)),
        bytes_(bytes),
        huge_pages_(huge_pages) {}

  void open(Role role) override {
    endpoint_.connect();
    if (role == Role::kLead) {
      source_.assign(bytes_, 1);
      endpoint_.publish_to(topic_, {.huge_pages = huge_pages_});
      endpoint_.wait_for_subscriber();
    } else {
      endpoint_.subscribe_to(topic_, {});
    }
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i) {
      ++round_;
      if (role == Role::kLead)
        write();
      else
        read();
    }
    return count;
  }

 private:
  using Sample = typename Endpoint::Sample;

  void write() {
    std::memcpy(source_.data(), &round_, sizeof round_);
    std::memcpy(source_.data() + bytes_ - sizeof round_, &round_, sizeof round_);
    endpoint_.publish_in_place(bytes_, [this](void* data) { std::memcpy(data, source_.data(), bytes_); });
    while (emptied_->load(std::memory_order_acquire) != round_) pause();
  }

  void read() {
    int result = HF_EMPTY;
    while ((result = endpoint_.take(sample_)) == HF_EMPTY) pause();
    require(result == HF_OK, "a sample was missed");
    const auto* data = static_cast<const unsigned char*>(Endpoint::data(sample_));
    std::uint64_t ends[2];
    std::memcpy(&ends[0], data, sizeof ends[0]);
    std::memcpy(&ends[1], data + bytes_ - sizeof ends[1], sizeof ends[1]);
    require(ends[0] == round_ && ends[1] == round_, "a sample has the wrong content");
    Endpoint::release(sample_);
    emptied_->store(round_, std::memory_order_release);
  }

  std::string topic_;
  std::size_t bytes_;
  bool huge_pages_;
  Endpoint endpoint_;
  std::vector<unsigned char> source_;
  SharedMemory<std::atomic<std::uint64_t>> emptied_;
  Sample sample_{};
  std::uint64_t round_ = 0;
};

template <class Endpoint>
class Opening : public Workload {
 public:
  explicit Opening(std::string topic) : topic_(std::move(topic)) {}

  std::uint64_t run(Role role, std::uint64_t count) override {
    if (role == Role::kFollow) {
      end_of_block_.wait();
      return count;
    }
    std::chrono::nanoseconds closing{};
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string topic = topic_ + "/" + std::to_string(opened_++);
      std::optional<Endpoint> endpoint(std::in_place);
      open_one(*endpoint, topic);
      const auto start = std::chrono::steady_clock::now();
      endpoint.reset();
      closing += std::chrono::steady_clock::now() - start;
    }
    closing_seconds_ = std::chrono::duration<double>(closing).count() / static_cast<double>(count);
    end_of_block_.post();
    return count;
  }

  double uncounted_seconds() const override { return closing_seconds_; }

 private:
  static void open_one(Endpoint& endpoint, const std::string& topic) {
    endpoint.connect();
    endpoint.publish_to(topic, {});
    endpoint.subscribe_to(topic, {});
    const Message message = Message::of(0);
    require(endpoint.publish(&message, sizeof message), "the ring is full");
    typename Endpoint::Sample sample{};
    require(endpoint.take(sample) == HF_OK, "the first sample did not come");
    Endpoint::release(sample);
  }

  std::string topic_;
  Semaphore end_of_block_;
  std::uint64_t opened_ = 0;
  double closing_seconds_ = 0;
};

template <template <class> class Kind, class... Arguments>
std::unique_ptr<Workload> make(Api api, Arguments&&... arguments) {
  if (api == Api::kC) return std::make_unique<Kind<CEndpoint>>(std::forward<Arguments>(arguments)...);
  return std::make_unique<Kind<CppEndpoint>>(std::forward<Arguments>(arguments)...);
}

}  // namespace

std::unique_ptr<Workload> round_trip(Api api, const std::string& topic, const Trip& trip) {
  return make<RoundTrip>(api, topic, trip);
}
std::unique_ptr<Workload> flow(Api api, const std::string& topic, const Flow& flow) {
  return make<FlowOf>(api, topic, flow);
}
std::unique_ptr<Workload> write_in_place(Api api, const std::string& topic, std::size_t bytes, bool huge_pages) {
  return make<WriteInPlace>(api, topic, bytes, huge_pages);
}

std::unique_ptr<Workload> loan_flow(const std::string& topic, std::uint64_t bytes, bool lossless) {
  return std::make_unique<LoanFlow>(topic, bytes, lossless);
}
std::unique_ptr<Workload> wait_many(const std::string& topic, std::uint32_t subscriptions) {
  return std::make_unique<WaitMany>(topic, subscriptions);
}
std::unique_ptr<Workload> opening(Api api, const std::string& topic) { return make<Opening>(api, topic); }

}  // namespace holdfast::bench
