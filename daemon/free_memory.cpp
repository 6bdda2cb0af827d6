// SPDX-License-Identifier: MIT
#include "daemon/free_memory.hpp"

#include <charconv>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <sys/statvfs.h>

#include "proto/control/descriptor.hpp"

namespace holdfast::daemon {

namespace {

constexpr std::uint64_t kLeftForOthers = std::uint64_t{64} << 20;

std::uint64_t available_bytes() {
  const Descriptor file(::open("/proc/meminfo", O_RDONLY | O_CLOEXEC));
  if (!file) return UINT64_MAX;
  char bytes[4096];
  const ssize_t n = ::read(file.get(), bytes, sizeof bytes);
  if (n <= 0) return UINT64_MAX;
  const std::string_view text(bytes, static_cast<std::size_t>(n));
  constexpr std::string_view kKey = "MemAvailable:";
  std::size_t at = text.find(kKey);
  if (at == std::string_view::npos) return UINT64_MAX;
  at = text.find_first_not_of(' ', at + kKey.size());
  std::uint64_t kibibytes = 0;
  if (at == std::string_view::npos) return UINT64_MAX;
  const auto parsed = std::from_chars(text.data() + at, text.data() + text.size(), kibibytes);
  return parsed.ec == std::errc() ? kibibytes * 1024 : UINT64_MAX;
}

}  // namespace

FreeMemory free_memory() {
  FreeMemory memory{UINT64_MAX, UINT64_MAX, available_bytes()};
  struct statvfs shm{};
  if (::statvfs("/dev/shm", &shm) == 0) {
    memory.shm_total_bytes = std::uint64_t{shm.f_blocks} * shm.f_frsize;
    memory.shm_free_bytes = std::uint64_t{shm.f_bavail} * shm.f_frsize;
  }
  if (memory.machine_free_bytes != UINT64_MAX)
    memory.machine_free_bytes -=
        memory.machine_free_bytes < kLeftForOthers ? memory.machine_free_bytes : kLeftForOthers;
  return memory;
}

}  // namespace holdfast::daemon
