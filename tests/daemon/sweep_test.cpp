// SPDX-License-Identifier: MIT
//
// Sweeping /dev/shm, with files as brokers before would have left them.
#include "daemon/sweep.hpp"

#include <set>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/instance_lock.hpp"
#include "daemon/segments.hpp"

namespace holdfast::daemon {
namespace {

bool there(const std::string& name) {
  const Descriptor file(::shm_open(("/" + name).c_str(), O_RDONLY | O_CLOEXEC, 0));
  return static_cast<bool>(file);
}

// Files of an instance of this test's own, made by hand.
class Sweep : public testing::Test {
 protected:
  Sweep() : instance_("sweep-" + std::to_string(::getpid()) + "-" + std::to_string(++count_)) {}
  ~Sweep() override {
    for (const std::string& name : names_) remove_segment_file(name);
    if (holder_ > 0) {
      ::kill(holder_, SIGKILL);
      ::waitpid(holder_, nullptr, 0);
    }
  }

  std::string make(const std::string& kind, std::uint32_t session) {
    const std::string name = "holdfast." + instance_ + "." + kind + "." + std::to_string(names_.size());
    const Descriptor file(::shm_open(("/" + name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT_TRUE(file);
    EXPECT_EQ(::ftruncate(file.get(), 4096), 0);
    if (kind == "session") write(file.get(), offsetof(shm::SessionHeader, session), session);
    if (kind == "lane") write(file.get(), offsetof(shm::LaneHeader, session), session);
    names_.push_back(name);
    return name;
  }

  static void write(int fd, std::size_t offset, std::uint32_t value) {
    EXPECT_EQ(::pwrite(fd, &value, sizeof value, static_cast<off_t>(offset)), static_cast<ssize_t>(sizeof value));
  }

  // A process that holds the session lock of this file until it is killed.
  void hold(const std::string& name) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    holder_ = ::fork();
    if (holder_ == 0) {
      const int fd = ::shm_open(("/" + name).c_str(), O_RDWR, 0);
      struct flock lock{};
      lock.l_type = F_WRLCK;
      lock.l_whence = SEEK_SET;
      lock.l_len = 1;
      const char answer = ::fcntl(fd, F_SETLK, &lock) == 0 ? 'y' : 'n';
      if (::write(ready[1], &answer, 1) != 1) ::_exit(1);
      while (true) ::pause();
    }
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
    ASSERT_EQ(answer, 'y');
    ::close(ready[0]);
    ::close(ready[1]);
  }

  static inline int count_ = 0;
  std::string instance_;
  std::vector<std::string> names_;
  pid_t holder_ = -1;
};

TEST_F(Sweep, RemovesWhatNobodyHolds) {
  for (const char* kind : {"session", "lane", "bells", "roster"}) make(kind, 1);
  const Swept swept = sweep(instance_, {});
  EXPECT_EQ(swept.removed, 4U);
  EXPECT_TRUE(swept.left.empty());
  for (const std::string& name : names_) EXPECT_FALSE(there(name));
}

TEST_F(Sweep, LeavesWhatIsAdoptedAndWhatALiveSessionHolds) {
  const std::string session = make("session", 7);
  const std::string bells = make("bells", 7);
  const std::string lane = make("lane", 7);
  const std::string other = make("session", 8);
  const std::string other_lane = make("lane", 8);
  const std::string adopted = make("session", 9);
  const std::string adopted_bells = make("bells", 9);
  const std::string roster = make("roster", 0);
  hold(session);
  const Swept swept = sweep(instance_, {adopted, adopted_bells, roster});
  EXPECT_EQ(swept.removed, 3U) << "two of a session that is gone, and bells that say nothing of theirs";
  ASSERT_EQ(swept.left.size(), 1U);
  EXPECT_EQ(swept.left[0].session, 7U);
  EXPECT_EQ(swept.left[0].records, session);
  EXPECT_TRUE(is_held(swept.left[0]));
  const std::set<std::string> left(swept.left[0].names.begin(), swept.left[0].names.end());
  EXPECT_EQ(left, (std::set<std::string>{session, lane}));
  EXPECT_TRUE(there(lane) && !there(bells));
  EXPECT_TRUE(there(adopted) && there(adopted_bells) && there(roster));
  EXPECT_FALSE(there(other_lane));
}

// Without a registry the headers say whose the files are; bells say nothing, and what maps them keeps them.
TEST_F(Sweep, AsksTheFilesWhereTheRegistryIsLost) {
  const std::string session = make("session", 7);
  const std::string lane = make("lane", 7);
  const std::string bells = make("bells", 7);
  hold(session);
  const Swept swept = sweep(instance_, {});
  EXPECT_EQ(swept.removed, 1U);
  EXPECT_TRUE(there(session) && there(lane));
  EXPECT_FALSE(there(bells));
}

TEST_F(Sweep, OtherInstancesAreNotTouched) {
  const std::string mine = make("lane", 1);
  EXPECT_EQ(sweep(instance_ + "x", {}).removed, 0U);
  EXPECT_EQ(sweep(instance_.substr(0, instance_.size() - 1), {}).removed, 0U);
  EXPECT_TRUE(there(mine));
}

// Two users may have an instance of the same name each.
TEST_F(Sweep, FilesOfOtherUsersAreNotTouched) {
  if (::geteuid() != 0) GTEST_SKIP() << "not_run: needs root, to make a file of another user";
  const std::string theirs = make("session", 1);
  ASSERT_EQ(::lchown(("/dev/shm/" + theirs).c_str(), 12'345, 12'345), 0);
  // Opening it to look would wait for somebody who writes.
  const std::string fifo = "holdfast." + instance_ + ".session.fifo";
  ASSERT_EQ(::mkfifo(("/dev/shm/" + fifo).c_str(), 0666), 0);
  names_.push_back(fifo);
  ASSERT_EQ(::lchown(("/dev/shm/" + fifo).c_str(), 12'345, 12'345), 0);
  const Swept swept = sweep(instance_, {});
  EXPECT_EQ(swept.removed, 0U);
  EXPECT_TRUE(swept.left.empty());
  for (const std::string& name : names_) EXPECT_EQ(::access(("/dev/shm/" + name).c_str(), F_OK), 0);
}

TEST_F(Sweep, TheLockIsNotTouched) {
  InstanceLock lock;
  std::string in_the_way;
  ASSERT_EQ(lock.take_shared(instance_, "/one", in_the_way), "");
  EXPECT_EQ(sweep(instance_, {}).removed, 0U);
  EXPECT_TRUE(there(shared_lock_name(instance_)));
}

TEST_F(Sweep, ALockEndsWithItsProcess) {
  const std::string session = make("session", 7);
  hold(session);
  const Descriptor file(::shm_open(("/" + session).c_str(), O_RDONLY | O_CLOEXEC, 0));
  EXPECT_EQ(lock_holder(file.get()), holder_);
  ::kill(holder_, SIGKILL);
  ::waitpid(holder_, nullptr, 0);
  holder_ = -1;
  EXPECT_EQ(lock_holder(file.get()), -1);
}

TEST_F(Sweep, LeftoversAreHeldAsLongAsTheirLockIs) {
  const Leftover leftover{7, make("session", 7), {}};
  EXPECT_FALSE(is_held(leftover));
  hold(leftover.records);
  EXPECT_TRUE(is_held(leftover));
  remove_segment_file(leftover.records);
  EXPECT_FALSE(is_held(leftover)) << "nobody could ask";
  EXPECT_TRUE(segment_file_is_missing(leftover.records));
}

}  // namespace
}  // namespace holdfast::daemon
