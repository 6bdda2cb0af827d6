// SPDX-License-Identifier: MIT
#include "client/cli/environment.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "client/cli/files.hpp"
#include "client/cli/text.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::cli {

namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;
// A topic with large samples takes some; containers give 64 MiB unless they are told.
constexpr std::uint64_t kShmBytesMin = 256 * kMiB;
constexpr std::uint64_t kMapsMin = 65530;
constexpr std::uint64_t kDescriptorsMin = 1024;
// What a client reserves for one lane by default, and a few of them.
constexpr std::uint64_t kAddressBytesMin = 4096 * 8 * kMiB;

Check pass(const char* name, std::string found) { return {name, Verdict::kPass, std::move(found), {}}; }
Check warn(const char* name, std::string found, std::string fix) {
  return {name, Verdict::kWarn, std::move(found), std::move(fix)};
}
Check fail(const char* name, std::string found, std::string fix) {
  return {name, Verdict::kFail, std::move(found), std::move(fix)};
}

std::uint64_t proc_number(const char* path) { return std::strtoull(read_proc(path).c_str(), nullptr, 10); }

Check check_kernel() {
  utsname name{};
  ::uname(&name);
  char* end = nullptr;
  const unsigned long major = std::strtoul(name.release, &end, 10);
  const unsigned long minor = *end == '.' ? std::strtoul(end + 1, nullptr, 10) : 0;
  const std::string found = std::string("Linux ") + name.release;
  const auto at_least = [&](unsigned long a, unsigned long b) { return major > a || (major == a && minor >= b); };
  if (!at_least(6, 1)) return fail("kernel", found, "Use Linux 6.1 or later.");
  if (!at_least(6, 5))
    return warn("kernel", found + ", no pidfd of a socket's peer (6.5)",
                "It works; the broker notices a death by its lock instead. Linux 6.5 is quicker.");
  return pass("kernel", found);
}

Check check_page_size() {
  const long bytes = ::sysconf(_SC_PAGESIZE);
  if (bytes == static_cast<long>(shm::kPage)) return pass("page size", std::to_string(bytes) + " bytes");
  return fail("page size", std::to_string(bytes) + " bytes",
              "Holdfast is built for pages of 4096 bytes: use such a kernel.");
}

std::vector<Check> check_shm() {
  struct statfs status{};
  if (::statfs("/dev/shm", &status) != 0)
    return {fail("/dev/shm", std::strerror(errno), "Mount it: mount -t tmpfs tmpfs /dev/shm")};
  if (static_cast<std::uint64_t>(status.f_type) != TMPFS_MAGIC)
    return {fail("/dev/shm", "is not a tmpfs", "Mount one there: mount -t tmpfs tmpfs /dev/shm")};
  const auto block = static_cast<std::uint64_t>(status.f_bsize);
  const std::uint64_t total = status.f_blocks * block;
  const std::uint64_t free = status.f_bavail * block;
  std::vector<Check> checks;
  const char* resize = "Enlarge it: mount -o remount,size=4G /dev/shm; for a container: --shm-size 4g";
  // 0 blocks: a tmpfs without a limit.
  if (total != 0 && total < kShmBytesMin)
    checks.push_back(warn("/dev/shm size", human_bytes(total), resize));
  else
    checks.push_back(pass("/dev/shm size", total == 0 ? "no limit" : human_bytes(total)));
  if (total != 0 && free < total / 10)
    checks.push_back(warn("/dev/shm free", human_bytes(free) + " of " + human_bytes(total),
                          "See who holds it (holdfast holders, ls -l /dev/shm), or enlarge it."));
  else
    checks.push_back(pass("/dev/shm free", total == 0 ? "no limit" : human_bytes(free)));
  return checks;
}

Check check_maps() {
  const std::uint64_t maps = proc_number("/proc/sys/vm/max_map_count");
  const std::string found = std::to_string(maps);
  if (maps >= kMapsMin) return pass("vm.max_map_count", found);
  return warn("vm.max_map_count", found,
              "A broker maps every lane and session: sysctl -w vm.max_map_count=" + std::to_string(kMapsMin));
}

Check check_overcommit() {
  const std::uint64_t mode = proc_number("/proc/sys/vm/overcommit_memory");
  if (mode != 2) return pass("vm.overcommit_memory", std::to_string(mode));
  return warn("vm.overcommit_memory", "2: shared memory counts against the commit limit",
              "Expect no_memory before /dev/shm is full, or: sysctl -w vm.overcommit_memory=0");
}

Check check_descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string found = "soft " + std::to_string(limit.rlim_cur) + ", hard " + std::to_string(limit.rlim_max);
  if (limit.rlim_cur >= kDescriptorsMin) return pass("open files", found);
  return warn("open files", found,
              "Raise it: ulimit -n " + std::to_string(kDescriptorsMin) + "; for the broker: LimitNOFILE= in its unit");
}

Check check_address_space() {
  rlimit limit{};
  ::getrlimit(RLIMIT_AS, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) return pass("address space", "no limit");
  const std::string found = "limited to " + human_bytes(limit.rlim_cur);
  if (limit.rlim_cur >= kAddressBytesMin) return pass("address space", found);
  return fail("address space", found, "A lane reserves 8 GiB of addresses, not of memory: ulimit -v unlimited");
}

Check check_membarrier() {
  if (shm::register_membarrier()) return pass("membarrier", "works");
  return warn("membarrier", "refused by the kernel or a system-call filter",
              "It works, slower: publishers use full fences. Allow the system call membarrier.");
}

}  // namespace

std::vector<Check> check_environment() {
  std::vector<Check> checks{check_kernel(), check_page_size()};
  for (Check& check : check_shm()) checks.push_back(std::move(check));
  for (const Check& check :
       {check_maps(), check_overcommit(), check_descriptors(), check_address_space(), check_membarrier()})
    checks.push_back(check);
  return checks;
}

}  // namespace holdfast::cli
