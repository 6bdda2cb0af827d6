// SPDX-License-Identifier: MIT
#include "bench/floors.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include <semaphore.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/attendants.hpp"
#include "bench/semaphore.hpp"
#include "bench/shared_memory.hpp"
#include "bench/wake_rounds.hpp"

namespace holdfast::bench {

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

// The time of a transfer depends on where a line lives in the cache, so every block uses other lines.
class CacheLineRoundTrip : public Workload {
 public:
  std::uint64_t run(Role role, std::uint64_t count) override {
    Line& there = lines_[block_ % kLinePairs * 2];
    Line& back = lines_[block_ % kLinePairs * 2 + 1];
    ++block_;
    const std::uint64_t first = there_base_ + 1;
    there_base_ += count;
    for (std::uint64_t i = first; i < first + count; ++i) {
      if (role == Role::kLead) there.value.store(i, kRelease);
      const std::atomic<std::uint64_t>& awaited = role == Role::kLead ? back.value : there.value;
      while (awaited.load(kAcquire) != i) pause();
      if (role == Role::kFollow) back.value.store(i, kRelease);
    }
    return count;
  }

 private:
  static constexpr std::size_t kLinePairs = 32;
  SharedMemory<Line> lines_{2 * kLinePairs};
  std::uint64_t block_ = 0;
  std::uint64_t there_base_ = 0;  // the same in both processes: they run the same blocks
};

void check(int result, const char* call) {
  if (result != 0) throw std::system_error(errno, std::generic_category(), call);
}

class SemaphoreRoundTrip : public Workload {
 public:
  SemaphoreRoundTrip() {
    check(sem_init(&semaphores_->there, 1, 0), "sem_init");
    check(sem_init(&semaphores_->back, 1, 0), "sem_init");
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (role == Role::kFollow) sleep_on(semaphores_->there);
      Settle::wait();
      sem_post(role == Role::kLead ? &semaphores_->there : &semaphores_->back);
      if (role == Role::kLead) sleep_on(semaphores_->back);
    }
    return count;
  }

  double uncounted_seconds() const override { return Settle::seconds_per_round_trip(); }

 private:
  struct Semaphores {
    alignas(128) sem_t there;
    alignas(128) sem_t back;
  };
  SharedMemory<Semaphores> semaphores_;
};

class SocketRoundTrip : public Workload {
 public:
  SocketRoundTrip() { check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends_), "socketpair"); }
  ~SocketRoundTrip() override {
    close(ends_[0]);
    close(ends_[1]);
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    const int end = ends_[role == Role::kLead ? 0 : 1];
    for (std::uint64_t i = 0; i < count; ++i) {
      if (role == Role::kLead) send_byte(end);
      receive_byte(end);
      if (role == Role::kFollow) send_byte(end);
    }
    return count;
  }

 private:
  static void send_byte(int end) {
    if (send(end, "", 1, MSG_NOSIGNAL) != 1) throw std::system_error(errno, std::generic_category(), "send");
  }
  static void receive_byte(int end) {
    char byte = 0;
    while (recv(end, &byte, 1, 0) != 1)
      if (errno != EAGAIN) throw std::system_error(errno, std::generic_category(), "recv");
  }

  int ends_[2] = {-1, -1};
};

// A full ring shows in the consumer's cursor, which the producer reads only then; an empty one in the sequence number
// of the next slot. The payload of message p is p, p + 1, p + 2, p + 3.
class BareRing : public Workload {
 public:
  // Requires: `slots` is a power of two.
  BareRing(std::size_t slots, std::size_t batch) : mask_(slots - 1), batch_(batch), ring_(slots) {}

  std::uint64_t run(Role role, std::uint64_t count) override {
    if (role == Role::kLead)
      produce(position_ + count);
    else
      consume(position_ + count);
    return count;
  }

