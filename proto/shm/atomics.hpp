// SPDX-License-Identifier: MIT
//
// The atomics policy: the one door to shared words.
//
// Algorithms in proto/shm are templates over a policy `A`. NativeAtomics is what ships: each call becomes the
// instruction that its site (sites.hpp) asks for. Model tests give a policy that schedules every access, crash
// tests one that kills the process behind a chosen site. Words are plain integers in the layout structs, so that
// a layout never depends on the policy.
//
// Two fences have a light and a heavy form. `light_fence` orders only the compiler: its partner on the rare side
// executes `heavy_fence`, a membarrier that interrupts every registered process (or a full fence where membarrier
// is not to be had: then `Fences::full` is set on both sides and the light form is a full fence, too).
#pragma once

#include <cstdint>

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/shm/sites.hpp"

namespace holdfast::shm {

#if defined(__SANITIZE_THREAD__)
#define HOLDFAST_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HOLDFAST_UNDER_TSAN 1
#endif
#endif

constexpr int builtin_order(Order order) {
  switch (order) {
    case Order::kRelaxed:
      return __ATOMIC_RELAXED;
    case Order::kAcquire:
      return __ATOMIC_ACQUIRE;
    case Order::kRelease:
      return __ATOMIC_RELEASE;
    case Order::kAcqRel:
      return __ATOMIC_ACQ_REL;
    case Order::kSeqCst:
      return __ATOMIC_SEQ_CST;
  }
  return __ATOMIC_SEQ_CST;
}

template <At kAt>
inline constexpr int kBuiltinOrder = builtin_order(site(kAt).order);

struct NativeAtomics {
  template <At kAt, class T>
  static T load(const T& word) {
    static_assert(site(kAt).access == Access::kLoad);
    return __atomic_load_n(&word, kBuiltinOrder<kAt>);
  }

  template <At kAt, class T>
  static void store(T& word, T value) {
    static_assert(site(kAt).access == Access::kStore);
    __atomic_store_n(&word, value, kBuiltinOrder<kAt>);
  }

#if defined(__x86_64__) && !defined(HOLDFAST_UNDER_TSAN)
  // Two neighbours in one instruction: a publisher runs ahead of the lines that it waits for as far as the CPU's store
  // buffer goes, and that counts stores. Each half is whole, and stores stay in order, as always on x86.
  static void store_two(std::uint64_t (&words)[2], std::uint64_t first, std::uint64_t second) {
    using Two = std::uint64_t __attribute__((vector_size(16)));
    __asm__ __volatile__("movaps %1, %0" : "=m"(words) : "x"(Two{first, second}));
  }
  static void load_two(const std::uint64_t (&words)[2], std::uint64_t& first, std::uint64_t& second) {
    using Two = std::uint64_t __attribute__((vector_size(16)));
    Two both;
    __asm__ __volatile__("movaps %1, %0" : "=x"(both) : "m"(words));
    first = both[0];
    second = both[1];
  }
#endif

  template <At kAt, class T>
  static T exchange(T& word, T value) {
    static_assert(site(kAt).access == Access::kExchange);
    return __atomic_exchange_n(&word, value, kBuiltinOrder<kAt>);
  }

  template <At kAt, class T>
  static T fetch_or(T& word, T bits) {
    static_assert(site(kAt).access == Access::kExchange);
    return __atomic_fetch_or(&word, bits, kBuiltinOrder<kAt>);
  }

  // Stores `desired` if the word still holds `expected`; says whether it did.
  template <At kAt, class T>
  static bool compare_exchange(T& word, T expected, T desired) {
    static_assert(site(kAt).access == Access::kExchange);
    return __atomic_compare_exchange_n(&word, &expected, desired, false, kBuiltinOrder<kAt>, __ATOMIC_RELAXED);
  }

