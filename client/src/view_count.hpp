// SPDX-License-Identifier: MIT
//
// How many views of one lane are out, and who lets go last. The subscriber's thread takes and ends, any thread gives
// back; whoever is told that it was the last one deletes what the count is part of. One word decides, so that nobody
// looks at it again after its own view is given back: it may be gone by then.
#pragma once

#include <atomic>
#include <cstdint>

namespace holdfast::client {

class ViewCount {
 public:
  // The subscriber's thread.
  void take() { ++taken_; }
  std::uint64_t held() const { return static_cast<std::uint64_t>(taken_ + balance_.load(std::memory_order_relaxed)); }

  // Any thread, once per view. True: it was the last one, after end(). Each pairs with all the others, so that what any
  // thread did with its view happens before the deletion.
  [[nodiscard]] bool give_back() { return balance_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

  // The subscriber's thread, once: no view is taken any more. True: none is out.
  [[nodiscard]] bool end() {
    const std::int64_t taken = taken_;
    return balance_.fetch_add(taken, std::memory_order_acq_rel) == -taken;
  }

 private:
  std::int64_t taken_ = 0;
  // Until end(): minus how many were given back. From then on: how many are out.
  alignas(64) std::atomic<std::int64_t> balance_{0};
};

}  // namespace holdfast::client
