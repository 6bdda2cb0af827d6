// SPDX-License-Identifier: MIT
#include "tests/integration/process.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/integration/pid_namespace.hpp"

namespace holdfast::integration {

namespace {

constexpr int kChannelFd = 3;  // in a role's process

using Run = int (*)(Channel&, const Arguments&);
std::map<std::string, Run>& roles() {
  static auto* registered = new std::map<std::string, Run>;
  return *registered;
}

int poll_ms(nanoseconds within) { return static_cast<int>(std::chrono::duration_cast<milliseconds>(within).count()); }

// In the child between fork() and exec: only calls that are safe there.
[[noreturn]] void become(char* const* arguments, int channel, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  if (channel == kChannelFd)
    ::fcntl(channel, F_SETFD, 0);
  else
    ::dup2(channel, kChannelFd);
  ::execv("/proc/self/exe", arguments);
  ::_exit(127);
}

}  // namespace

void Channel::send(const nlohmann::json& message) {
  const std::string text = message.dump();
  ssize_t n = 0;
  do {
    n = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n < 0) throw Broken(std::string("the other process does not listen: ") + std::strerror(errno));
}

bool Channel::has_message() const {
  pollfd readable{socket_.get(), POLLIN, 0};
  return ::poll(&readable, 1, 0) > 0;
}

nlohmann::json Channel::receive(nanoseconds within) {
  pollfd readable{socket_.get(), POLLIN, 0};
  int polled = 0;
  do {
    polled = ::poll(&readable, 1, poll_ms(within));
  } while (polled < 0 && errno == EINTR);
  if (polled <= 0) throw Broken("nothing heard from the other process in time");
  std::string text(256 * 1024, '\0');
  const ssize_t n = ::recv(socket_.get(), text.data(), text.size(), 0);
  if (n <= 0) return nullptr;
  return nlohmann::json::parse(text.substr(0, static_cast<std::size_t>(n)));
}

Role::Role(const char* name, Run run) { roles()[name] = run; }

bool run_role(int argc, char** argv, int& status) {
  if (argc < 3 || std::strcmp(argv[1], "--role") != 0) return false;
  Channel test(kChannelFd);
  ::fcntl(kChannelFd, F_SETFD, FD_CLOEXEC);
  try {
    status = roles().at(argv[2])(test, Arguments(argv + 3, argv + argc));
  } catch (const std::exception& error) {
    std::cerr << "role " << argv[2] << ": " << error.what() << "\n";
    status = 1;
  }
  return true;
}

Process::Process(const char* role, const Arguments& arguments, bool own_pids) : role_(role) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) throw Broken("socketpair");
  channel_ = Channel(pair[0]);
  const Descriptor other(pair[1]);
  Arguments all{"test", "--role", role};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> raw;
  for (std::string& argument : all) raw.push_back(argument.data());
  raw.push_back(nullptr);
  const pid_t parent = own_pids ? 0 : ::getpid();
  pid_ = own_pids ? fork_into_own_pids() : ::fork();
  if (pid_ < 0 && own_pids) throw NoNamespace();
  if (pid_ < 0) throw Broken("fork");
  if (pid_ == 0) become(raw.data(), other.get(), parent);
  pidfd_ = open_pidfd(pid_);
}

Process::~Process() {
  channel_.close();
  if (waited_) return;
  try {
    const int status = wait();
    EXPECT_TRUE(killed_ || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        << "role " << role_ << " ended with wait status " << status;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "role " << role_ << ": " << error.what();
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

nlohmann::json Process::call(const nlohmann::json& message) {
  channel_.send(message);
  nlohmann::json answer = channel_.receive();
  if (answer.is_null()) throw Broken("role " + role_ + " ended instead of answering " + message.dump());
  return answer;
}

void Process::kill(int signal) {
  ::kill(pid_, signal);
  if (signal == SIGKILL) killed_ = true;
}

int Process::wait() {
  const int status = wait_for_exit(pidfd_.get(), pid_);
  waited_ = true;
  return status;
}

int wait_for_exit(int pidfd, pid_t pid, nanoseconds within) {
  pollfd ended{pidfd, POLLIN, 0};
  int polled = 0;
  do {
    polled = ::poll(&ended, 1, poll_ms(within));
  } while (polled < 0 && errno == EINTR);
  if (polled <= 0) throw Broken("process " + std::to_string(pid) + " does not end");
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

Descriptor open_pidfd(pid_t pid) { return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

}  // namespace holdfast::integration
