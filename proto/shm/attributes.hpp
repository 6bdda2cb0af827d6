// SPDX-License-Identifier: MIT
//
// Attributes: typed key–value pairs behind a sample's payload. The byte table is in docs/shm-layout.md.
//
//     kind u8 | key bytes u8 | reserved u16 = 0 | value bytes u32 | key | value        (little endian, not aligned)
//
// Six languages decode this, so it is flat, has no alignment, and nothing in it depends on what comes before.
// Decoding trusts nothing: every length is checked against what is left.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace holdfast::shm {

enum class AttributeKind : std::uint8_t {
  kBool = 1,
  kInt = 2,
  kFloat = 3,
  kString = 4,
  kBytes = 5,
  kTimestamp = 6,
  kBoolList = 17,
  kIntList = 18,
  kFloatList = 19,
  kStringList = 20,
  kEmptyList = 31,
};

struct Attribute {
  AttributeKind kind;
  std::string_view key;
  std::span<const std::uint8_t> value;
  std::uint32_t count;  // elements of a list, else 1
};

inline constexpr std::uint32_t kAttributeHeaderBytes = 8;

namespace detail {

inline std::uint32_t load_u32(const std::uint8_t* at) {
  return static_cast<std::uint32_t>(at[0]) | static_cast<std::uint32_t>(at[1]) << 8 |
         static_cast<std::uint32_t>(at[2]) << 16 | static_cast<std::uint32_t>(at[3]) << 24;
}

inline void store_u32(std::uint8_t* at, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

// Elements in a list of strings, or -1.
inline std::int64_t count_strings(std::span<const std::uint8_t> value) {
  std::int64_t count = 0;
  std::size_t at = 0;
  while (at < value.size()) {
    if (value.size() - at < 4) return -1;
    const std::uint32_t bytes = load_u32(value.data() + at);
    at += 4;
    if (value.size() - at < bytes) return -1;
    at += bytes;
    ++count;
  }
  return count;
}

// Elements of a value of this kind, or -1 if its bytes cannot be one.
inline std::int64_t count_elements(AttributeKind kind, std::span<const std::uint8_t> value) {
  const auto bytes = static_cast<std::int64_t>(value.size());
  switch (kind) {
    case AttributeKind::kBool:
      return bytes == 1 && value[0] <= 1 ? 1 : -1;
    case AttributeKind::kInt:
    case AttributeKind::kFloat:
    case AttributeKind::kTimestamp:
      return bytes == 8 ? 1 : -1;
    case AttributeKind::kString:
    case AttributeKind::kBytes:
      return 1;
    case AttributeKind::kBoolList:
      for (const std::uint8_t byte : value)
        if (byte > 1) return -1;
      return bytes;
    case AttributeKind::kIntList:
    case AttributeKind::kFloatList:
      return bytes % 8 == 0 ? bytes / 8 : -1;
    case AttributeKind::kStringList:
      return count_strings(value);
    case AttributeKind::kEmptyList:
      return bytes == 0 ? 0 : -1;
  }
  return -1;
}

}  // namespace detail

enum class AttributeResult { kOk, kEnd, kCorrupt };

// Decodes the attribute at `offset` and moves `offset` behind it.
inline AttributeResult next_attribute(std::span<const std::uint8_t> encoded, std::uint32_t& offset,
                                      Attribute& attribute) {
  if (offset == encoded.size()) return AttributeResult::kEnd;
  if (offset > encoded.size() || encoded.size() - offset < kAttributeHeaderBytes) return AttributeResult::kCorrupt;
  const std::uint8_t* at = encoded.data() + offset;
  const std::uint32_t key_bytes = at[1];
  const std::uint32_t value_bytes = detail::load_u32(at + 4);
  const std::uint64_t left = encoded.size() - offset - kAttributeHeaderBytes;
  if (key_bytes == 0 || at[2] != 0 || at[3] != 0 || left < std::uint64_t{key_bytes} + value_bytes)
    return AttributeResult::kCorrupt;
  attribute.kind = static_cast<AttributeKind>(at[0]);
  attribute.key = {reinterpret_cast<const char*>(at) + kAttributeHeaderBytes, key_bytes};
  attribute.value = encoded.subspan(offset + kAttributeHeaderBytes + key_bytes, value_bytes);
  const std::int64_t count = detail::count_elements(attribute.kind, attribute.value);
  if (count < 0) return AttributeResult::kCorrupt;
  attribute.count = static_cast<std::uint32_t>(count);
  offset += kAttributeHeaderBytes + key_bytes + value_bytes;
  return AttributeResult::kOk;
}

// Bytes that one attribute takes.
constexpr std::uint64_t attribute_bytes(std::uint64_t key_bytes, std::uint64_t value_bytes) {
  return kAttributeHeaderBytes + key_bytes + value_bytes;
}

// Encodes one attribute at `at`. Requires: room for attribute_bytes(); 1 <= key.size() <= 255.
// Returns false, and writes nothing, if the value is not one of this kind.
inline bool encode_attribute(std::uint8_t* at, AttributeKind kind, std::string_view key,
                             std::span<const std::uint8_t> value) {
  if (detail::count_elements(kind, value) < 0) return false;
  at[0] = static_cast<std::uint8_t>(kind);
  at[1] = static_cast<std::uint8_t>(key.size());
  at[2] = 0;
  at[3] = 0;
  detail::store_u32(at + 4, static_cast<std::uint32_t>(value.size()));
  std::memcpy(at + kAttributeHeaderBytes, key.data(), key.size());
  if (!value.empty()) std::memcpy(at + kAttributeHeaderBytes + key.size(), value.data(), value.size());
  return true;
}

}  // namespace holdfast::shm
