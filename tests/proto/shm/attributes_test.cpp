// SPDX-License-Identifier: MIT
//
// Attributes: what is encoded is decoded; whatever bytes come instead are an answer and never a read beyond them. Every
// buffer is on the heap and exactly as large as it says, so that the address sanitizer sees a single byte too far.
#include "proto/shm/attributes.hpp"

#include <array>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::shm {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes words(std::initializer_list<std::uint64_t> values) {
  Bytes bytes(values.size() * 8);
  std::size_t at = 0;
  for (const std::uint64_t value : values) {
    std::memcpy(bytes.data() + at, &value, 8);
    at += 8;
  }
  return bytes;
}

Bytes strings(std::initializer_list<std::string> values) {
  Bytes bytes;
  for (const std::string& value : values) {
    const std::size_t at = bytes.size();
    bytes.resize(at + 4);
    detail::store_u32(bytes.data() + at, static_cast<std::uint32_t>(value.size()));
    bytes.insert(bytes.end(), value.begin(), value.end());
  }
  return bytes;
}

Bytes text(const std::string& value) { return {value.begin(), value.end()}; }

struct Known {
  AttributeKind kind;
  std::string key;
  Bytes value;
  std::uint32_t count;
};

const std::vector<Known>& every_kind() {
  static const std::vector<Known> kAll = {
      {AttributeKind::kBool, "flag", {1}, 1},
      {AttributeKind::kBool, "f", {0}, 1},
      {AttributeKind::kInt, "int", words({~std::uint64_t{0}}), 1},
      {AttributeKind::kFloat, "float", words({0x400921fb54442d18}), 1},
      {AttributeKind::kString, "string", text("grüße"), 1},
      {AttributeKind::kString, "no string", {}, 1},
      {AttributeKind::kBytes, "bytes", {0, 255, 0}, 1},
      {AttributeKind::kTimestamp, "when", words({1}), 1},
      {AttributeKind::kBoolList, "flags", {1, 0, 1}, 3},
      {AttributeKind::kBoolList, "no flags", {}, 0},
      {AttributeKind::kIntList, "ints", words({1, 2, 3}), 3},
      {AttributeKind::kIntList, "no ints", {}, 0},
      {AttributeKind::kFloatList, "floats", words({4, 5}), 2},
      {AttributeKind::kStringList, "strings", strings({"", "a", "bcd"}), 3},
      {AttributeKind::kStringList, "no strings", {}, 0},
      {AttributeKind::kEmptyList, "empty", {}, 0},
      {AttributeKind::kString, std::string(255, 'k'), text(std::string(1000, 'v')), 1},
  };
  return kAll;
}

Bytes encoded(const std::vector<Known>& list) {
  Bytes bytes;
  for (const Known& known : list) {
    const std::size_t at = bytes.size();
    bytes.resize(at + attribute_bytes(known.key.size(), known.value.size()));
    EXPECT_TRUE(encode_attribute(bytes.data() + at, known.kind, known.key, known.value)) << known.key;
  }
  return bytes;
}

struct Decoded {
  AttributeResult end = AttributeResult::kOk;
  std::vector<Attribute> attributes;
};

Decoded decode(std::span<const std::uint8_t> bytes) {
  Decoded decoded;
  std::uint32_t offset = 0;
  Attribute attribute{};
  while ((decoded.end = next_attribute(bytes, offset, attribute)) == AttributeResult::kOk) {
    EXPECT_LE(offset, bytes.size());
    decoded.attributes.push_back(attribute);
    if (decoded.attributes.size() > bytes.size()) break;
  }
  return decoded;
}