 private:
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> sequence;  // position + 1
    std::atomic<std::uint64_t> words[7];
  };

  // Works on copies of its members: the compiler may keep them in registers.
  void produce(std::uint64_t end) {
    Slot* const ring = &ring_[0];
    const std::atomic<std::uint64_t>& cursor = cursor_->value;
    const std::uint64_t mask = mask_;
    const std::uint64_t batch = batch_;
    std::uint64_t position = position_;
    std::uint64_t limit = limit_;
    while (position < end) {
      while (position == limit) {
        limit = cursor.load(kAcquire) + mask + 1;
        if (position == limit) pause();
      }
      const std::uint64_t part = std::min({batch, end - position, limit - position});
      for (const std::uint64_t until = position + part; position < until; ++position) {
        Slot& slot = ring[position & mask];
        for (std::uint64_t i = 0; i < kWords; ++i) slot.words[i].store(position + i, kRelaxed);
        slot.sequence.store(position + 1, kRelease);
      }
    }
    position_ = position;
    limit_ = limit;
  }

  void consume(std::uint64_t end) {
    const Slot* const ring = &ring_[0];
    std::atomic<std::uint64_t>& cursor = cursor_->value;
    const std::uint64_t mask = mask_;
    const std::uint64_t batch = batch_;
    std::uint64_t position = position_;
    while (position < end) {
      const std::uint64_t before = position;
      const std::uint64_t most = std::min(end, position + batch);
      while (position < most && take(ring[position & mask], position)) ++position;
      if (position == before)
        pause();
      else
        cursor.store(position, kRelease);
    }
    position_ = position;
  }

  static bool take(const Slot& slot, std::uint64_t position) {
    if (slot.sequence.load(kAcquire) != position + 1) return false;
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < kWords; ++i) sum += slot.words[i].load(kRelaxed);
    require(sum == kWords * position + kWords * (kWords - 1) / 2, "the bare ring handed over a wrong message");
    return true;
  }

  static constexpr std::uint64_t kWords = 4;
  std::uint64_t mask_;
  std::uint64_t batch_;
  SharedMemory<Slot> ring_;
  SharedMemory<Line> cursor_;
  std::uint64_t position_ = 0;
  std::uint64_t limit_ = mask_ + 1;
};

class WakeSemaphores : public Workload {
 public:
  explicit WakeSemaphores(std::uint32_t sleepers) : sleepers_(sleepers), bells_(sleepers), rounds_(sleepers) {
    for (std::uint32_t i = 0; i < sleepers_; ++i) check(sem_init(&bells_[i].semaphore, 1, 0), "sem_init");
  }

  void open(Role role) override {
    if (role == Role::kFollow) return;
    attendants_.start(sleepers_, [this](std::uint32_t index) {
      attendants_.arrived();
      while (true) {
        sleep_on(bells_[index].semaphore);
        rounds_.woken();
      }
    });
    attendants_.await_all();
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    if (role == Role::kLead)
      rounds_.run(count, [this] {
        for (std::uint32_t k = 0; k < sleepers_; ++k) sem_post(&bells_[k].semaphore);
      });
    return count;
  }

  double uncounted_seconds() const override { return rounds_.uncounted_seconds(); }

 private:
  struct alignas(128) Bell {
    sem_t semaphore;
  };

  std::uint32_t sleepers_;
  SharedMemory<Bell> bells_;
  Attendants attendants_;
  WakeRounds rounds_;
};

class WarmMemcpy : public Workload {
 public:
  explicit WarmMemcpy(std::size_t bytes) : bytes_(bytes), target_(bytes) {}

  void open(Role role) override {
    if (role == Role::kLead) source_.assign(bytes_, 1);
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
  void write() {
    std::memcpy(source_.data(), &round_, sizeof round_);
    std::memcpy(source_.data() + bytes_ - sizeof round_, &round_, sizeof round_);
    std::memcpy(&target_[0], source_.data(), bytes_);
    filled_->value.store(round_, kRelease);
    while (emptied_->value.load(kAcquire) != round_) pause();
  }

  void read() {
    while (filled_->value.load(kAcquire) != round_) pause();
    std::uint64_t ends[2];
    std::memcpy(&ends[0], &target_[0], sizeof ends[0]);
    std::memcpy(&ends[1], &target_[bytes_ - sizeof ends[1]], sizeof ends[1]);
    require(ends[0] == round_ && ends[1] == round_, "the copied bytes are wrong");
    emptied_->value.store(round_, kRelease);
  }

  std::size_t bytes_;
  SharedMemory<unsigned char> target_;
  std::vector<unsigned char> source_;
  SharedMemory<Line> filled_;
  SharedMemory<Line> emptied_;
  std::uint64_t round_ = 0;
};

}  // namespace

std::unique_ptr<Workload> cache_line_round_trip() { return std::make_unique<CacheLineRoundTrip>(); }
std::unique_ptr<Workload> semaphore_round_trip() { return std::make_unique<SemaphoreRoundTrip>(); }
std::unique_ptr<Workload> socket_round_trip() { return std::make_unique<SocketRoundTrip>(); }
std::unique_ptr<Workload> bare_ring(std::size_t slots, std::size_t batch) {
  return std::make_unique<BareRing>(slots, batch);
}
std::unique_ptr<Workload> warm_memcpy(std::size_t bytes) { return std::make_unique<WarmMemcpy>(bytes); }
std::unique_ptr<Workload> wake_semaphores(std::uint32_t sleepers) { return std::make_unique<WakeSemaphores>(sleepers); }

}  // namespace holdfast::bench
