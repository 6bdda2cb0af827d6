// SPDX-License-Identifier: MIT
#include "client/cli/files.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "client/cli/interrupt.hpp"
#include "client/cli/outcome.hpp"

namespace holdfast::cli {

namespace {

[[noreturn]] void failed(const std::string& path, const char* what, int error) {
  const Exit exit = error == ENOENT                     ? Exit::kNotFound
                    : error == EACCES || error == EPERM ? Exit::kDenied
                                                        : Exit::kFailure;
  throw Failed(exit,
               exit == Exit::kNotFound ? "not_found"
               : exit == Exit::kDenied ? "denied"
                                       : "system",
               path + " cannot be " + what + ": " + std::strerror(error));
}

}  // namespace

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

File open_file(const std::string& path) {
  while (true) {
    File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.fd() >= 0) return file;
    if (errno != EINTR) failed(path, "opened", errno);
    end_if_interrupted();
  }
}

std::size_t read_some(int fd, void* bytes, std::size_t count, const std::string& path) {
  std::size_t got = 0;
  while (got < count) {
    wait_readable(fd, -1);
    const ssize_t n = ::read(fd, static_cast<char*>(bytes) + got, count - got);
    if (n == 0) break;
    if (n > 0)
      got += static_cast<std::size_t>(n);
    else if (errno != EINTR)
      failed(path, "read", errno);
  }
  return got;
}

std::string read_all(int fd, const std::string& path) {
  constexpr std::size_t kStep = 65536;
  std::string content;
  while (true) {
    const std::size_t had = content.size();
    const std::size_t step = had < kStep ? kStep : had;
    content.resize(had + step);
    const std::size_t got = read_some(fd, content.data() + had, step, path);
    content.resize(had + got);
    if (got < step) return content;
  }
}

void write_file(const std::string& path, const void* bytes, std::size_t count) {
  const File file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (file.fd() < 0) failed(path, "created", errno);
  try {
    for (std::size_t done = 0; done < count;) {
      end_if_interrupted();
      const ssize_t n = ::write(file.fd(), static_cast<const char*>(bytes) + done, count - done);
      if (n >= 0)
        done += static_cast<std::size_t>(n);
      else if (errno != EINTR)
        failed(path, "written", errno);
    }
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

std::string read_proc(const std::string& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd() < 0) return {};
  std::string content;
  char bytes[4096];
  while (true) {
    const ssize_t n = ::read(file.fd(), bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return content;
    content.append(bytes, static_cast<std::size_t>(n));
  }
}

}  // namespace holdfast::cli
