// SPDX-License-Identifier: MIT
#include "tests/integration/own_shm.hpp"

#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/pid_namespace.hpp"
#include "tests/integration/process.hpp"

namespace holdfast::integration {

namespace {

constexpr int kNoNamespace = 77;

void write_file(const char* path, const std::string& text) {
  const Descriptor file(::open(path, O_WRONLY | O_CLOEXEC));
  [[maybe_unused]] const ssize_t written = ::write(file.get(), text.data(), text.size());
}

// Without root: a user namespace in which we keep our own uid.
bool own_mounts() {
  if (::unshare(CLONE_NEWNS) == 0) return true;
  const std::string uid = std::to_string(::getuid());
  const std::string gid = std::to_string(::getgid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", uid + " " + uid + " 1");
  write_file("/proc/self/gid_map", gid + " " + gid + " 1");
  return true;
}

bool own_shm(std::uint64_t bytes) {
  const std::string size = "mode=1777,size=" + std::to_string(bytes);
  return own_mounts() && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, size.c_str()) == 0;
}

[[noreturn]] void run_inside(const std::string& name, const std::string& number) {
  ::setenv(kInside, number.c_str(), 1);
  ::unsetenv("GTEST_OUTPUT");
  const std::string filter = "--gtest_filter=" + name;
  ::execl("/proc/self/exe", "test", filter.c_str(), "--gtest_brief=1", static_cast<char*>(nullptr));
  ::_exit(127);
}

// Runs the current test once more in a child that `begin` makes and `prepare` prepares.
template <class Begin, class Prepare>
bool inside(Begin&& begin, Prepare&& prepare, const char* otherwise) {
  if (std::getenv(kInside) != nullptr) return true;
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string name = std::string(test->test_suite_name()) + "." + test->name();
  const std::string number = own_number();
  const pid_t pid = begin();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!prepare()) ::_exit(kNoNamespace);
    run_inside(name, number);
  }
  const int status = pid < 0 ? W_EXITCODE(kNoNamespace, 0) : wait_for_exit(open_pidfd(pid).get(), pid, 2 * kSoon);
  [&] {
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNoNamespace) GTEST_SKIP() << otherwise;
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "inside it ended with wait status " << status;
  }();
  return false;
}

}  // namespace

bool in_own_shm(std::uint64_t bytes) {
  return inside([] { return ::fork(); }, [bytes] { return own_shm(bytes); },
                "not_run: this machine gives no mount namespace, so /dev/shm cannot be filled safely");
}

bool in_own_pids() {
  return inside(
      fork_into_own_pids, [] { return next_pid_is(2); },
      "not_run: this machine gives no pid namespace in which pids can be chosen");
}

}  // namespace holdfast::integration
