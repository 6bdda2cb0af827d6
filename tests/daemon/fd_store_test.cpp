// SPDX-License-Identifier: MIT
//
// What is told to a service manager that keeps descriptors, and what is taken from it.
#include "daemon/fd_store.hpp"

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/systemd.hpp"
#include "tests/daemon/temporary_directory.hpp"
#include "tests/integration/fd_keeper.hpp"

namespace holdfast::daemon {
namespace {

using Names = std::vector<std::string>;

class StoredDescriptors : public testing::Test {
 protected:
  StoredDescriptors() : keeper_(directory_.path() + "/notify", 3) {
    ::setenv("NOTIFY_SOCKET", keeper_.path().c_str(), 1);
  }
  ~StoredDescriptors() override { ::unsetenv("NOTIFY_SOCKET"); }

  Names names() {
    keeper_.settle();
    return keeper_.names();
  }
  static Descriptor memory() { return Descriptor(::memfd_create("stored", MFD_CLOEXEC)); }

  TemporaryDirectory directory_;
  integration::FdKeeper keeper_;
};

TEST_F(StoredDescriptors, AreKeptUnderTheNameOfTheirSegment) {
  FdStore store(3, {});
  EXPECT_EQ(store.keep(35, memory().get()), 0);
  EXPECT_EQ(store.keep(36, memory().get()), 0);
  EXPECT_EQ(names(), (Names{"10", "z"}));
}

// The row goes first: a broker that dies in between leaves one too many, never one too few.
TEST_F(StoredDescriptors, GoWhenTheRegistryKnows) {
  FdStore store(3, {});
  ASSERT_EQ(store.keep(1, memory().get()), 0);
  ASSERT_EQ(store.keep(2, memory().get()), 0);
  store.drop(1);
  store.drop(7);
  EXPECT_EQ(names(), (Names{"1", "2"}));
  store.settle();
  EXPECT_EQ(names(), Names{"2"});
  store.drop_all();
  EXPECT_EQ(names(), Names());
}

TEST_F(StoredDescriptors, AreRefusedBeforeSystemdWouldDropThem) {
  FdStore store(2, {});
  EXPECT_EQ(store.keep(1, memory().get()), 0);
  EXPECT_EQ(store.keep(2, memory().get()), 0);
  EXPECT_EQ(store.keep(3, memory().get()), EMFILE);
  store.drop(1);
  store.settle();
  EXPECT_EQ(store.keep(3, memory().get()), 0);
  EXPECT_EQ(names(), (Names{"2", "3"}));
}

TEST_F(StoredDescriptors, OfEarlierBrokersAreTakenOnceAndTheRestIsDropped) {
  {
    FdStore before(3, {});
    for (const broker::SegmentId id : {1UL, 2UL, 3UL}) ASSERT_EQ(before.keep(id, memory().get()), 0);
  }
  FdStore::Found found;
  for (const broker::SegmentId id : {1UL, 2UL, 3UL}) found.emplace(id, memory());
  FdStore store(3, std::move(found));
  EXPECT_TRUE(store.take(2));
  EXPECT_FALSE(store.take(2));
  EXPECT_FALSE(store.take(4));
  EXPECT_EQ(store.keep(4, memory().get()), EMFILE) << "they count";
  EXPECT_EQ(store.drop_untaken(), 2u);
  EXPECT_EQ(names(), Names{"2"});
  EXPECT_EQ(store.keep(4, memory().get()), 0);
}

TEST_F(StoredDescriptors, WhereNobodyKeepsThemNothingIsSaid) {
  ::unsetenv("FDSTORE");
  EXPECT_EQ(fd_store_limit(), 0u);
  ::setenv("FDSTORE", "many", 1);
  EXPECT_EQ(fd_store_limit(), 0u);
  ::setenv("FDSTORE", "12", 1);
  EXPECT_EQ(fd_store_limit(), 12u);
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_EQ(fd_store_limit(), 0u);
  ::unsetenv("FDSTORE");
  FdStore store;
  EXPECT_EQ(store.keep(1, memory().get()), 0);
  store.drop(1);
  store.settle();
  EXPECT_EQ(names(), Names());
}

TEST(StoredNames, LeadBackToTheirSegment) {
  for (const broker::SegmentId id :
       {broker::SegmentId{1}, broker::SegmentId{35}, broker::SegmentId{4'000'000'000}, ~broker::SegmentId{0}})
    EXPECT_EQ(stored_segment(stored_name(id)), id);
  EXPECT_LE(stored_name(~broker::SegmentId{0}).size(), 13u);
  for (const char* other : {"", "0", "01", "holdfastd.socket", "A", "-1", " 1", "1 ", "zzzzzzzzzzzzzz"})
    EXPECT_EQ(stored_segment(other), 0u) << other;
}

// systemd passes all names in one environment string, of which the kernel takes 128 KiB.
TEST(StoredNames, ThoseOfAFullStoreFitOneString) {
  constexpr std::size_t kStoreMax = 8192;  // FileDescriptorStoreMax= in systemd/holdfastd.service.in
  constexpr std::size_t kStringMax = 131'072;
  const std::size_t socket = std::string("LISTEN_FDNAMES=holdfastd.socket:").size();
  EXPECT_LE(socket + kStoreMax * (stored_name(~broker::SegmentId{0}).size() + 1), kStringMax);
}

}  // namespace
}  // namespace holdfast::daemon
