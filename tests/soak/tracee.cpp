// SPDX-License-Identifier: MIT
#include "tests/soak/tracee.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <string>

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

namespace holdfast::soak {

using integration::Broken;

namespace {

// An instruction that stops who comes to it, and how far behind it he is then.
#if defined(__x86_64__)
constexpr std::uint64_t kTrap = 0xcc;
constexpr std::uint64_t kTrapMask = 0xff;
constexpr std::uint64_t kTrapPassed = 1;
auto& instruction_pointer(auto& registers) { return registers.rip; }
#elif defined(__aarch64__)
constexpr std::uint64_t kTrap = 0xd4200000;
constexpr std::uint64_t kTrapMask = 0xffffffff;
constexpr std::uint64_t kTrapPassed = 0;
auto& instruction_pointer(auto& registers) { return registers.pc; }
#endif

void* at(std::uint64_t address) { return reinterpret_cast<void*>(address); }

}  // namespace

Tracee::Stop Tracee::resume(int request) {
  if (::ptrace(static_cast<__ptrace_request>(request), child_.pid(), nullptr, at(static_cast<unsigned>(signal_))) !=
          0 &&
      errno != ESRCH)
    throw Broken("a worker cannot be traced");
  signal_ = 0;
  const int stopped_by = child_.await_stop();
  if (stopped_by == 0) return Stop::kEnded;
  if (stopped_by == SIGTRAP) return Stop::kAtInstruction;
  if (stopped_by == SIGSTOP) return Stop::kByItself;
  signal_ = stopped_by;
  return resume(request);
}

Tracee::Stop Tracee::begin() {
  const int stopped_by = child_.await_stop();
  if (stopped_by == 0) return Stop::kEnded;
  if (stopped_by != SIGSTOP) throw Broken("a worker stopped with signal " + std::to_string(stopped_by));
  ::ptrace(PTRACE_SETOPTIONS, child_.pid(), nullptr, at(PTRACE_O_EXITKILL));
  find_code();
  return Stop::kByItself;
}

Tracee::Stop Tracee::step() { return resume(PTRACE_SINGLESTEP); }

Tracee::Stop Tracee::go_to(std::uint64_t place) {
  const std::uint64_t address = code_begin_ + place;
  errno = 0;
  const auto instruction = static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKTEXT, child_.pid(), at(address), nullptr));
  if (errno != 0) throw Broken("the code of a worker cannot be read");
  const std::uint64_t trap = (instruction & ~kTrapMask) | kTrap;
  if (::ptrace(PTRACE_POKETEXT, child_.pid(), at(address), at(trap)) != 0)
    throw Broken("the code of a worker cannot be changed");
  const Stop stop = resume(PTRACE_CONT);
  if (stop == Stop::kEnded) return stop;
  ::ptrace(PTRACE_POKETEXT, child_.pid(), at(address), at(instruction));
  if (stop != Stop::kAtInstruction) return stop;
  user_regs_struct registers = this->registers();
  instruction_pointer(registers) -= kTrapPassed;
  iovec all{&registers, sizeof registers};
  ::ptrace(PTRACE_SETREGSET, child_.pid(), at(NT_PRSTATUS), &all);
  return stop;
}

void Tracee::let_go() { ::ptrace(PTRACE_DETACH, child_.pid(), nullptr, nullptr); }

user_regs_struct Tracee::registers() const {
  user_regs_struct registers{};
  iovec all{&registers, sizeof registers};
  if (::ptrace(PTRACE_GETREGSET, child_.pid(), at(NT_PRSTATUS), &all) != 0)
    throw Broken("the registers of a worker cannot be read");
  return registers;
}

std::uint64_t Tracee::where() const {
  auto registers = this->registers();
  const std::uint64_t now = instruction_pointer(registers);
  return now >= code_begin_ && now < code_end_ ? now - code_begin_ : kElsewhere;
}

void Tracee::find_code() {
  std::ifstream mappings("/proc/" + std::to_string(child_.pid()) + "/maps");
  for (std::string line; std::getline(mappings, line);) {
    if (line.find("/libholdfast.so") == std::string::npos || line.find(" r-xp ") == std::string::npos) continue;
    unsigned long begin = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) != 2) continue;
    code_begin_ = begin;
    code_end_ = end;
    return;
  }
  throw Broken("a worker has no code of libholdfast");
}

}  // namespace holdfast::soak