  // Store, then a full fence. On x86 an exchange is both, at a third of the price.
  template <At kStore, At kFence, class T>
  static void store_full(T& word, T value) {
#if defined(__x86_64__)
    __atomic_exchange_n(&word, value, __ATOMIC_SEQ_CST);
#else
    __atomic_store_n(&word, value, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
  }

  // Eight pin bytes at once, in memory order: byte i of the result is byte i of the word's memory.
  template <At kAt>
  static std::uint64_t load_bytes8(const std::uint8_t* bytes) {
#if defined(HOLDFAST_UNDER_TSAN)
    // The thread sanitizer pairs a release store with an acquire load of the same address and width only.
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i)
      word |= static_cast<std::uint64_t>(__atomic_load_n(bytes + i, kBuiltinOrder<kAt>)) << (8 * i);
    return word;
#else
    return __atomic_load_n(reinterpret_cast<const std::uint64_t*>(bytes), kBuiltinOrder<kAt>);
#endif
  }

  template <At kAt>
  static void fence() {
    static_assert(site(kAt).access == Access::kFence);
#if defined(__x86_64__)
    if constexpr (site(kAt).order == Order::kSeqCst) {
      // A locked instruction on the own stack: a full fence like mfence, and faster.
      std::uint64_t here = 0;
      __asm__ __volatile__("lock; orq $0, %0" : "+m"(here)::"memory", "cc");
      return;
    }
#endif
#if defined(HOLDFAST_UNDER_TSAN) && !defined(__clang__)
    __asm__ __volatile__("" ::: "memory");
#else
    __atomic_thread_fence(kBuiltinOrder<kAt>);
#endif
  }

  // A fence that callers need no stack frame for.
  template <At kAt>
  [[gnu::noinline, gnu::cold]] static void slow_fence() {
    fence<kAt>();
  }

  // The frequent side of an announce–check pair: orders the compiler alone, unless a partner lacks membarrier.
  template <At kAt>
  static void light_fence(bool full) {
    __asm__ __volatile__("" ::: "memory");
    if (full) [[unlikely]]
      slow_fence<kAt>();
  }

  // The rare side. Requires: registered with `register_membarrier`, or every partner uses full fences.
  template <At kAt>
  static void heavy_fence() {
    fence<kAt>();
    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
  }

  // Called between two steps that are not accesses to a shared word, such as a posted semaphore.
  template <At kAt>
  static void step() {}
};

// Stores two words that are neighbours and 16-byte aligned, each relaxed, in any order. Requires: no order is asked for at
// kSecond; the one at kFirst is kept only towards what was stored before the call.
template <class A, At kFirst, At kSecond>
inline void store_two(std::uint64_t& first_word, std::uint64_t& second_word, std::uint64_t first,
                      std::uint64_t second) {
  static_assert(site(kFirst).access == Access::kStore && site(kSecond).order == Order::kRelaxed);
  if constexpr (requires(std::uint64_t(&words)[2]) { A::store_two(words, first, second); }) {
    A::store_two(reinterpret_cast<std::uint64_t(&)[2]>(first_word), first, second);
  } else {
    A::template store<kFirst>(first_word, first);
    A::template store<kSecond>(second_word, second);
  }
}

// Loads two words that are neighbours and 16-byte aligned, each relaxed, in any order.
template <class A, At kAt>
inline void load_two(const std::uint64_t& first_word, const std::uint64_t& second_word, std::uint64_t& first,
                     std::uint64_t& second) {
  static_assert(site(kAt).access == Access::kLoad && site(kAt).order == Order::kRelaxed);
  if constexpr (requires(const std::uint64_t(&words)[2]) { A::load_two(words, first, second); }) {
    A::load_two(reinterpret_cast<const std::uint64_t(&)[2]>(first_word), first, second);
  } else {
    first = A::template load<kAt>(first_word);
    second = A::template load<kAt>(second_word);
  }
}

// Registers this process for global expedited membarriers. Returns false where the kernel or a system-call filter
// refuses: then this process says so to the broker, and its partners use full fences.
inline bool register_membarrier() {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0 &&
         syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

}  // namespace holdfast::shm
