// SPDX-License-Identifier: MIT
#include "bench/peers/external.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "bench/child.hpp"
#include "bench/peers/byte_stream.hpp"
#include "bench/shared_memory.hpp"

namespace holdfast::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kGoodbyeMs = 5000;

struct PipePair {
  Descriptor read{-1};
  Descriptor write{-1};
};

PipePair make_pipe_pair(int flags) {
  int ends[2];
  if (pipe2(ends, flags) != 0) call_failed("pipe");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

std::string log_path(pid_t pid) { return runtime_folder() + "/external." + std::to_string(pid) + ".log"; }

std::string last_line(const std::string& path) {
  std::ifstream file(path);
  std::string last;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) last = line;
  return last;
}

}  // namespace

// A child that is told on stdin and answers on stdout, line by line. Its stderr goes to a file.
class Program {
 public:
  explicit Program(const std::vector<std::string>& command) {
    PipePair in = make_pipe_pair(O_CLOEXEC);
    PipePair out = make_pipe_pair(O_CLOEXEC);
    pid_ = fork();
    if (pid_ < 0) call_failed("fork");
    if (pid_ == 0) become(command, in.read.get(), out.write.get());
    to_ = std::move(in.write);
    from_ = std::move(out.read);
  }

  void tell(const std::string& line) {
    write_all(to_.get(), reinterpret_cast<const unsigned char*>(line.data()), line.size());
  }

  std::string answer() {
    std::string line;
    for (char letter = 0;;) {
      const ssize_t got = read(from_.get(), &letter, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) cannot("its program ended: " + last_line(log_path(pid_)));
      if (letter == '\n') return line;
      line += letter;
    }
  }

  void wait_until_ready() {
    for (std::string line; (line = answer()) != "ready";)
      if (line.starts_with("cannot ")) cannot(line.substr(7));
  }

  // Completed, nanoseconds.
  std::pair<std::uint64_t, double> block(std::uint64_t count) {
    tell("block " + std::to_string(count) + "\n");
    const std::string line = answer();
    unsigned long long completed = 0;
    double ns = 0;
    if (line.starts_with("cannot ")) cannot(line.substr(7));
    if (std::sscanf(line.c_str(), "%llu %lf", &completed, &ns) != 2) cannot("its program said: " + line);
    return {completed, ns};
  }

  void close_stdin() { to_ = Descriptor(-1); }
  pid_t pid() const { return pid_; }

 private:
  [[noreturn]] static void become(const std::vector<std::string>& command, int in, int out) {
    const int log = open(log_path(getpid()).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    if (log >= 0) dup2(log, STDERR_FILENO);
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    std::fprintf(stderr, "cannot run %s\n", arguments[0]);
    _exit(127);
  }

  pid_t pid_ = -1;
  Descriptor to_{-1};
  Descriptor from_{-1};
};

namespace {

std::vector<std::string> command_of(const External& external, const std::string& role) {
  std::vector<std::string> command = external.command;
  const auto add = [&](const char* key, const std::string& value) {
    command.push_back(std::string(key) + "=" + value);
  };
  add("role", role);
  add("what", external.what);
  add("bytes", std::to_string(external.trip.bytes));
  add("touched", external.trip.touched ? "1" : "0");
  add("wait", external.trip.wait == Wait::kSleep ? "sleep" : "spin");
  add("receivers", std::to_string(external.receivers));
  add("topic", external.topic);
  add("folder", runtime_folder());
  add("prefix", shared_memory_prefix());
  return command;
}

// The programs are grandchildren of the process that makes and destroys this: it knows by `alive_`, whose writing end
// they inherit, when both have ended.
class ExternalWorkload : public Workload {
 public:
  explicit ExternalWorkload(External external) : external_(std::move(external)), alive_(make_pipe_pair(0)) {}

  ~ExternalWorkload() override {
    alive_.write = Descriptor(-1);
    pollfd ended{alive_.read.get(), POLLIN, 0};
    if (poll(&ended, 1, kGoodbyeMs) == 1) return;
    for (const pid_t pid : shared_->pids)
      if (pid > 0) kill(pid, SIGKILL);
  }

  void open(Role role) override {
    const bool leads = role == Role::kLead;
    if (!leads && external_.what == "open") return;
    program_ = std::make_unique<Program>(command_of(external_, leads ? "lead" : "follow"));
    shared_->pids[leads ? 0 : 1] = program_->pid();
    program_->wait_until_ready();
    if (external_.warm_up > 0) (void)program_->block(external_.warm_up);
  }

  std::uint64_t run(Role role, std::uint64_t count) override {
    start_ = Clock::now();
    if (!program_) return count;
    const auto [completed, ns] = program_->block(count);
    if (role == clock_of()) shared_->seconds = ns * 1e-9;
    completed_ = completed;
    return completed;
  }

  // Telling them, and hearing from them.
  double uncounted_seconds() const override {
    const double all = std::chrono::duration<double>(Clock::now() - start_).count();
    return (all - shared_->seconds) / static_cast<double>(completed_) - settling();
  }

 private:
  struct Shared {
    pid_t pids[2];
    double seconds;  // of the last block, by the clock that counts
  };

  Role clock_of() const { return external_.what == "flow" ? Role::kFollow : Role::kLead; }
  double settling() const {
    const bool settles = external_.what == "roundtrip" && external_.trip.wait == Wait::kSleep;
    return settles ? -Settle::seconds_per_round_trip() : 0;
  }

  External external_;
  PipePair alive_;
  SharedMemory<Shared> shared_;
  std::unique_ptr<Program> program_;
  Clock::time_point start_{};
  std::uint64_t completed_ = 1;
};

// It ends by itself when nobody can tell it anything any more.
void dismiss(Program& program) {
  program.close_stdin();
  see_off(program.pid(), kGoodbyeMs);
}

}  // namespace

std::unique_ptr<Workload> external(const External& external) { return std::make_unique<ExternalWorkload>(external); }

PeerFootprint external_footprint(const External& external) {
  Program program(command_of(external, "both"));
  try {
    program.wait_until_ready();
    const std::string process = std::to_string(program.pid());
    const PeerFootprint before = in_use_now(process);
    (void)program.block(kFootprintTopics);
    const PeerFootprint after = in_use_now(process);
    dismiss(program);
    return {.bytes = (after.bytes - before.bytes) / kFootprintTopics,
            .files = (after.files - before.files) / kFootprintTopics,
            .descriptors = (after.descriptors - before.descriptors) / kFootprintTopics};
  } catch (...) {
    dismiss(program);
    throw;
  }
}

Companion::Companion(const std::vector<std::string>& command) : program_(std::make_unique<Program>(command)) {
  try {
    program_->wait_until_ready();
  } catch (...) {
    dismiss(*program_);
    throw;
  }
}
Companion::~Companion() { dismiss(*program_); }

}  // namespace holdfast::bench
