// SPDX-License-Identifier: MIT
//
// docs/shm-layout.md against proto/shm: field tables, constants, bits, attributes, crash tables.
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "client/include/holdfast/holdfast.h"
#include "proto/shm/attributes.hpp"
#include "proto/shm/bells_layout.hpp"
#include "proto/shm/lane_layout.hpp"
#include "proto/shm/roster_layout.hpp"
#include "proto/shm/session_layout.hpp"
#include "proto/shm/sites.hpp"
#include "tests/crash/crash_points.hpp"
#include "tests/docs/document.hpp"

namespace holdfast::docs {
namespace {

using namespace holdfast::shm;

const Document& layout() {
  static const Document document("docs/shm-layout.md");
  return document;
}

// ---- field tables

struct Field {
  std::uint64_t offset;
  std::uint64_t bytes;
  std::string name;
  bool operator==(const Field&) const = default;
};
void PrintTo(const Field& field, std::ostream* out) {
  *out << field.name << " at " << field.offset << ", " << field.bytes << " bytes";
}

struct Struct {
  const char* name;
  std::uint64_t bytes;
  std::vector<Field> fields;
};

#define FIELD(type, member) \
  Field { offsetof(type, member), sizeof(type::member), #member }

const std::vector<Struct>& structs() {
  static const std::vector<Struct> all = {
      {"SegmentHeader",
       sizeof(SegmentHeader),
       {FIELD(SegmentHeader, magic), FIELD(SegmentHeader, layout_version), FIELD(SegmentHeader, kind),
        FIELD(SegmentHeader, bytes), FIELD(SegmentHeader, segment_id), FIELD(SegmentHeader, generation),
        FIELD(SegmentHeader, epoch), FIELD(SegmentHeader, reserved)}},
      {"LaneHeader",
       sizeof(LaneHeader),
       {FIELD(LaneHeader, segment),   FIELD(LaneHeader, ring_slots), FIELD(LaneHeader, chunks_max),
        FIELD(LaneHeader, lane_id),   FIELD(LaneHeader, topic_id),   FIELD(LaneHeader, session),
        FIELD(LaneHeader, reserved0), FIELD(LaneHeader, head),       FIELD(LaneHeader, payload_bytes),
        FIELD(LaneHeader, exhausted), FIELD(LaneHeader, full),       FIELD(LaneHeader, reserved1),
        FIELD(LaneHeader, floor),     FIELD(LaneHeader, reserved2),  FIELD(LaneHeader, state),
        FIELD(LaneHeader, waits),     FIELD(LaneHeader, reserved3),  FIELD(LaneHeader, reserved),
        FIELD(LaneHeader, reserved4), FIELD(LaneHeader, written),    FIELD(LaneHeader, reserved5),
        FIELD(LaneHeader, reserved6), FIELD(LaneHeader, owners),     FIELD(LaneHeader, reserved7)}},
      {"Slot",
       sizeof(Slot),
       {FIELD(Slot, stamp), FIELD(Slot, size), FIELD(Slot, tags), FIELD(Slot, time), FIELD(Slot, words)}},
      {"SessionHeader",
       sizeof(SessionHeader),
       {FIELD(SessionHeader, segment), FIELD(SessionHeader, session), FIELD(SessionHeader, pid),
        FIELD(SessionHeader, reserved)}},
      {"ReaderRecord",
       sizeof(ReaderRecord),
       {FIELD(ReaderRecord, cursor), FIELD(ReaderRecord, reserved0), FIELD(ReaderRecord, joined),
        FIELD(ReaderRecord, missed), FIELD(ReaderRecord, bell), FIELD(ReaderRecord, rewind), FIELD(ReaderRecord, low),
        FIELD(ReaderRecord, reserved1), FIELD(ReaderRecord, pins)}},
      {"BellSegment",
       sizeof(BellSegment),
       {FIELD(BellSegment, segment), FIELD(BellSegment, ready), FIELD(BellSegment, reserved),
        FIELD(BellSegment, bells)}},
      {"Bell",
       sizeof(Bell),
       {FIELD(Bell, armed), FIELD(Bell, event), FIELD(Bell, reserved0),
        Field{offsetof(Bell, semaphore), sizeof(Bell::semaphore_room), "semaphore"}}},
      {"Board", sizeof(Board), {FIELD(Board, sleepers), FIELD(Board, reserved)}},
      {"RosterHeader",
       sizeof(RosterHeader),
       {FIELD(RosterHeader, segment), FIELD(RosterHeader, valid_bytes), FIELD(RosterHeader, commits),
        FIELD(RosterHeader, reserved)}},
      {"RosterBlock",
       sizeof(RosterBlock),
       {FIELD(RosterBlock, next), FIELD(RosterBlock, size), FIELD(RosterBlock, changes), FIELD(RosterBlock, flags),
        FIELD(RosterBlock, entries)}},
  };
  return all;
}

// A field that is left out above would be a hole.
TEST(ShmLayout, TheListOfFieldsCoversEveryByte) {
  for (const Struct& one : structs()) {
    std::uint64_t end = 0;
    for (const Field& field : one.fields) {
      EXPECT_EQ(field.offset, end) << one.name << "::" << field.name;
      end = field.offset + field.bytes;
    }
    EXPECT_EQ(end, one.bytes) << one.name;
  }
}

TEST(ShmLayout, FieldTablesAreTheStructs) {
  for (const Struct& one : structs()) {
    const Table table = layout().only("`" + std::string(one.name) + "`", {"Offset", "Bytes", "Field"});
    EXPECT_NE(table.heading.find(", " + std::to_string(one.bytes) + " bytes"), std::string::npos) << table.heading;
    std::vector<Field> documented;
    for (const Row& row : table.rows)
      documented.push_back({std::stoull(row["Offset"]), std::stoull(row["Bytes"]), code(row["Field"])});
    EXPECT_EQ(documented, one.fields) << one.name;
  }
}

TEST(ShmLayout, EveryFieldTableIsCompared) {
  std::set<std::string> known;
  for (const Struct& one : structs()) known.insert(one.name);
  for (const Table& table : layout().tables())
    if (table.columns.size() > 2 && table.columns[2] == "Field") {
      EXPECT_TRUE(known.contains(code(table.heading))) << table.heading;
    }
}

TEST(ShmLayout, RecordsAreAsLargeAsTheFormulaSays) {
  for (const std::uint32_t chunks : {64u, 128u, 192u, 65536u})
    EXPECT_EQ(record_bytes(chunks), round_up(192 + round_up(chunks, 64), 128)) << chunks;
}

// ---- constants and bits

TEST(ShmLayout, ConstantsAreThoseOfTheCode) {
  const std::map<std::string, std::uint64_t> constants = {
      {"kMagic", kMagic},
      {"kLayoutVersion", kLayoutVersion},
      {"kLine", kLine},
      {"kLinePair", kLinePair},
      {"kPage", kPage},
      {"kBellCount", kBellCount},
      {"kBoardsOffset", kBoardsOffset},
      {"kRosterEntries", kRosterEntries},
      {"kReadersMax", kReadersMax},
      {"kRosterReserve", kRosterReserve},
      {"kRingOffset", kRingOffset},
      {"kRingSlotsMin", kRingSlotsMin},
      {"kRingSlotsDefault", kRingSlotsDefault},
      {"kRingSlotsMax", kRingSlotsMax},
      {"kChunksDefault", kChunksDefault},
      {"kChunksMax", kChunksMax},
      {"kInlineBytesMax", kInlineBytesMax},
      {"kPayloadAlign", kPayloadAlign},
      {"kAttributeBytesMax", kAttributeBytesMax},
      {"kPayloadBytesMax", kPayloadBytesMax},
  };
  std::map<std::string, std::uint64_t> documented;
  for (const Row& row : layout().only("Segments", {"Constant", "Value"}).rows)
    documented[code(row["Constant"])] = std::stoull(row["Value"], nullptr, 0);
  EXPECT_EQ(documented, constants);
}

// The mask of "0–47" or "48".
std::uint64_t mask_of(const std::string& bits) {
  const std::size_t dash = bits.find("\u2013");
  const int low = std::stoi(bits);
  const int high = dash == std::string::npos ? low : std::stoi(bits.substr(dash + std::string("\u2013").size()));
  const std::uint64_t width = static_cast<std::uint64_t>(high - low + 1);
  return (width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1) << low;
}

TEST(ShmLayout, BitsOfWordsAreThoseOfTheCode) {
  const std::vector<std::pair<std::string, std::uint64_t>> bits = {
      {"size", kSizeMask},
      {"size", kFlagInline},
      {"size", ~(kSizeMask | kFlagsKnown)},
      {"tags", 0xffffffff},
      {"tags", std::uint64_t{0xffffffff} << 32},
      {"entry", kEntryPresent},
      {"entry", kEntryLossless},
      {"entry", kEntryTurned},
      {"entry", 0xff & ~(kEntryPresent | kEntryLossless | kEntryTurned)},
      {"entry", make_entry(0, std::uint64_t{0xffffff} * 128, 0)},
      {"entry", make_entry(0xffffffff, 0, 0)},
  };
  std::vector<std::pair<std::string, std::uint64_t>> documented;
  for (const Row& row : layout().only("`Slot`", {"Word", "Bits"}).rows)
    documented.emplace_back(code(row["Word"]), mask_of(row["Bits"]));
  EXPECT_EQ(documented, bits);
}

// ---- attributes

TEST(ShmLayout, AttributeKindsAreThoseOfTheCodeAndOfTheCAbi) {
  const std::map<std::string, std::pair<int, std::string>> kinds = {
      {"kBool", {HF_BOOL, "HF_BOOL"}},
      {"kInt", {HF_INT, "HF_INT"}},
      {"kFloat", {HF_FLOAT, "HF_FLOAT"}},
      {"kString", {HF_STRING, "HF_STRING"}},
      {"kBytes", {HF_BYTES, "HF_BYTES"}},
      {"kTimestamp", {HF_TIMESTAMP, "HF_TIMESTAMP"}},
      {"kBoolList", {HF_BOOL_LIST, "HF_BOOL_LIST"}},
      {"kIntList", {HF_INT_LIST, "HF_INT_LIST"}},
      {"kFloatList", {HF_FLOAT_LIST, "HF_FLOAT_LIST"}},
      {"kStringList", {HF_STRING_LIST, "HF_STRING_LIST"}},
      {"kEmptyList", {HF_EMPTY_LIST, "HF_EMPTY_LIST"}},
  };
  static_assert(static_cast<int>(AttributeKind::kBool) == HF_BOOL);
  static_assert(static_cast<int>(AttributeKind::kInt) == HF_INT);
  static_assert(static_cast<int>(AttributeKind::kFloat) == HF_FLOAT);
  static_assert(static_cast<int>(AttributeKind::kString) == HF_STRING);
  static_assert(static_cast<int>(AttributeKind::kBytes) == HF_BYTES);
  static_assert(static_cast<int>(AttributeKind::kTimestamp) == HF_TIMESTAMP);
  static_assert(static_cast<int>(AttributeKind::kBoolList) == HF_BOOL_LIST);
  static_assert(static_cast<int>(AttributeKind::kIntList) == HF_INT_LIST);
  static_assert(static_cast<int>(AttributeKind::kFloatList) == HF_FLOAT_LIST);
  static_assert(static_cast<int>(AttributeKind::kStringList) == HF_STRING_LIST);
  static_assert(static_cast<int>(AttributeKind::kEmptyList) == HF_EMPTY_LIST);
  std::map<std::string, std::pair<int, std::string>> documented;
  for (const Row& row : layout().only("Attributes", {"Kind", "Number", "C ABI"}).rows)
    documented[code(row["Kind"])] = {std::stoi(row["Number"]), code(row["C ABI"])};
  EXPECT_EQ(documented, kinds);
}

// Bytes that no kind can have are refused: the numbers in the table are all there are.
TEST(ShmLayout, OtherAttributeKindsAreCorrupt) {
  std::set<int> known;
  for (const Row& row : layout().only("Attributes", {"Kind", "Number", "C ABI"}).rows)
    known.insert(std::stoi(row["Number"]));
  for (int kind = 0; kind < 256; ++kind) {
    bool possible = false;
    for (const std::uint32_t bytes : {0u, 1u, 8u}) {
      std::vector<std::uint8_t> encoded = {
          static_cast<std::uint8_t>(kind), 1, 0, 0, static_cast<std::uint8_t>(bytes), 0, 0, 0, 'k'};
      encoded.resize(encoded.size() + bytes);
      std::uint32_t offset = 0;
      Attribute attribute{};
      possible = possible || next_attribute(encoded, offset, attribute) == AttributeResult::kOk;
    }
    EXPECT_EQ(possible, known.contains(kind)) << kind;
  }
}

std::vector<std::uint8_t> from_hex(const std::string& hex) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 3)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

// The value as the document writes it: JSON, strings bare.
std::string shown(const Attribute& attribute) {
  const std::uint8_t* at = attribute.value.data();
  switch (attribute.kind) {
    case AttributeKind::kString:
      return {reinterpret_cast<const char*>(at), attribute.value.size()};
    case AttributeKind::kInt: {
      std::int64_t value = 0;
      std::memcpy(&value, at, sizeof value);
      return nlohmann::json(value).dump();
    }
    case AttributeKind::kBool:
      return nlohmann::json(at[0] == 1).dump();
    case AttributeKind::kStringList: {
      nlohmann::json list = nlohmann::json::array();
      for (std::size_t i = 0; i < attribute.value.size();) {
        const std::uint32_t bytes = shm::detail::load_u32(at + i);
        list.push_back(std::string(reinterpret_cast<const char*>(at) + i + 4, bytes));
        i += 4 + bytes;
      }
      return list.dump();
    }
    default:
      ADD_FAILURE() << "the example has no value of kind " << static_cast<int>(attribute.kind);
      return "";
  }
}

TEST(ShmLayout, TheAttributeExampleDecodesToWhatItSays) {
  const std::map<std::string, AttributeKind> kinds = {{"kString", AttributeKind::kString},
                                                      {"kInt", AttributeKind::kInt},
                                                      {"kBool", AttributeKind::kBool},
                                                      {"kStringList", AttributeKind::kStringList}};
  const Table table = layout().only("A worked example", {"Offset", "Bytes, in hex", "Kind", "Key", "Value"});
  ASSERT_GE(table.rows.size(), 4u);
  std::vector<std::uint8_t> encoded;
  for (const Row& row : table.rows) {
    EXPECT_EQ(std::stoull(row["Offset"]), encoded.size());
    const std::vector<std::uint8_t> bytes = from_hex(code(row["Bytes, in hex"]));
    encoded.insert(encoded.end(), bytes.begin(), bytes.end());
  }
  EXPECT_EQ(encoded.size(), 66u);
  std::uint32_t offset = 0;
  Attribute attribute{};
  std::vector<std::uint8_t> again;
  for (const Row& row : table.rows) {
    ASSERT_EQ(next_attribute(encoded, offset, attribute), AttributeResult::kOk) << row["Key"];
    EXPECT_EQ(attribute.kind, kinds.at(code(row["Kind"])));
    EXPECT_EQ(attribute.key, code(row["Key"]));
    EXPECT_EQ(shown(attribute), code(row["Value"]));
    const std::size_t at = again.size();
    again.resize(at + attribute_bytes(attribute.key.size(), attribute.value.size()));
    EXPECT_TRUE(encode_attribute(again.data() + at, attribute.kind, attribute.key, attribute.value));
  }
  EXPECT_EQ(next_attribute(encoded, offset, attribute), AttributeResult::kEnd);
  EXPECT_EQ(again, encoded);
}

// ---- crash tables

using Documented = std::pair<std::string, std::string>;  // site, role

std::multiset<Documented> documented_points() {
  std::multiset<Documented> points;
  for (const Table& table : layout().tables())
    if (table.columns.front() == "Site")
      for (const Row& row : table.rows) points.insert({code(row["Site"]), row["Who"]});
  return points;
}

// The tests kill at exactly the rows, and the rows are exactly the sites that store or exchange.
TEST(CrashTables, RowsAreTheCrashPoints) {
  std::multiset<Documented> points;
  for (const crash::Point& point : crash::points()) points.insert({point.site->name, name_of(point.role)});
  EXPECT_EQ(documented_points(), points);
}

TEST(CrashTables, EverySiteThatStoresOrExchangesHasARow) {
  std::set<std::string> sites;
  for (const Site& site : kSites)
    if (site.access == Access::kStore || site.access == Access::kExchange) sites.insert(site.name);
  std::set<std::string> documented;
  for (const auto& [site, role] : documented_points()) documented.insert(site);
  EXPECT_EQ(documented, sites);
}

TEST(CrashTables, EveryRowSaysWhatIsLeftAndNamesItsTest) {
  for (const Table& table : layout().tables()) {
    if (table.columns.front() != "Site") continue;
    for (const Row& row : table.rows) {
      EXPECT_GT(row["What a survivor sees if the writer dies right behind it"].size(), 10u) << row.line;
      EXPECT_FALSE(row["What repair does"].empty()) << row.line;
      EXPECT_EQ(code(row["Test"]), crash::test_name(code(row["Site"]), row["Who"])) << row.line;
    }
  }
}

}  // namespace
}  // namespace holdfast::docs
