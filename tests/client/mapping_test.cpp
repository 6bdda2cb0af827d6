// SPDX-License-Identifier: MIT
//
// Mapping a segment: what is refused and with which code, what is writable, and that a forked child gets none of it.
#include "client/src/mapping.hpp"

#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/src/failure.hpp"
#include "proto/control/descriptor.hpp"

namespace holdfast::client {
namespace {

using shm::kPage;
using shm::SegmentHeader;
using shm::SegmentKind;

constexpr std::uint64_t kId = 42;

// Of shared memory, in this process.
std::uint64_t mapped_huge_bytes() {
  std::ifstream maps("/proc/self/smaps");
  std::uint64_t sum = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.rfind("ShmemPmdMapped:", 0) == 0) sum += 1024 * std::stoull(line.substr(line.find(':') + 1));
  return sum;
}

class SegmentFile : public testing::Test {
 protected:
  SegmentFile() : file_(::memfd_create("segment", MFD_CLOEXEC)) { resize(4 * kPage); }

  void resize(std::uint64_t bytes) { ASSERT_EQ(::ftruncate(file_.get(), static_cast<off_t>(bytes)), 0); }
  void write(const SegmentHeader& header) {
    ASSERT_EQ(::pwrite(file_.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
  }
  static SegmentHeader good() {
    SegmentHeader header{};
    shm::write_header(header, SegmentKind::kLane, 4 * kPage, kId, 1);
    return header;
  }
  int map(Mapping& mapping, bool writable = false) {
    return mapping.map(file_.get(), SegmentKind::kLane, kId, 4 * kPage, 16 * kPage, writable);
  }

  Descriptor file_;
};

TEST_F(SegmentFile, IsMappedWithItsReserve) {
  write(good());
  Mapping mapping;
  ASSERT_EQ(map(mapping), HF_OK) << last_failure();
  EXPECT_EQ(mapping.reserve_bytes(), 16 * kPage);
  EXPECT_EQ(mapping.as<SegmentHeader>().segment_id, kId);
  mapping.populate(0, 4 * kPage);
  mapping.populate(kPage + 1, kPage + 2);
  mapping.populate(8 * kPage, 4 * kPage);
  resize(8 * kPage);
  mapping.populate(4 * kPage, 8 * kPage);
  EXPECT_EQ(*mapping.at(8 * kPage - 1), 0);
}

TEST_F(SegmentFile, HasAtLeastItsValidBytesAsReserve) {
  write(good());
  Mapping mapping;
  ASSERT_EQ(mapping.map(file_.get(), SegmentKind::kLane, kId, 4 * kPage, 0, false), HF_OK);
  EXPECT_EQ(mapping.reserve_bytes(), 4 * kPage);
}

TEST_F(SegmentFile, HugePagesKeepWhatIsThere) {
  constexpr std::uint64_t kHuge = Mapping::kHugePage;
  write(good());
  resize(3 * kHuge);
  Mapping writer;
  Mapping reader;
  for (Mapping* mapping : {&writer, &reader}) {
    ASSERT_EQ(mapping->map(file_.get(), SegmentKind::kLane, kId, 4 * kPage, 4 * kHuge, mapping == &writer), HF_OK);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping->at(0)) % kHuge, 0U);
  }
  for (std::uint64_t at = 4 * kPage; at < 3 * kHuge; at += kPage)
    *writer.at(at) = static_cast<std::uint8_t>(at / kPage);
  const std::uint64_t before = mapped_huge_bytes();
  writer.make_huge(4 * kPage, 3 * kHuge);  // of which two are whole
  writer.make_huge(kHuge + 1, 2 * kHuge);
  writer.populate(0, 3 * kHuge);
  reader.populate(0, 3 * kHuge);
  for (std::uint64_t at = 4 * kPage; at < 3 * kHuge; at += kPage)
    ASSERT_EQ(*reader.at(at), static_cast<std::uint8_t>(at / kPage)) << at;
  EXPECT_EQ(reader.as<SegmentHeader>().segment_id, kId);
  if (mapped_huge_bytes() == before)
    GTEST_SKIP() << "not_run: no huge pages here (Linux 6.1, free memory in one piece)";
  EXPECT_EQ(mapped_huge_bytes() - before, 2 * 2 * kHuge);
}

TEST_F(SegmentFile, IsWritableOnlyWhereAsked) {
  write(good());
  Mapping writer;
  ASSERT_EQ(map(writer, true), HF_OK);
  writer.populate(0, 4 * kPage);
  *writer.at(kPage) = 7;
  Mapping reader;
  ASSERT_EQ(map(reader), HF_OK);
  EXPECT_EQ(*reader.at(kPage), 7);
  // Reading into a read-only page is refused by the kernel, without a signal.
  const Descriptor zero(::memfd_create("zero", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(zero.get(), 1), 0);
  EXPECT_EQ(::pread(zero.get(), reader.at(kPage), 1, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(::pread(zero.get(), writer.at(kPage), 1, 0), 1);
}

TEST_F(SegmentFile, ShorterThanTheBrokerSaysIsRefused) {
  write(good());
  resize(4 * kPage - 1);
  Mapping mapping;
  EXPECT_EQ(map(mapping), HF_E_PROTOCOL);
  EXPECT_NE(std::string(last_failure()).find("16383"), std::string::npos) << last_failure();
}

TEST_F(SegmentFile, OfLessThanAPageIsRefused) {
  Mapping mapping;
  EXPECT_EQ(mapping.map(file_.get(), SegmentKind::kLane, kId, 64, 64, false), HF_E_PROTOCOL);
}

TEST_F(SegmentFile, ThatIsNoDescriptorIsRefused) {
  Mapping mapping;
  EXPECT_EQ(mapping.map(-1, SegmentKind::kLane, kId, kPage, kPage, false), HF_E_SYSTEM);
  EXPECT_NE(std::string(last_failure()).find("fstat"), std::string::npos);
}

TEST_F(SegmentFile, LargerThanTheAddressSpaceIsRefused) {
  write(good());
  Mapping mapping;
  EXPECT_EQ(mapping.map(file_.get(), SegmentKind::kLane, kId, kPage, std::uint64_t{1} << 60, false), HF_E_SYSTEM);
  EXPECT_NE(std::string(last_failure()).find("address space"), std::string::npos);
}

TEST_F(SegmentFile, WithoutASoundHeaderIsRefused) {
  const auto code = [&](auto&& change) {
    SegmentHeader header = good();
    change(header);
    write(header);
    Mapping mapping;
    return map(mapping);
  };
  EXPECT_EQ(code([](SegmentHeader&) {}), HF_OK);
  EXPECT_EQ(code([](SegmentHeader& header) { header.magic = 0; }), HF_E_CORRUPT);
  EXPECT_EQ(code([](SegmentHeader& header) { header.magic ^= 1; }), HF_E_CORRUPT);
  EXPECT_EQ(code([](SegmentHeader& header) { header.segment_id = 43; }), HF_E_CORRUPT);
  EXPECT_EQ(code([](SegmentHeader& header) { header.kind = 2; }), HF_E_CORRUPT);
  EXPECT_EQ(code([](SegmentHeader& header) { header.layout_version = 99; }), HF_E_VERSION);
  EXPECT_NE(std::string(last_failure()).find("layout 99"), std::string::npos);
}

TEST_F(SegmentFile, IsNotInheritedByAForkedChild) {
  write(good());
  close_in_child(-1);
  const int registered = ::dup(file_.get());
  close_in_child(registered);  // makes the guard count forks
  auto mapping = std::make_unique<Mapping>();
  ASSERT_EQ(map(*mapping, true), HF_OK);
  std::uint8_t* const base = mapping->at(0);
  const pid_t child = ::fork();
  if (child == 0) {
    unsigned char resident = 0;
    const bool gone = ::mincore(base, kPage, &resident) != 0 && errno == ENOMEM;
    // Something else may be mapped there by now: the child's copy of the object must leave it alone.
    void* const other = ::mmap(base, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    mapping.reset();
    ::_exit(gone && other == base && ::mincore(base, kPage, &resident) == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(mapping->as<SegmentHeader>().segment_id, kId);
  forget_in_child(registered);
  ::close(registered);
}

TEST(Mapping, OfNothingIsDestroyedQuietly) {
  const Mapping mapping;
  EXPECT_EQ(mapping.reserve_bytes(), 0u);
}

}  // namespace
}  // namespace holdfast::client
