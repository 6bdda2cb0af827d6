// SPDX-License-Identifier: MIT
#include "tests/integration/broker.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/integration/instance_files.hpp"
#include "tests/integration/own_shm.hpp"
#include "tests/integration/pid_namespace.hpp"
#include "tests/integration/process.hpp"

namespace holdfast::integration {

namespace {

std::string make_directory() {
  std::string name = "/tmp/holdfast-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw Broken("mkdtemp");
  ::chmod(name.c_str(), 0755);  // the tests of other users reach the socket
  return name;
}

std::string fresh_instance() {
  static std::atomic<int> next{0};
  return "it-" + own_number() + "-" + std::to_string(next++);
}

Descriptor open_notify(const std::string& path) {
  Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  ::unlink(path.c_str());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw Broken(std::string("bind ") + path + ": " + std::strerror(errno));
  return socket;
}

// Another build of the broker: HOLDFAST_TEST_BROKER.
const char* broker_program() {
  const char* given = std::getenv("HOLDFAST_TEST_BROKER");
  return given != nullptr ? given : HOLDFASTD;
}

// What a broker is started with.
struct Start {
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<Descriptor> passed;  // by LISTEN_FDS, out of the way of the numbers that they get
};

constexpr int kPassedFirst = 3;  // SD_LISTEN_FDS_START
const std::string kListenPid = "LISTEN_PID=";

// In the child between fork() and exec: only calls that are safe there. `listen_pid`: where its pid is to be written.
[[noreturn]] void become_broker(const char* program, char* const* arguments, char* const* environment,
                                const std::vector<Descriptor>& passed, char* listen_pid, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // so that it leaves nothing when the test is killed
  if (::getppid() != parent) ::_exit(1);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  for (std::size_t i = 0; i < passed.size(); ++i) ::dup2(passed[i].get(), kPassedFirst + static_cast<int>(i));
  if (listen_pid != nullptr) {
    char digits[16];
    std::size_t count = 0;
    for (pid_t left = ::getpid(); left > 0; left /= 10) digits[count++] = static_cast<char>('0' + left % 10);
    while (count > 0) *listen_pid++ = digits[--count];
    *listen_pid = '\0';
  }
  ::execve(program, arguments, environment);
  ::_exit(127);
}

// As systemd passes what it keeps.
void pass_kept(FdKeeper& keeper, Start& start) {
  std::string names;
  auto kept = keeper.duplicates();
  const int above = kPassedFirst + static_cast<int>(kept.size());
  for (const auto& [name, fd] : kept) {
    names += (names.empty() ? "" : ":") + name;
    start.passed.emplace_back(::fcntl(fd.get(), F_DUPFD_CLOEXEC, above));
    if (!start.passed.back()) throw Broken("no descriptor to pass");
  }
  start.environment.push_back("FDSTORE=" + std::to_string(keeper.limit()));
  if (kept.empty()) return;
  start.environment.push_back("LISTEN_FDS=" + std::to_string(kept.size()));
  start.environment.push_back("LISTEN_FDNAMES=" + names);
  start.environment.push_back(kListenPid + std::string(16, ' '));
}

// Our environment, without what would tell the broker to be another one.
std::vector<std::string> broker_environment(const std::string& notify) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (text.rfind("HOLDFAST_", 0) != 0 && text.rfind("NOTIFY_SOCKET=", 0) != 0 && text.rfind("LISTEN_", 0) != 0 &&
        text.rfind("WATCHDOG_", 0) != 0 && text.rfind("FDSTORE=", 0) != 0)
      environment.push_back(text);
  }
  environment.push_back("NOTIFY_SOCKET=" + notify);
  return environment;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> raw;
  for (std::string& text : texts) raw.push_back(text.data());
  raw.push_back(nullptr);
  return raw;
}

}  // namespace

PrivateBroker::PrivateBroker(const std::string& configuration, bool own_pids, std::size_t stored_max)
    : directory_(make_directory()),
      instance_(fresh_instance()),
      own_pids_(own_pids) {
  if (stored_max > 0) keeper_ = std::make_unique<FdKeeper>(directory_ + "/keeper", stored_max);
  if (!configuration.empty()) {
    configuration_ = directory_ + "/holdfast.toml";
    std::ofstream(configuration_) << configuration;
  }
  try {
    start();
  } catch (...) {
    std::filesystem::remove_all(directory_);
    throw;
  }
}

