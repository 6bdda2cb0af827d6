// SPDX-License-Identifier: MIT
//
// Payloads that say whether they are whole: each byte follows from a seed, and the seed travels as the sample's tag.
#pragma once

#include <cstdint>
#include <cstring>
#include <ostream>

#include "holdfast/holdfast.hpp"

namespace holdfast {
inline namespace v1 {
// So that a failed comparison names the status.
inline void PrintTo(Status status, std::ostream* out) { *out << hf_result_name(static_cast<int>(status)); }
}  // namespace v1
}  // namespace holdfast

namespace holdfast::integration {

constexpr std::uint64_t kMiB = 1 << 20;

inline std::uint64_t payload_word(std::uint32_t seed, std::uint64_t index) {
  std::uint64_t x = (std::uint64_t{seed} << 32 | 0x9e3779b9) + index * 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  return x ^ (x >> 27);
}

inline void fill_payload(void* payload, std::uint64_t bytes, std::uint32_t seed) {
  auto* to = static_cast<unsigned char*>(payload);
  for (std::uint64_t i = 0; i * 8 < bytes; ++i) {
    const std::uint64_t word = payload_word(seed, i);
    std::memcpy(to + i * 8, &word, bytes - i * 8 < 8 ? bytes - i * 8 : 8);
  }
}

inline bool payload_matches(const void* payload, std::uint64_t bytes, std::uint32_t seed) {
  const auto* from = static_cast<const unsigned char*>(payload);
  for (std::uint64_t i = 0; i * 8 < bytes; ++i) {
    const std::uint64_t word = payload_word(seed, i);
    if (std::memcmp(from + i * 8, &word, bytes - i * 8 < 8 ? bytes - i * 8 : 8) != 0) return false;
  }
  return true;
}

// The tag is the seed.
inline bool sample_is_whole(const hf_view& view) { return payload_matches(hf_view_data(&view), view.bytes, view.type); }
inline bool sample_is_whole(View& view) { return sample_is_whole(view.c()); }

// Loans, fills and publishes.
inline Status publish_sample(Publisher& publisher, std::uint64_t bytes, std::uint32_t seed,
                             Timeout timeout = kForever) {
  Loan loan = publisher.loan_or_throw(bytes, 0, timeout);
  fill_payload(loan.data(), bytes, seed);
  loan.set_type(seed);
  return loan.publish(timeout).or_throw();
}

}  // namespace holdfast::integration
