// SPDX-License-Identifier: MIT
#include "tests/crash/crash_child.hpp"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace holdfast::crash {

using integration::Broken;

namespace {

constexpr int kChannelFd = 3;  // in the child
constexpr int kReportFd = 4;

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> raw;
  for (std::string& text : texts) raw.push_back(text.data());
  raw.push_back(nullptr);
  return raw;
}

// Between fork() and exec: only calls that are safe there. Both descriptors are above the two that they become.
[[noreturn]] void become_child(char* const* arguments, char* const* environment, int channel, int report,
                               pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  ::dup2(channel, kChannelFd);
  ::dup2(report, kReportFd);
  ::execve(HOLDFAST_CRASH_CHILD, arguments, environment);
  ::_exit(127);
}

Descriptor above(int fd, int lowest) {
  Descriptor moved(::fcntl(fd, F_DUPFD_CLOEXEC, lowest));
  ::close(fd);
  return moved;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Kill& kill) {
  return out << (kill.before ? "before" : "after") << " execution " << kill.nth << " of " << kill.site->name;
}

std::vector<std::string> crash_environment(const std::optional<Kill>& kill, int report_fd) {
  std::vector<std::string> environment{"CRASH_FD=" + std::to_string(report_fd)};
  if (kill) {
    environment.push_back(std::string("CRASH_SITE=") + kill->site->name);
    environment.push_back("CRASH_NTH=" + std::to_string(kill->nth));
    environment.push_back(std::string("CRASH_WHEN=") + (kill->before ? "before" : "after"));
    if (kill->stop) environment.push_back("CRASH_STOP=1");
  }
  return environment;
}

CrashReport read_report(int fd) {
  std::string text;
  char bytes[4096];
  const auto ms = static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(integration::kSoon).count());
  while (true) {
    pollfd readable{fd, POLLIN, 0};
    if (::poll(&readable, 1, ms) <= 0) throw Broken("the process that was to die holds its report open");
    const ssize_t n = ::read(fd, bytes, sizeof bytes);
    if (n <= 0) break;
    text.append(bytes, static_cast<std::size_t>(n));
  }
  CrashReport report;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos)
      report.word += (report.word.empty() ? "" : " ") + word;
    else
      report.count[word.substr(0, equals)] = std::stoull(word.substr(equals + 1));
  }
  return report;
}

CrashChild::CrashChild(const std::vector<std::string>& arguments, const std::optional<Kill>& kill) : kill_(kill) {
  int pair[2];
  int pipe[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 || ::pipe2(pipe, O_CLOEXEC) != 0)
    throw Broken("socketpair or pipe2");
  channel_ = integration::Channel(pair[0]);
  report_.reset(pipe[0]);
  const Descriptor other = above(pair[1], kReportFd + 1);
  const Descriptor report = above(pipe[1], kReportFd + 1);
  std::vector<std::string> all{"crash_child"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = crash_environment(kill, kReportFd);
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (std::strncmp(*entry, "HOLDFAST_", 9) != 0) environment.push_back(*entry);
  const auto raw_arguments = pointers(all);
  const auto raw_environment = pointers(environment);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw Broken("fork");
  if (pid_ == 0) become_child(raw_arguments.data(), raw_environment.data(), other.get(), report.get(), parent);
  pidfd_ = integration::open_pidfd(pid_);
}

CrashChild::~CrashChild() {
  if (reaped_) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

bool CrashChild::wait_for_stop() {
  siginfo_t stopped{};
  return integration::eventually([&] {
    return ::waitid(P_PID, static_cast<id_t>(pid_), &stopped, WSTOPPED | WNOHANG) == 0 && stopped.si_pid == pid_;
  });
}

void CrashChild::go_on() { ::kill(pid_, SIGCONT); }

CrashReport CrashChild::expect_end() {
  const int status = integration::wait_for_exit(pidfd_.get(), pid_);
  reaped_ = true;
  CrashReport report = read_report(report_.get());
  if (kill_ && !kill_->stop) {
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        << "the point did not fire: wait status " << status << ", report '" << report.word << "', executed "
        << report.count[kill_->site->name] << " times";
    EXPECT_EQ(report.word, std::string("died ") + kill_->site->name);
    EXPECT_EQ(report.count[kill_->site->name], kill_->before ? kill_->nth - 1 : kill_->nth);
  } else {
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
    EXPECT_EQ(report.word, "done");
  }
  return report;
}

}  // namespace holdfast::crash