PrivateBroker::~PrivateBroker() {
  try {
    if (!running()) start();  // it sweeps what is left
    const int status = stop();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "holdfastd ended with wait status " << status;
    if (keeper_) EXPECT_EQ(keeper_->names(), std::vector<std::string>()) << "left in the descriptor store";
    const auto left = all_files_of_instance(instance_);
    EXPECT_TRUE(left.empty()) << left.size() << " files left in /dev/shm, such as " << left.front();
    for (const std::string& file : left) std::filesystem::remove("/dev/shm/" + file);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "the broker's end: " << error.what();
    if (running()) kill();
  }
  if (::testing::Test::HasFailure()) std::fprintf(stderr, "---- the broker's log\n%s----\n", log().c_str());
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void PrivateBroker::start() {
  const std::string notify_path = keeper_ ? keeper_->path() : directory_ + "/notify";
  const Descriptor notify = keeper_ ? Descriptor() : open_notify(notify_path);
  Start with;
  with.arguments = {"holdfastd", "--instance", instance_, "--runtime-dir", directory_};
  if (!configuration_.empty()) with.arguments.insert(with.arguments.end(), {"--config", configuration_});
  with.environment = broker_environment(notify_path);
  if (keeper_) pass_kept(*keeper_, with);
  const auto raw_arguments = pointers(with.arguments);
  const auto raw_environment = pointers(with.environment);
  char* const listen_pid = with.passed.empty() ? nullptr : with.environment.back().data() + kListenPid.size();
  const Descriptor log(::open((directory_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const char* program = broker_program();
  const pid_t parent = own_pids_ ? 0 : ::getpid();
  pid_ = own_pids_ ? fork_into_own_pids() : ::fork();
  if (pid_ < 0 && own_pids_) throw NoNamespace();
  if (pid_ < 0) throw Broken("fork");
  if (pid_ == 0)
    become_broker(program, raw_arguments.data(), raw_environment.data(), with.passed, listen_pid, log.get(), parent);
  pidfd_ = open_pidfd(pid_);
  wait_until_ready(notify.get());
}

void PrivateBroker::wait_until_ready(int notify) {
  while (true) {
    pollfd either[2] = {{keeper_ ? keeper_->ready_fd() : notify, POLLIN, 0}, {pidfd_.get(), POLLIN, 0}};
    const auto ms = static_cast<int>(std::chrono::duration_cast<milliseconds>(kSoon).count());
    const int polled = ::poll(either, 2, ms);
    if (polled < 0 && errno == EINTR) continue;
    if (polled <= 0 || (either[0].revents == 0 && either[1].revents != 0)) {
      kill();
      throw Broken(std::string(polled <= 0 ? "holdfastd does not get ready" : "holdfastd ended") + ":\n" + log());
    }
    if (keeper_) return keeper_->take_ready();
    char text[4096];
    const ssize_t n = ::recv(notify, text, sizeof text, 0);
    if (n > 0 && std::string(text, static_cast<std::size_t>(n)).find("READY=1") != std::string::npos) return;
  }
}

void PrivateBroker::kill() { end_by(SIGKILL); }

void PrivateBroker::pause() {
  ::kill(pid_, SIGSTOP);
  siginfo_t stopped{};
  ::waitid(P_PID, static_cast<id_t>(pid_), &stopped, WSTOPPED);
}

void PrivateBroker::resume() { ::kill(pid_, SIGCONT); }

int PrivateBroker::stop() { return end_by(SIGTERM); }

int PrivateBroker::hand_over() { return end_by(SIGUSR1); }

int PrivateBroker::end_by(int signal) {
  ::kill(pid_, signal);
  ::kill(pid_, SIGCONT);  // of a test that failed while it was paused
  const int status = wait_for_exit(pidfd_.get(), pid_);
  pid_ = -1;
  if (keeper_) keeper_->settle();
  return status;
}

Client PrivateBroker::client(const char* name, nanoseconds timeout) const {
  ClientOptions options;
  options.socket = socket();
  options.name = name;
  options.timeout = timeout;
  return Client::connect_or_throw(options);
}

nlohmann::json PrivateBroker::request(const char* method, const nlohmann::json& params) const {
  return RawControl(socket()).request(method, params).result();
}

nlohmann::json PrivateBroker::topic(const std::string& name) const {
  const nlohmann::json topics = request("topics", {{"name", name}})["topics"];
  if (topics.size() != 1) throw Broken("topic " + name + " is not there");
  return topics[0];
}

std::vector<std::string> PrivateBroker::shm_files() const { return files_of_instance(instance_); }

std::uint64_t PrivateBroker::shm_bytes() const { return bytes_of_instance(instance_); }

std::string PrivateBroker::log() const {
  std::ostringstream text;
  text << std::ifstream(directory_ + "/log").rdbuf();
  return text.str();
}

nlohmann::json resources(const PrivateBroker& broker) {
  const nlohmann::json stats = broker.stats();
  nlohmann::json counts;
  for (const char* name : {"sessions", "topics", "lanes", "publishers", "subscribers", "segments", "segment_bytes"})
    counts[name] = stats.at(name);
  return counts;
}

}  // namespace holdfast::integration
