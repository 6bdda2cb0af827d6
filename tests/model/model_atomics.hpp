// SPDX-License-Identifier: MIT
//
// The atomics policy of model tests: every access of the shipping code goes through the scheduler and the machine, and
// through the one change that a mutant makes.
#pragma once

#include <cstdint>

#include "proto/shm/bells_layout.hpp"
#include "proto/shm/sites.hpp"
#include "tests/model/run.hpp"

namespace holdfast::model {

struct ModelAtomics {
  template <shm::At kAt, class T>
  static T load(const T& word) {
    yield(kAt);
    return load_now<kAt>(word);
  }

  template <shm::At kAt, class T>
  static void store(T& word, T value) {
    // Zeroing what is zero is no event that anybody could notice.
    if (kAt == shm::At::kRecordZero &&
        machine().newest(&word, static_cast<std::uint64_t>(word)) == static_cast<std::uint64_t>(value))
      return;
    yield(kAt);
    if (mutated(kAt, Change::kLate)) return postpone([&word, value] { store_now<kAt>(word, value); });
    store_now<kAt>(word, value);
  }

  template <shm::At kAt, class T>
  static T exchange(T& word, T value) {
    if (mutated(kAt, Change::kLate)) {
      const T old = load<kAt>(word);
      postpone([&word, value] { store_now<kAt>(word, value); });
      return old;
    }
    return static_cast<T>(modify<kAt>(word, [&](std::uint64_t, std::uint64_t& fresh) {
      fresh = static_cast<std::uint64_t>(value);
      return true;
    }));
  }

  template <shm::At kAt, class T>
  static T fetch_or(T& word, T bits) {
    const auto change = [bits](std::uint64_t old, std::uint64_t& fresh) {
      fresh = old | static_cast<std::uint64_t>(bits);
      return true;
    };
    if (mutated(kAt, Change::kLate)) {
      postpone([&word, change] { modify<kAt>(word, change); });
      return T{0};
    }
    return static_cast<T>(modify<kAt>(word, change));
  }

  template <shm::At kAt, class T>
  static bool compare_exchange(T& word, T expected, T desired) {
    bool swapped = false;
    modify<kAt>(word, [&](std::uint64_t old, std::uint64_t& fresh) {
      swapped = old == static_cast<std::uint64_t>(expected);
      fresh = static_cast<std::uint64_t>(desired);
      return swapped;
    });
    return swapped;
  }

  template <shm::At kStore, shm::At kFence, class T>
  static void store_full(T& word, T value) {
    store<kStore>(word, value);
    fence<kFence>();
  }

  // One access, as it is one instruction; each byte may be as old as it likes.
  template <shm::At kAt>
  static std::uint64_t load_bytes8(const std::uint8_t* bytes) {
    yield(kAt);
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word |= std::uint64_t{load_now<kAt>(bytes[i])} << (8 * i);
    return word;
  }

  template <shm::At kAt>
  static void fence() {
    yield(kAt);
    if (!mutated(kAt, Change::kNoFence)) fence_now<kAt>();
  }

  template <shm::At kAt>
  static void light_fence(bool full) {
    if (full) return fence<kAt>();
    visited().set(static_cast<std::size_t>(kAt));
    if (!mutated(kAt, Change::kNoLightFence)) return machine().unhide(self());
    yield(kAt);
    machine().hide(self());
  }

  template <shm::At kAt>
  static void heavy_fence() {
    yield(kAt);
    if (mutated(kAt, Change::kNoHeavyFence)) return;
    if (!registered() || mutated(kAt, Change::kOwnHeavyFence)) return fence_now<kAt>();
    note(kAt, "membarrier", 0);
    machine().membarrier(self());
    arrived(kAt);
  }

  template <shm::At kAt>
  static void step() {
    yield(kAt);
    arrived(kAt);
  }

 private:
  template <shm::At kAt, class T>
  static T load_now(const T& word) {
    const std::uint64_t value = machine().load(self(), &word, static_cast<std::uint64_t>(word), order_of(kAt));
    note(kAt, "=", value);
    arrived(kAt);
    return static_cast<T>(value);
  }

  template <shm::At kAt, class T>
  static void store_now(T& word, T value) {
    note(kAt, ":=", static_cast<std::uint64_t>(value));
    machine().store(self(), &word, static_cast<std::uint64_t>(word), static_cast<std::uint64_t>(value), order_of(kAt));
    arrived(kAt);
  }

  template <shm::At kAt>
  static void fence_now() {
    note(kAt, "fence", 0);
    machine().fence(self(), shm::site(kAt).order);
    arrived(kAt);
  }

  template <shm::At kAt, class T, class Change_>
  static std::uint64_t modify(T& word, Change_&& change) {
    std::uint64_t old = 0;
    if (mutated(kAt, Change::kSplit)) {
      old = static_cast<std::uint64_t>(load<kAt>(word));
      std::uint64_t fresh = old;
      yield(kAt);
      if (change(old, fresh)) store_now<kAt>(word, static_cast<T>(fresh));
      return old;
    }
    yield(kAt);
    std::uint64_t fresh = 0;
    bool changed = false;
    old = machine().modify(self(), &word, static_cast<std::uint64_t>(word), order_of(kAt),
                           [&](std::uint64_t was, std::uint64_t& becomes) {
                             changed = change(was, becomes);
                             fresh = becomes;
                             return changed;
                           });
    note(kAt, changed ? "exchanged for" : "kept", changed ? fresh : old);
    arrived(kAt);
    return old;
  }
};

// What a bell sounds with. `armed` and the rest of the bell are the product's.
struct ModelSound {
  static void post(shm::Bell& bell) {
    auto& semaphore = *reinterpret_cast<std::uint64_t*>(bell.semaphore_room);
    if (mutated(shm::At::kRingPost, Change::kLate)) return postpone([&semaphore] { model::post(semaphore); });
    model::post(semaphore);
  }
  static void drain(shm::Bell& bell) { model::drain(*reinterpret_cast<std::uint64_t*>(bell.semaphore_room)); }
  static void sleep(shm::Bell& bell) { sleep_on(*reinterpret_cast<std::uint64_t*>(bell.semaphore_room)); }
};

// Payload, which users read and write as they like.
inline std::uint64_t read_payload(const std::uint64_t& word) {
  yield(shm::At::kTakeField);
  std::uint64_t value = 0;
  require(machine().plain_load(self(), &word, word, value), "a view is read while its chunk is written");
  note(shm::At::kTakeField, "payload =", value);
  return value;
}
inline void write_payload(std::uint64_t& word, std::uint64_t value) {
  yield(shm::At::kPublishField);
  require(machine().plain_store(self(), &word, word, value), "a chunk is written while a view of it is read");
  note(shm::At::kPublishField, "payload :=", value);
}

}  // namespace holdfast::model
