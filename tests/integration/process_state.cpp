// SPDX-License-Identifier: MIT
#include "tests/integration/process_state.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <sys/socket.h>
#include <sys/un.h>

#include "tests/integration/within.hpp"

namespace holdfast::integration {

namespace {

std::vector<MappedRange> read_maps() {
  std::vector<MappedRange> ranges;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    MappedRange range;
    std::istringstream fields(line);
    std::string offset, device, inode;
    char dash = 0;
    fields >> std::hex >> range.begin >> dash >> range.end >> range.access >> offset >> device >> inode >> std::ws;
    std::getline(fields, range.path);
    ranges.push_back(std::move(range));
  }
  return ranges;
}

}  // namespace

std::vector<MappedRange> mapped_segments() {
  std::vector<MappedRange> segments;
  for (MappedRange& range : read_maps()) {
    if (range.path.find("/dev/shm/holdfast.") == std::string::npos && range.path.find("/memfd:") == std::string::npos)
      continue;
    if (!segments.empty() && segments.back().end == range.begin && segments.back().path == range.path &&
        segments.back().access == range.access)
      segments.back().end = range.end;
    else
      segments.push_back(std::move(range));
  }
  return segments;
}

MappedRange mapping_of(const void* address) {
  const auto at = reinterpret_cast<std::uint64_t>(address);
  for (MappedRange& range : mapped_segments())
    if (range.begin <= at && at < range.end) return range;
  throw Broken("the address lies in no segment");
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

std::size_t mapping_count() { return mapped_segments().size(); }

int connection_to(const std::string& path) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename().string());
    sockaddr_un address{};
    socklen_t bytes = sizeof address;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &bytes) == 0 && address.sun_family == AF_UNIX &&
        path == address.sun_path)
      return fd;
  }
  return -1;
}

}  // namespace holdfast::integration
