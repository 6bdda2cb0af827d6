// SPDX-License-Identifier: MIT
#include "bench/pinning.hpp"

#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <sched.h>

namespace holdfast::bench {

namespace {

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

// The CPUs that share a core with `cpu`, as the kernel writes them; empty if it does not say.
std::string siblings(int cpu) {
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
  std::string list;
  std::getline(file, list);
  return list;
}

}  // namespace

std::optional<CpuPair> choose_cpus() {
  const std::vector<int> cpus = allowed_cpus();
  if (cpus.size() < 2) return std::nullopt;
  const std::string first = siblings(cpus[0]);
  for (std::size_t i = 1; i < cpus.size(); ++i)
    if (first.empty() || siblings(cpus[i]) != first) return CpuPair{cpus[0], cpus[i]};
  return CpuPair{cpus[0], cpus[1]};
}

void take_cpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
}

}  // namespace holdfast::bench
