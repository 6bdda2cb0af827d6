// SPDX-License-Identifier: MIT
//
// A descriptor that closes itself, and whole files in and out. Any thread; failures are thrown and name the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace holdfast::cli {

class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~File();

  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

// For reading.
File open_file(const std::string& path);

// Up to `count` bytes; fewer at the end of the file only. `path` is for the message.
std::size_t read_some(int fd, void* bytes, std::size_t count, const std::string& path);

// Reads to the end.
std::string read_all(int fd, const std::string& path);

// Creates `path`, which must not exist, with this content, or leaves nothing behind.
void write_file(const std::string& path, const void* bytes, std::size_t count);

// The content of a small file of /proc, or "".
std::string read_proc(const std::string& path);

}  // namespace holdfast::cli
