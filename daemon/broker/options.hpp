// SPDX-License-Identifier: MIT
//
// Topic options: what a topic has, what a client asks for, and whether the two fit.
//
// Options come from who opens first. Later ones may leave an option out, which accepts what is there; what they name
// must be equal, else `mismatch` with a sentence that names both sides.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "daemon/broker/refusal.hpp"
#include "proto/shm/lane_layout.hpp"

namespace holdfast::broker {

class Params;

enum class Clock : std::uint8_t { kNone, kCoarse, kExact };
enum class Backing : std::uint8_t { kAuto, kNamed, kSealed };

const char* name_of(Clock clock);
const char* name_of(Backing backing);

struct TopicOptions {
  std::uint32_t ring = shm::kRingSlotsDefault;
  std::uint32_t chunks_max = shm::kChunksDefault;
  Clock clock = Clock::kNone;
  bool exclusive = false;
  Backing backing = Backing::kAuto;
  std::uint32_t depth = 1;
  std::int64_t linger_ms = 30'000;         // negative: for ever
  std::int64_t stall_timeout_ms = 10'000;  // negative: never
};

// Of one element; no name: untyped.
struct TopicType {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t align = 0;
  std::string hash;  // 16 hex digits, or empty
};

struct AskedOptions {
  std::optional<std::uint32_t> ring;
  std::optional<std::uint32_t> chunks_max;
  std::optional<Clock> clock;
  std::optional<bool> exclusive;
  std::optional<Backing> backing;
  std::optional<std::uint32_t> depth;
  std::optional<std::int64_t> linger_ms;
  std::optional<std::int64_t> stall_timeout_ms;
  std::optional<std::uint64_t> bytes_max;  // of this publisher's lane, no option of the topic
  std::optional<TopicType> type;

  // Does this settle the options of a topic that has none yet?
  bool names_any() const;
};

// Reads `options` of a request. A wrong one is recorded in `params`.
AskedOptions read_options(Params& options);
std::optional<TopicType> read_type(Params& params);

// The options of a topic that is opened with these first.
[[nodiscard]] std::optional<Refusal> settle(const AskedOptions& asked, TopicOptions& options);

// Do these fit a topic that has its options? `type` is the topic's, settled by the first who names one.
[[nodiscard]] std::optional<Refusal> fit(const AskedOptions& asked, const std::string& topic,
                                         const TopicOptions& options, const TopicType& type);

nlohmann::json type_json(const TopicType& type);
nlohmann::json options_json(const TopicOptions& options, const TopicType& type);

}  // namespace holdfast::broker
