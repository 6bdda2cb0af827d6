// SPDX-License-Identifier: MIT
#include "daemon/instance_lock.hpp"

#include <filesystem>

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/daemon/temporary_directory.hpp"

namespace holdfast::daemon {
namespace {

TEST(InstanceLock, TheSecondLearnsTheFirstOnesPid) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.lock");
  InstanceLock first;
  EXPECT_EQ(first.take(path), "");
  InstanceLock second;
  EXPECT_NE(second.take(path).find("pid " + std::to_string(::getpid()) + " "), std::string::npos);
  first.remove();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(second.take(path), "");
}

TEST(InstanceLock, AStaleFileIsTaken) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("x.lock", "999999999 and some more text than a pid has\n");
  InstanceLock lock;
  EXPECT_EQ(lock.take(path), "");
  EXPECT_EQ(std::filesystem::file_size(path), std::to_string(::getpid()).size() + 1);
}

TEST(InstanceLock, SaysWhyItCannot) {
  const TemporaryDirectory directory;
  InstanceLock lock;
  EXPECT_NE(lock.take(directory.file("no/such/x.lock")).find("cannot open"), std::string::npos);
  std::filesystem::create_symlink(directory.file("target"), directory.file("link"));
  EXPECT_NE(lock.take(directory.file("link")).find("cannot open"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::daemon
