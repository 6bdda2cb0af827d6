// SPDX-License-Identifier: MIT
#include "bench/peers/workloads.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include "bench/child.hpp"
#include "bench/semaphore.hpp"
#include "bench/shared_memory.hpp"

namespace holdfast::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kTouchedBytes = 64;

struct alignas(64) Head {
  std::array<std::uint64_t, kTouchedBytes / 8> words;

  static Head of(std::uint64_t position) {
    Head head;
    head.words.fill(position * 0x0101010101010101);
    return head;
  }
};

void send(Sender& sender, std::uint64_t position, std::size_t head_bytes) {
  const Head head = Head::of(position);
  sender.send(&head, head_bytes);
}

void receive(Receiver& receiver, std::uint64_t position, std::size_t head_bytes) {
  Head expected = Head::of(position);
  Head head = expected;
  if (head_bytes > 0) head.words[0] = ~head.words[0];
  receiver.receive(&head, head_bytes);
  require(head.words == expected.words, "a message has the wrong content");
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class PeerRoundTrip : public Workload {
 public:
  PeerRoundTrip(MakePeer make, std::string topic, const PeerTrip& trip)
      : make_(std::move(make)),
        topic_(std::move(topic)),
        trip_(trip),
        head_bytes_(trip.touched ? std::min(trip.bytes, kTouchedBytes) : 0) {}

  void open(Role role) override {
    const Shape shape{.bytes = trip_.bytes, .wait = trip_.wait};
    const bool leads = role == Role::kLead;
    peer_ = make_();
    sender_ = peer_->sender(topic_ + (leads ? "/there" : "/back"), shape);
    receiver_ = peer_->receiver(topic_ + (leads ? "/back" : "/there"), shape);
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    for (const std::uint64_t end = position_ + count; position_ < end; ++position_) {
      if (role == Role::kLead) send_one();
      receive(*receiver_, position_, head_bytes_);
      if (role == Role::kFollow) send_one();
    }
    return count;
  }

  double uncounted_seconds() const override {
    return trip_.wait == Wait::kSleep ? Settle::seconds_per_round_trip() : 0;
  }

 private:
  void send_one() {
    if (trip_.wait == Wait::kSleep) Settle::wait();
    send(*sender_, position_, head_bytes_);
  }

  MakePeer make_;
  std::string topic_;
  PeerTrip trip_;
  std::size_t head_bytes_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<Sender> sender_;
  std::unique_ptr<Receiver> receiver_;
  std::uint64_t position_ = 0;
};

class PeerFlow : public Workload {
 public:
  PeerFlow(MakePeer make, std::string topic, Wait wait)
      : make_(std::move(make)),
        topic_(std::move(topic)),
        wait_(wait) {}

  void open(Role role) override {
    const Shape shape{.bytes = 32, .wait = wait_};
    peer_ = make_();
    if (role == Role::kLead)
      sender_ = peer_->sender(topic_, shape);
    else
      receiver_ = peer_->receiver(topic_, shape);
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    for (const std::uint64_t end = position_ + count; position_ < end; ++position_) {
      if (role == Role::kLead)
        send(*sender_, position_, 32);
      else
        receive(*receiver_, position_, 32);
    }
    return count;
  }

 private:
  MakePeer make_;
  std::string topic_;
  Wait wait_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<Sender> sender_;
  std::unique_ptr<Receiver> receiver_;
  std::uint64_t position_ = 0;
};

class PeerFanOut : public Workload {
 public:
  PeerFanOut(MakePeer make, std::string topic, std::uint32_t receivers)
      : make_(std::move(make)),
        topic_(std::move(topic)),
        shape_{.bytes = 32, .wait = Wait::kSleep, .receivers = receivers} {}

  void open(Role role) override {
    peer_ = make_();
    if (role == Role::kLead) {
      sender_ = peer_->sender(topic_, shape_);
    } else {
      for (std::uint32_t i = 0; i < shape_.receivers; ++i) receivers_.push_back(peer_->receiver(topic_, shape_));
    }
  }

  // In parts that every receiver has room for: they take when the sender has sent one.
  std::uint64_t run(Role role, std::uint64_t count) override {
    start_ = Clock::now();
    sending_seconds_ = 0;
    for (const std::uint64_t end = position_ + count; position_ < end;) {
      const std::uint64_t part = std::min(kFanOutPart, end - position_);
      if (role == Role::kLead)
        send_part(part);
      else
        receive_part(part);
      position_ += part;
    }
    count_ = count;
    return count;
  }

  // The receivers taking what came.
  double uncounted_seconds() const override {
    return (seconds_since(start_) - sending_seconds_) / static_cast<double>(count_);
  }

 private:
  void send_part(std::uint64_t part) {
    const auto start = Clock::now();
    for (std::uint64_t i = 0; i < part; ++i) send(*sender_, position_ + i, 32);
    sending_seconds_ += seconds_since(start);
    sent_.post();
    taken_.wait();
  }

  void receive_part(std::uint64_t part) {
    sent_.wait();
    for (const auto& receiver : receivers_)
      for (std::uint64_t i = 0; i < part; ++i) receive(*receiver, position_ + i, 32);
    taken_.post();
  }

  MakePeer make_;
  std::string topic_;
  Shape shape_;
  Semaphore sent_;
  Semaphore taken_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<Sender> sender_;
  std::vector<std::unique_ptr<Receiver>> receivers_;
  Clock::time_point start_{};
  double sending_seconds_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t count_ = 1;
};

struct OpenTopic {
  std::unique_ptr<Sender> sender;
  std::unique_ptr<Receiver> receiver;
};

// Both ends, and the first message.
OpenTopic open_topic(Peer& peer, const std::string& topic) {
  const Shape shape{.bytes = 32, .wait = Wait::kSleep};
  OpenTopic opened;
  opened.sender = peer.sender(topic, shape);
  opened.receiver = peer.receiver(topic, shape);
  send(*opened.sender, 0, 32);
  receive(*opened.receiver, 0, 32);
  return opened;
}

class PeerOpening : public Workload {
 public:
  PeerOpening(MakePeer make, std::string topic) : make_(std::move(make)), topic_(std::move(topic)) {}

  std::uint64_t run(Role role, std::uint64_t count) override {
    if (role == Role::kFollow) {
      end_of_block_.wait();
      return count;
    }
    double closing = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      std::unique_ptr<Peer> peer = make_();
      OpenTopic topic = open_topic(*peer, topic_ + "/" + std::to_string(opened_++));
      const auto start = Clock::now();
      topic = {};
      peer.reset();
      closing += seconds_since(start);
    }
    closing_seconds_ = closing / static_cast<double>(count);
    end_of_block_.post();
    return count;
  }

  double uncounted_seconds() const override { return closing_seconds_; }

 private:
  MakePeer make_;
  std::string topic_;
  Semaphore end_of_block_;
  std::uint64_t opened_ = 0;
  double closing_seconds_ = 0;
};

