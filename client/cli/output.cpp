// SPDX-License-Identifier: MIT
#include "client/cli/output.hpp"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/interrupt.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {

constexpr int kSchema = 1;

std::string line_of(nlohmann::json object) {
  object["schema"] = kSchema;
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::size_t number_in(const char* variable) {
  const char* text = std::getenv(variable);
  std::size_t number = 0;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
}

Screen screen_at(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) size = {};
  std::size_t columns = number_in("COLUMNS");
  std::size_t rows = number_in("LINES");
  if (columns == 0) columns = size.ws_col != 0 ? size.ws_col : 80;
  if (rows == 0) rows = size.ws_row != 0 ? size.ws_row : 24;
  return {columns, rows};
}

}  // namespace

bool keep_standard_descriptors() {
  // open() takes the lowest number that is free.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDONLY) != fd) return false;
  return true;
}

void write_out(const void* bytes, std::size_t count) {
  const auto* at = static_cast<const char*>(bytes);
  while (count > 0) {
    end_if_interrupted();
    const ssize_t written = ::write(STDOUT_FILENO, at, count);
    if (written >= 0) {
      at += written;
      count -= static_cast<std::size_t>(written);
    } else if (errno == EPIPE) {
      throw Ended{0};
    } else if (errno != EINTR && errno != EAGAIN) {
      const bool closed = errno == EBADF;
      throw Failed(
          Exit::kFailure, "system",
          std::string("standard output cannot be written: ") + std::strerror(errno) +
              (closed ? "; it is closed: give it a file, a pipe or /dev/null" : "; give it a place with room"));
    }
  }
}

void say(std::string_view text) {
  const std::string line = std::string(text) + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void print_json(nlohmann::json object) { print(line_of(std::move(object))); }

void print_failure(const Failed& failure, bool json) {
  if (!json)
    return say(wrapped("holdfast: " + printable(failure.what()), 0,
                       is_terminal(STDERR_FILENO) ? screen_at(STDERR_FILENO).columns : 0));
  const std::string line =
      line_of({{"error", failure.error()}, {"message", failure.what()}, {"exit", static_cast<int>(failure.exit())}});
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

bool is_terminal(int fd) { return ::isatty(fd) == 1; }

Screen screen() { return screen_at(STDOUT_FILENO); }

}  // namespace holdfast::cli
