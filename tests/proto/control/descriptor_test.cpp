// SPDX-License-Identifier: MIT
#include "proto/control/descriptor.hpp"

#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

namespace holdfast {
namespace {

bool open_here(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

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

}  // namespace
}  // namespace holdfast