void add_files(const std::string& folder, PeerFootprint& footprint) {
  constexpr double kBlockBytes = 512;
  constexpr char kOthers[] = "/dev/shm/holdfast.";  // brokers that are not ours
  constexpr auto kSkip = std::filesystem::directory_options::skip_permission_denied;
  std::error_code gone;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, kSkip, gone)) {
    struct stat status{};
    const std::string path = entry.path().string();
    if (path.starts_with(kOthers) && !path.starts_with("/dev/shm/" + shared_memory_prefix())) continue;
    if (lstat(path.c_str(), &status) != 0 || S_ISDIR(status.st_mode)) continue;
    footprint.files += 1;
    footprint.bytes += static_cast<double>(status.st_blocks) * kBlockBytes;
  }
}

PeerFootprint footprint_here(const MakePeer& make, const std::string& topic) {
  const std::unique_ptr<Peer> peer = make();
  std::vector<OpenTopic> topics;
  topics.push_back(open_topic(*peer, topic + "/first"));
  const PeerFootprint before = in_use_now("self");
  for (int i = 0; i < kFootprintTopics; ++i) topics.push_back(open_topic(*peer, topic + "/" + std::to_string(i)));
  const PeerFootprint after = in_use_now("self");
  topics.clear();
  return {.bytes = (after.bytes - before.bytes) / kFootprintTopics,
          .files = (after.files - before.files) / kFootprintTopics,
          .descriptors = (after.descriptors - before.descriptors) / kFootprintTopics};
}

}  // namespace

PeerFootprint in_use_now(const std::string& process) {
  PeerFootprint footprint{};
  add_files("/dev/shm", footprint);
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/" + process + "/fd"))
    footprint.descriptors += 1;
  return footprint;
}

PeerFootprint peer_footprint(const MakePeer& make, const std::string& topic) {
  struct Result {
    PeerFootprint footprint;
    Failure failure;
  };
  const SharedMemory<Result> result;
  const pid_t child = start_child(result->failure, [&] { result->footprint = footprint_here(make, topic); });
  const bool counted = reap(child);
  if (!result->failure.empty()) cannot(result->failure.why());
  if (!counted) cannot("the process that counted died");
  return result->footprint;
}

std::unique_ptr<Workload> peer_round_trip(MakePeer make, std::string topic, const PeerTrip& trip) {
  return std::make_unique<PeerRoundTrip>(std::move(make), std::move(topic), trip);
}
std::unique_ptr<Workload> peer_flow(MakePeer make, std::string topic, Wait wait) {
  return std::make_unique<PeerFlow>(std::move(make), std::move(topic), wait);
}
std::unique_ptr<Workload> peer_fan_out(MakePeer make, std::string topic, std::uint32_t receivers) {
  return std::make_unique<PeerFanOut>(std::move(make), std::move(topic), receivers);
}
std::unique_ptr<Workload> peer_opening(MakePeer make, std::string topic) {
  return std::make_unique<PeerOpening>(std::move(make), std::move(topic));
}

}  // namespace holdfast::bench
