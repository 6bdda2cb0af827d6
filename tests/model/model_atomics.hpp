// SPDX-License-Identifier: MIT
//
// The atomics policy of model tests: every access of the shipping code goes through the scheduler and the machine.
#pragma once

#include <cstdint>

#include "proto/shm/sites.hpp"
#include "tests/model/run.hpp"

namespace holdfast::model {

struct ModelAtomics {
  template <shm::At kAt, class T>
  static T load(const T& word) {
    yield(kAt);
    return static_cast<T>(machine().load(self(), &word, static_cast<std::uint64_t>(word), order_of(kAt)));
  }

  template <shm::At kAt, class T>
  static void store(T& word, T value) {
    yield(kAt);
    machine().store(self(), &word, static_cast<std::uint64_t>(word), static_cast<std::uint64_t>(value), order_of(kAt));
  }

  template <shm::At kAt, class T>
  static T exchange(T& word, T value) {
    yield(kAt);
    return static_cast<T>(machine().modify(self(), &word, static_cast<std::uint64_t>(word), order_of(kAt),
                                           [&](std::uint64_t, std::uint64_t& fresh) {
                                             fresh = static_cast<std::uint64_t>(value);
                                             return true;
                                           }));
  }

  template <shm::At kAt, class T>
  static T fetch_or(T& word, T bits) {
    yield(kAt);
    return static_cast<T>(machine().modify(self(), &word, static_cast<std::uint64_t>(word), order_of(kAt),
                                           [&](std::uint64_t old, std::uint64_t& fresh) {
                                             fresh = old | static_cast<std::uint64_t>(bits);
                                             return true;
                                           }));
  }

  template <shm::At kAt, class T>
  static bool compare_exchange(T& word, T expected, T desired) {
    yield(kAt);
    bool swapped = false;
    machine().modify(self(), &word, static_cast<std::uint64_t>(word), order_of(kAt),
                     [&](std::uint64_t old, std::uint64_t& fresh) {
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

  template <shm::At kAt>
  static std::uint64_t load_bytes8(const std::uint8_t* bytes) {
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word |= std::uint64_t{load<kAt>(bytes[i])} << (8 * i);
    return word;
  }

  template <shm::At kAt>
  static void fence() {
    yield(kAt);
    if (!left_out(kAt)) machine().fence(self(), shm::site(kAt).order);
  }

  template <shm::At kAt>
  static void light_fence(bool full) {
    if (full) fence<kAt>();
  }

  template <shm::At kAt>
  static void heavy_fence() {
    yield(kAt);
    if (!left_out(kAt)) machine().membarrier(self());
  }

  template <shm::At kAt>
  static void step() {
    yield(kAt);
  }
};

// Payload, which users read and write as they like.
inline std::uint64_t read_payload(const std::uint64_t& word) {
  yield(shm::At::kTakeField);
  std::uint64_t value = 0;
  require(machine().plain_load(self(), &word, word, value), "a view is read while its chunk is written");
  return value;
}
inline void write_payload(std::uint64_t& word, std::uint64_t value) {
  yield(shm::At::kPublishField);
  require(machine().plain_store(self(), &word, word, value), "a chunk is written while a view of it is read");
}

}  // namespace holdfast::model
