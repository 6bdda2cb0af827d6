// SPDX-License-Identifier: MIT
#include "client/src/options.hpp"

#include <array>
#include <cstdio>

#include <xxhash.h>

#include "client/src/failure.hpp"
#include "client/src/json_fields.hpp"
#include "proto/shm/lane_layout.hpp"

namespace holdfast::client {

namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::array<const char*, 4> kClocks = {"", "none", "coarse", "exact"};
constexpr std::array<const char*, 3> kBackings = {"", "named", "sealed"};

int out_of_range(const char* option, std::int64_t value, const char* range) {
  return fail(HF_E_INVALID, std::string(option) + " is " + std::to_string(value) + ", it must be " + range);
}

// Milliseconds, at least 1 for what is not 0; -1 for ever.
std::int64_t milliseconds(std::int64_t ns) {
  return ns < 0 ? -1 : ns / kMillisecond + (ns % kMillisecond != 0 ? 1 : 0);
}

}  // namespace

int bad_struct_size(const char* name, std::size_t given, std::size_t known) {
  return fail(HF_E_INVALID, std::string(name) + ".struct_size is " + std::to_string(given) + ", this library knows " +
                                std::to_string(known) + "; set it to sizeof, and fill only members that it knows");
}

int encode_type(const hf_type& type, nlohmann::json& encoded) {
  if (type.name == nullptr || *type.name == '\0') return fail(HF_E_INVALID, "type.name is empty");
  // On its way to the broker what is no UTF-8 would be replaced, and become another name.
  const std::string sent = nlohmann::json(type.name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (nlohmann::json::parse(sent) != type.name) return fail(HF_E_INVALID, "type.name " + sent + " is not UTF-8");
  const std::uint64_t hash = type.hash != 0 ? type.hash : XXH3_64bits(type.name, std::strlen(type.name));
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(hash));
  encoded = {{"name", type.name}, {"bytes", type.bytes}, {"align", type.align}, {"hash", hex}};
  return HF_OK;
}

int encode_options(const hf_publisher_options& options, nlohmann::json& params) {
  nlohmann::json encoded = nlohmann::json::object();
  if (options.ring_slots != 0) {
    if (!shm::is_power_of_two(options.ring_slots) || options.ring_slots < shm::kRingSlotsMin ||
        options.ring_slots > shm::kRingSlotsMax)
      return out_of_range("ring_slots", options.ring_slots, "a power of two from 8 to 1048576");
    encoded["ring"] = options.ring_slots;
  }
  if (options.chunks_max != 0) {
    if (options.chunks_max % 64 != 0 || options.chunks_max > shm::kChunksMax)
      return out_of_range("chunks_max", options.chunks_max, "a multiple of 64 from 64 to 65536");
    encoded["chunks_max"] = options.chunks_max;
  }
  if (options.clock < 0 || options.clock >= static_cast<int>(kClocks.size()))
    return out_of_range("clock", options.clock, "one of HF_CLOCK_*");
  if (options.clock != HF_CLOCK_UNSET) encoded["clock"] = kClocks[static_cast<std::size_t>(options.clock)];
  if (options.backing < 0 || options.backing >= static_cast<int>(kBackings.size()))
    return out_of_range("backing", options.backing, "one of HF_BACKING_*");
  if (options.backing != HF_BACKING_UNSET) encoded["backing"] = kBackings[static_cast<std::size_t>(options.backing)];
  if (options.exclusive < 0 || options.exclusive > 2)
    return out_of_range("exclusive", options.exclusive, "0 (as the topic), 1 (exclusive) or 2 (shared)");
  if (options.huge_pages != 0 && options.huge_pages != 1)
    return out_of_range("huge_pages", options.huge_pages, "0 or 1");
  if (options.exclusive != 0) encoded["exclusive"] = options.exclusive == 1;
  if (options.depth != 0) encoded["depth"] = options.depth;
  if (options.linger_ns != 0) encoded["linger_ms"] = milliseconds(options.linger_ns);
  if (options.stall_timeout_ns != 0) encoded["stall_timeout_ms"] = milliseconds(options.stall_timeout_ns);
  if (options.bytes_max != 0) encoded["bytes_max"] = options.bytes_max;
  if (options.type != nullptr)
    if (const int result = encode_type(*options.type, encoded["type"]); result != HF_OK) return result;
  params["options"] = std::move(encoded);
  return HF_OK;
}

int encode_options(const hf_subscriber_options& options, nlohmann::json& params) {
  if (options.delivery != HF_DROP_OLDEST && options.delivery != HF_LOSSLESS)
    return out_of_range("delivery", options.delivery, "HF_DROP_OLDEST or HF_LOSSLESS");
  constexpr std::array<const char*, 3> kStarts = {"next", "latest", "oldest"};
  if (options.start < 0 || options.start >= static_cast<int>(kStarts.size()))
    return out_of_range("start", options.start, "one of HF_START_*");
  params["delivery"] = options.delivery == HF_LOSSLESS ? "lossless" : "drop_oldest";
  params["start"] = kStarts[static_cast<std::size_t>(options.start)];
  if (options.type != nullptr) return encode_type(*options.type, params["type"]);
  return HF_OK;
}

int decode_clock(const std::string& clock) {
  for (std::size_t i = 1; i < kClocks.size(); ++i)
    if (clock == kClocks[i]) return static_cast<int>(i);
  return HF_CLOCK_NONE;
}

std::int64_t decode_stall_timeout_ns(const nlohmann::json& topic) {
  const auto at = topic.find("stall_timeout_ms");
  if (at == topic.end() || !at->is_number_integer()) return -1;
  const auto ms = at->get<std::int64_t>();
  return ms < 0 || ms > INT64_MAX / kMillisecond ? -1 : ms * kMillisecond;
}

}  // namespace holdfast::client