// A copy on the heap of exactly these bytes.
std::unique_ptr<std::uint8_t[]> exact_copy(std::span<const std::uint8_t> bytes) {
  auto copy = std::make_unique<std::uint8_t[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  return copy;
}

// Touches every byte that was handed out, and says whether all of it lies within the encoding.
bool within(const Decoded& decoded, std::span<const std::uint8_t> bytes) {
  const std::uint8_t* const end = bytes.data() + bytes.size();
  unsigned sum = 0;
  for (const Attribute& attribute : decoded.attributes) {
    const auto* key = reinterpret_cast<const std::uint8_t*>(attribute.key.data());
    if (attribute.key.empty() || key < bytes.data() || key + attribute.key.size() > end) return false;
    if (attribute.value.data() < bytes.data() || attribute.value.data() + attribute.value.size() > end) return false;
    for (const char c : attribute.key) sum += static_cast<unsigned char>(c);
    for (const std::uint8_t byte : attribute.value) sum += byte;
  }
  return sum != ~0u;
}

TEST(Attributes, EveryKindComesBackAsItWent) {
  const Bytes bytes = encoded(every_kind());
  const Decoded decoded = decode(bytes);
  EXPECT_EQ(decoded.end, AttributeResult::kEnd);
  ASSERT_EQ(decoded.attributes.size(), every_kind().size());
  for (std::size_t i = 0; i < every_kind().size(); ++i) {
    const Known& known = every_kind()[i];
    const Attribute& attribute = decoded.attributes[i];
    EXPECT_EQ(attribute.kind, known.kind) << known.key;
    EXPECT_EQ(attribute.key, known.key);
    EXPECT_EQ(Bytes(attribute.value.begin(), attribute.value.end()), known.value) << known.key;
    EXPECT_EQ(attribute.count, known.count) << known.key;
  }
}

TEST(Attributes, TheBytesAreThoseOfTheTable) {
  Bytes bytes(attribute_bytes(2, 8));
  ASSERT_TRUE(encode_attribute(bytes.data(), AttributeKind::kInt, "id", words({0x0102})));
  EXPECT_EQ(bytes, (Bytes{2, 2, 0, 0, 8, 0, 0, 0, 'i', 'd', 2, 1, 0, 0, 0, 0, 0, 0}));
}

TEST(Attributes, NothingIsTheEnd) { EXPECT_EQ(decode({}).end, AttributeResult::kEnd); }

TEST(Attributes, AValueThatIsNotOfItsKindIsNotEncoded) {
  const Known wrong[] = {
      {AttributeKind::kBool, "k", {2}, 0},
      {AttributeKind::kBool, "k", {}, 0},
      {AttributeKind::kBool, "k", {1, 1}, 0},
      {AttributeKind::kInt, "k", {1, 2, 3, 4}, 0},
      {AttributeKind::kFloat, "k", {}, 0},
      {AttributeKind::kTimestamp, "k", Bytes(9), 0},
      {AttributeKind::kBoolList, "k", {0, 1, 2}, 0},
      {AttributeKind::kIntList, "k", Bytes(7), 0},
      {AttributeKind::kFloatList, "k", Bytes(12), 0},
      {AttributeKind::kStringList, "k", {1}, 0},
      {AttributeKind::kStringList, "k", {2, 0, 0, 0, 'a'}, 0},
      {AttributeKind::kStringList, "k", {255, 255, 255, 255}, 0},
      {AttributeKind::kEmptyList, "k", {0}, 0},
      {static_cast<AttributeKind>(0), "k", {}, 0},
      {static_cast<AttributeKind>(7), "k", Bytes(8), 0},
      {static_cast<AttributeKind>(255), "k", {}, 0},
  };
  for (const Known& known : wrong) {
    Bytes bytes(attribute_bytes(known.key.size(), known.value.size()), 0xee);
    const Bytes before = bytes;
    EXPECT_FALSE(encode_attribute(bytes.data(), known.kind, known.key, known.value))
        << static_cast<int>(known.kind) << " with " << known.value.size() << " bytes";
    EXPECT_EQ(bytes, before);
    // And what somebody else encoded so is not decoded.
    bytes[0] = static_cast<std::uint8_t>(known.kind);
    bytes[1] = 1;
    bytes[2] = bytes[3] = 0;
    detail::store_u32(bytes.data() + 4, static_cast<std::uint32_t>(known.value.size()));
    bytes[8] = 'k';
    if (!known.value.empty()) std::memcpy(bytes.data() + 9, known.value.data(), known.value.size());
    EXPECT_EQ(decode(bytes).end, AttributeResult::kCorrupt) << static_cast<int>(known.kind);
  }
}

TEST(Attributes, HeadersThatLieAreCorrupt) {
  Bytes good(attribute_bytes(1, 1));
  ASSERT_TRUE(encode_attribute(good.data(), AttributeKind::kBool, "k", Bytes{1}));
  const auto changed = [&](std::size_t at, std::uint8_t value) {
    Bytes bytes = good;
    bytes[at] = value;
    const auto copy = exact_copy(bytes);
    return decode({copy.get(), bytes.size()}).end;
  };
  EXPECT_EQ(changed(1, 1), AttributeResult::kEnd);
  EXPECT_EQ(changed(1, 0), AttributeResult::kCorrupt);  // no key
  EXPECT_EQ(changed(1, 2), AttributeResult::kCorrupt);  // a longer key
  EXPECT_EQ(changed(2, 1), AttributeResult::kCorrupt);  // reserved
  EXPECT_EQ(changed(3, 1), AttributeResult::kCorrupt);
  EXPECT_EQ(changed(4, 2), AttributeResult::kCorrupt);  // more value bytes than there are
  EXPECT_EQ(changed(7, 255), AttributeResult::kCorrupt);  // nearly 4 GiB of them
  EXPECT_EQ(changed(4, 0), AttributeResult::kCorrupt);  // a bool of no bytes
}

TEST(Attributes, AnOffsetBehindTheEndIsCorrupt) {
  const Bytes bytes(20);
  std::uint32_t offset = 21;
  Attribute attribute{};
  EXPECT_EQ(next_attribute(bytes, offset, attribute), AttributeResult::kCorrupt);
  EXPECT_EQ(offset, 21u);
}

TEST(Attributes, ACorruptOneDoesNotMoveTheOffset) {
  const Bytes bytes(20);
  std::uint32_t offset = 0;
  Attribute attribute{};
  EXPECT_EQ(next_attribute(bytes, offset, attribute), AttributeResult::kCorrupt);
  EXPECT_EQ(offset, 0u);
}

TEST(Attributes, EveryPrefixIsCorruptOrShorter) {
  const Bytes bytes = encoded(every_kind());
  std::size_t ends = 0;
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto copy = exact_copy({bytes.data(), length});
    const std::span<const std::uint8_t> prefix(copy.get(), length);
    const Decoded decoded = decode(prefix);
    EXPECT_LT(decoded.attributes.size(), every_kind().size());
    EXPECT_TRUE(within(decoded, prefix));
    if (decoded.end == AttributeResult::kEnd) ++ends;
    for (std::size_t i = 0; i < decoded.attributes.size(); ++i)
      EXPECT_EQ(decoded.attributes[i].key, every_kind()[i].key);
  }
  EXPECT_EQ(ends, every_kind().size());  // between two attributes, and nowhere else
}

TEST(Attributes, RandomBytesAreNeverReadBeyondTheirEnd) {
  std::mt19937_64 random(20260101);
  for (int i = 0; i < 50'000; ++i) {
    Bytes bytes(random() % 80);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random() % 4 == 0 ? random() : random() % 6);
    const auto copy = exact_copy(bytes);
    const std::span<const std::uint8_t> all(copy.get(), bytes.size());
    ASSERT_TRUE(within(decode(all), all));
  }
}

TEST(Attributes, GoodBytesWithAFewWrongOnesAreNeverReadBeyondTheirEnd) {
  const Bytes good = encoded(every_kind());
  std::mt19937_64 random(20260102);
  for (int i = 0; i < 5'000; ++i) {
    Bytes bytes = good;
    for (std::uint64_t n = 1 + random() % 4; n > 0; --n)
      bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
    const auto copy = exact_copy(bytes);
    const std::span<const std::uint8_t> all(copy.get(), bytes.size());
    ASSERT_TRUE(within(decode(all), all));
  }
}

}  // namespace
}  // namespace holdfast::shm
