// SPDX-License-Identifier: MIT
//
// An atomics policy for tests in one thread: what ships, plus a hook before and after each access. A test lets another
// party run, or lets this one die, between any two steps of an algorithm, and sees the order of its accesses.
//
// The other party uses NativeAtomics, so that a hook is never entered from itself. Fences cost nothing here: in one
// thread each access is seen at once, so what these tests show holds for sequentially consistent machines. The orders
// themselves are the model tests' concern.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "proto/shm/atomics.hpp"

namespace holdfast::shm {

struct HookAtomics {
  static inline std::function<void(At)> before;
  static inline std::function<void(At)> after;

  template <At kAt, class T>
  static T load(const T& word) {
    enter(kAt);
    const T value = NativeAtomics::load<kAt>(word);
    leave(kAt);
    return value;
  }

  template <At kAt, class T>
  static void store(T& word, T value) {
    enter(kAt);
    NativeAtomics::store<kAt>(word, value);
    leave(kAt);
  }

  template <At kAt, class T>
  static T exchange(T& word, T value) {
    enter(kAt);
    const T old = NativeAtomics::exchange<kAt>(word, value);
    leave(kAt);
    return old;
  }

  template <At kAt, class T>
  static T fetch_or(T& word, T bits) {
    enter(kAt);
    const T old = NativeAtomics::fetch_or<kAt>(word, bits);
    leave(kAt);
    return old;
  }

  template <At kAt, class T>
  static bool compare_exchange(T& word, T expected, T desired) {
    enter(kAt);
    const bool done = NativeAtomics::compare_exchange<kAt>(word, expected, desired);
    leave(kAt);
    return done;
  }

  template <At kStore, At kFence, class T>
  static void store_full(T& word, T value) {
    store<kStore>(word, value);
    fence<kFence>();
  }

  template <At kAt>
  static std::uint64_t load_bytes8(const std::uint8_t* bytes) {
    enter(kAt);
    const std::uint64_t word = NativeAtomics::load_bytes8<kAt>(bytes);
    leave(kAt);
    return word;
  }

  template <At kAt>
  static void fence() {
    enter(kAt);
    leave(kAt);
  }

  template <At kAt>
  static void light_fence(bool) {
    fence<kAt>();
  }

  template <At kAt>
  static void heavy_fence() {
    fence<kAt>();
  }

  template <At kAt>
  static void step() {
    fence<kAt>();
  }

 private:
  static void enter(At at) {
    if (before) before(at);
  }
  static void leave(At at) {
    if (after) after(at);
  }
};

// The party died here: thrown by a hook through the algorithm, whose private state is then lost like that of a process.
struct Died {};

// While it lives, runs `action` once: behind the step-th access, or behind the step-th access of one site.
class AtStep {
 public:
  AtStep(std::size_t step, std::function<void()> action) : AtStep(step, At::kCount, std::move(action)) {}
  AtStep(std::size_t step, At only, std::function<void()> action)
      : left_(step),
        only_(only),
        action_(std::move(action)) {
    HookAtomics::after = [this](At at) { pass(at); };
  }
  AtStep(const AtStep&) = delete;
  AtStep& operator=(const AtStep&) = delete;
  ~AtStep() { HookAtomics::after = nullptr; }

  bool reached() const { return reached_; }
  At where() const { return where_; }

 private:
  void pass(At at) {
    if (reached_ || (only_ != At::kCount && only_ != at) || left_-- > 0) return;
    reached_ = true;
    where_ = at;
    action_();
  }

  std::size_t left_;
  At only_;
  std::function<void()> action_;
  bool reached_ = false;
  At where_ = At::kCount;
};

// Runs scenario(step) for step 0, 1, … as long as it says that the step was reached. Returns how many there are.
template <class Scenario>
std::size_t for_every_step(Scenario&& scenario) {
  constexpr std::size_t kStepsMax = 10'000;
  std::size_t step = 0;
  while (step < kStepsMax && scenario(step)) ++step;
  return step;
}

// While it lives, notes the sites that are passed.
class Trace {
 public:
  Trace() {
    HookAtomics::after = [this](At at) { sites_.push_back(at); };
  }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;
  ~Trace() { HookAtomics::after = nullptr; }

  const std::vector<At>& sites() const { return sites_; }
  std::size_t count(At at) const {
    std::size_t count = 0;
    for (const At site : sites_) count += site == at ? 1 : 0;
    return count;
  }

 private:
  std::vector<At> sites_;
};

}  // namespace holdfast::shm
