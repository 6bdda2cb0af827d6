// SPDX-License-Identifier: MIT
//
// What an instance has in /dev/shm.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <sys/stat.h>

namespace holdfast::integration {

// Their names, without the directory: the segments, and the lock of a broker that runs or was killed.
inline std::vector<std::string> all_files_of_instance(const std::string& instance) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
    if (entry.path().filename().string().starts_with("holdfast." + instance + "."))
      names.push_back(entry.path().filename().string());
  return names;
}

// The segments alone.
inline std::vector<std::string> files_of_instance(const std::string& instance) {
  std::vector<std::string> names = all_files_of_instance(instance);
  std::erase_if(names, [&](const std::string& name) { return name.starts_with("holdfast." + instance + ".lock."); });
  return names;
}

// The memory that they take.
inline std::uint64_t bytes_of_instance(const std::string& instance) {
  std::uint64_t bytes = 0;
  for (const std::string& file : files_of_instance(instance)) {
    struct stat status{};
    if (::stat(("/dev/shm/" + file).c_str(), &status) == 0) bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  return bytes;
}

}  // namespace holdfast::integration
