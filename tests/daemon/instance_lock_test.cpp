// SPDX-License-Identifier: MIT
#include "daemon/instance_lock.hpp"

#include <filesystem>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/daemon/temporary_directory.hpp"

namespace holdfast::daemon {
namespace {

// An instance of this test's own, whose lock in /dev/shm is gone afterwards.
class SharedLock : public testing::Test {
 protected:
  ~SharedLock() override { ::unlink(path().c_str()); }

  std::string path() const { return "/dev/shm/" + shared_lock_name(instance_); }
  bool there() const { return std::filesystem::exists(std::filesystem::symlink_status(path())); }

  const std::string instance_ = "lock-" + std::to_string(::getpid());
};

// Runs `check` in another process: true if it says so.
template <class Check>
bool elsewhere(Check&& check) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(check() ? 0 : 1);
  int status = 0;
  return ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(InstanceLock, TheSecondLearnsWhoTheFirstIs) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.lock");
  {
    InstanceLock first;
    EXPECT_EQ(first.take(path, "/some/where"), "");
    EXPECT_TRUE(elsewhere([&] {
      InstanceLock second;
      const std::string why = second.take(path, "/else/where");
      return why.find("pid " + std::to_string(::getppid()) + ", runtime directory /some/where ") != std::string::npos &&
             why.find(path) != std::string::npos;
    }));
    EXPECT_TRUE(std::filesystem::exists(path)) << "who does not get it leaves it";
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  InstanceLock second;
  EXPECT_EQ(second.take(path, "/else/where"), "");
}

TEST(InstanceLock, AStaleFileIsTaken) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("x.lock", "999999999 and some more text than a pid has\n/gone\nmore\n");
  InstanceLock lock;
  EXPECT_EQ(lock.take(path, "/some/where"), "");
  EXPECT_EQ(std::filesystem::file_size(path), std::to_string(::getpid()).size() + 1 + sizeof "/some/where");
}

TEST(InstanceLock, SaysWhyItCannot) {
  const TemporaryDirectory directory;
  InstanceLock lock;
  EXPECT_NE(lock.take(directory.file("no/such/x.lock"), "/r").find("cannot open"), std::string::npos);
  std::filesystem::create_symlink(directory.file("target"), directory.file("link"));
  EXPECT_NE(lock.take(directory.file("link"), "/r").find("cannot open"), std::string::npos);
}

TEST_F(SharedLock, ExcludesWhateverTheRuntimeDirectoryAndGoesWithItsHolder) {
  std::string in_the_way;
  {
    InstanceLock first;
    EXPECT_EQ(first.take_shared(instance_, "/one", in_the_way), "");
    EXPECT_EQ(in_the_way, "");
    struct stat status{};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    EXPECT_TRUE(elsewhere([&] {
      InstanceLock second;
      std::string none;
      return second.take_shared(instance_, "/two", none).find("runtime directory /one ") != std::string::npos &&
             none.empty();
    }));
    EXPECT_TRUE(there());
  }
  EXPECT_FALSE(there());
}

TEST_F(SharedLock, WhatAKilledHolderLeftIsTaken) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    InstanceLock lock;
    std::string none;
    if (lock.take_shared(instance_, "/one", none).empty()) ::kill(::getpid(), SIGKILL);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(there());
  std::string in_the_way;
  InstanceLock lock;
  EXPECT_EQ(lock.take_shared(instance_, "/two", in_the_way), "");
  EXPECT_EQ(in_the_way, "");
}

// Anybody may make a file of that name: it must neither keep the broker from starting nor be written to.
TEST_F(SharedLock, WhatSomebodyElsePlantedIsSaidAndLeftAlone) {
  if (::geteuid() != 0) GTEST_SKIP() << "not_run: needs root, to plant a file of another user";
  for (const char* kind : {"file", "open to all", "link", "fifo"}) {
    const std::string what = kind;
    ::unlink(path().c_str());
    if (what == "link") {
      ASSERT_EQ(::symlink("/dev/shm/nowhere", path().c_str()), 0);
    } else if (what == "fifo") {
      ASSERT_EQ(::mkfifo(path().c_str(), 0666), 0);
    } else {
      const Descriptor file(::open(path().c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
      ASSERT_EQ(::pwrite(file.get(), "theirs", 6, 0), 6);
      if (what != "file") ASSERT_EQ(::fchmod(file.get(), 0666), 0);
    }
    ASSERT_EQ(::lchown(path().c_str(), 12'345, 12'345), 0);
    {
      std::string in_the_way;
      InstanceLock lock;
      EXPECT_EQ(lock.take_shared(instance_, "/one", in_the_way), "") << what;
      EXPECT_NE(in_the_way.find(path()), std::string::npos) << what;
    }
    EXPECT_TRUE(there()) << what;
    if (what == "file" || what == "open to all") EXPECT_EQ(std::filesystem::file_size(path()), 6u);
  }
}

// A segment of ours that another user has linked to the lock's name would be spoilt by writing to it.
TEST_F(SharedLock, ASegmentLinkedToItsNameIsNotWrittenTo) {
  const std::string segment = "/dev/shm/holdfast." + instance_ + ".lane.0123456789abcdef";
  const Descriptor file(::open(segment.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  ASSERT_TRUE(file);
  ASSERT_EQ(::ftruncate(file.get(), 8192), 0);
  ASSERT_EQ(::link(segment.c_str(), path().c_str()), 0);
  for (const bool alone : {false, true}) {
    if (alone) ASSERT_EQ(::unlink(segment.c_str()), 0);
    std::string in_the_way;
    InstanceLock lock;
    EXPECT_EQ(lock.take_shared(instance_, "/one", in_the_way), "");
    EXPECT_NE(in_the_way, "");
    struct stat status{};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    EXPECT_EQ(status.st_size, 8192);
  }
}

}  // namespace
}  // namespace holdfast::daemon
