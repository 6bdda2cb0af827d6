// SPDX-License-Identifier: MIT
#include "client/src/descriptor.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include "client/src/failure.hpp"
#include "tests/client/open_here.hpp"

namespace holdfast::client {
namespace {

TEST(Descriptor, ClosesWhatItOwns) {
  int fd = -1;
  {
    const Descriptor owner(::eventfd(0, 0));
    ASSERT_TRUE(owner);
    fd = owner.get();
    EXPECT_TRUE(open_here(fd));
  }
  EXPECT_FALSE(open_here(fd));
}

TEST(Descriptor, HasOneOwner) {
  Descriptor first(::eventfd(0, 0));
  const int fd = first.get();
  Descriptor second(std::move(first));
  EXPECT_EQ(second.get(), fd);
  Descriptor third(::eventfd(0, 0));
  const int replaced = third.get();
  third = std::move(second);
  EXPECT_EQ(third.get(), fd);
  EXPECT_FALSE(open_here(replaced));
  EXPECT_EQ(third.release(), fd);
  EXPECT_FALSE(third);
  EXPECT_TRUE(open_here(fd));
  ::close(fd);
}

TEST(Failure, KeepsItsSentenceAndGivesItsCode) {
  EXPECT_EQ(fail(HF_E_INVALID, "a sentence"), HF_E_INVALID);
  EXPECT_STREQ(last_failure(), "a sentence");
  errno = EBADF;
  EXPECT_EQ(fail_errno("a call"), HF_E_SYSTEM);
  EXPECT_NE(std::string(last_failure()).find("a call: Bad file descriptor (errno 9)"), std::string::npos);
}

TEST(Failure, ExceptionsBecomeCodes) {
  EXPECT_EQ(guarded([]() -> int { return 7; }), 7);
  EXPECT_EQ(guarded([]() -> int { throw std::bad_alloc(); }), HF_E_NO_MEMORY);
  EXPECT_EQ(guarded([]() -> int { throw std::runtime_error("odd"); }), HF_E_SYSTEM);
  EXPECT_NE(std::string(last_failure()).find("odd"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::client
