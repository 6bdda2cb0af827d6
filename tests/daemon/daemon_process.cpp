// SPDX-License-Identifier: MIT
#include "tests/daemon/daemon_process.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/instance_files.hpp"

namespace holdfast::daemon {

namespace {

constexpr int kReadyWithinMs = 60'000;

void exec_daemon(const std::vector<std::string>& launcher, const std::vector<std::string>& arguments,
                 const std::string& log) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& word : launcher) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(const_cast<char*>(HOLDFASTD));
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv.front(), argv.data());
  ::_exit(127);
}

int status_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

DaemonProcess::DaemonProcess() {
  static int count = 0;
  instance_ = "daemon-test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}

DaemonProcess::DaemonProcess(std::string instance) : instance_(std::move(instance)) {}

DaemonProcess::~DaemonProcess() {
  if (pid_ > 0) EXPECT_EQ(stop(SIGTERM), 0) << log();
  const auto left = integration::all_files_of_instance(instance_);
  EXPECT_TRUE(left.empty()) << left.front();
}

bool DaemonProcess::start(std::vector<std::string> arguments, std::uint64_t descriptors_max,
                          const std::vector<std::string>& launcher) {
  return launch(std::move(arguments), descriptors_max, launcher) && ready();
}

bool DaemonProcess::launch(std::vector<std::string> arguments, std::uint64_t descriptors_max,
                           const std::vector<std::string>& launcher) {
  // The place where systemd would listen: the broker says READY=1 there.
  const std::string notify = directory_.file("notify");
  ::unlink(notify.c_str());
  notify_ = Descriptor(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, notify.c_str(), sizeof address.sun_path - 1);
  if (::bind(notify_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return false;
  arguments.insert(arguments.begin(),
                   {"--instance", instance_, "--runtime-dir", directory_.file("run"), "--log-level", "debug"});
  pid_ = ::fork();
  if (pid_ == 0) {
    ::setenv("NOTIFY_SOCKET", notify.c_str(), 1);
    const rlimit limit{descriptors_max, descriptors_max};
    if (descriptors_max != 0) ::setrlimit(RLIMIT_NOFILE, &limit);
    exec_daemon(launcher, arguments, directory_.file("log"));
  }
  return pid_ > 0;
}

bool DaemonProcess::ready() {
  // The daemon closes its end by ending; ask for both.
  for (int waited = 0; waited < kReadyWithinMs; waited += 20) {
    pollfd readable{notify_.get(), POLLIN, 0};
    if (::poll(&readable, 1, 20) > 0) return true;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return false;
    }
  }
  return false;
}

int DaemonProcess::stop(int signal) {
  ::kill(pid_, signal);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
  return status_of(status);
}

std::string DaemonProcess::log() const {
  std::ostringstream text;
  text << std::ifstream(directory_.file("log")).rdbuf();
  return text.str();
}

std::vector<std::string> DaemonProcess::shm_files() const { return integration::files_of_instance(instance_); }

int run_to_end(const std::vector<std::string>& arguments, std::string& output,
               const std::vector<std::string>& launcher) {
  const TemporaryDirectory directory;
  const pid_t pid = ::fork();
  if (pid == 0) exec_daemon(launcher, arguments, directory.file("log"));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  std::ostringstream text;
  text << std::ifstream(directory.file("log")).rdbuf();
  output = text.str();
  return status_of(status);
}

}  // namespace holdfast::daemon
