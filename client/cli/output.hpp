// SPDX-License-Identifier: MIT
//
// Standard input, output and error. A closed pipe ends the command quietly (Ended{0}); any other failure to write is
// Failed. Main thread.
#pragma once

#include <cstddef>
#include <string_view>

#include <nlohmann/json.hpp>

#include "client/cli/outcome.hpp"

namespace holdfast::cli {

// First of all: what we open later must never become our standard input, output or error. Those that are closed become
// /dev/null, open for reading: closed input is empty, and a write to closed output fails with EBADF, as it did before.
// False: there is no /dev/null.
[[nodiscard]] bool keep_standard_descriptors();

// All of it, or an exception.
void write_out(const void* bytes, std::size_t count);
inline void print(std::string_view text) { write_out(text.data(), text.size()); }

// A line for people, on standard error.
void say(std::string_view text);

// One object, one line, "schema":1 among its members.
void print_json(nlohmann::json object);

// The end of a command that failed.
void print_failure(const Failed& failure, bool json);

bool is_terminal(int fd);

struct Screen {
  std::size_t columns;
  std::size_t rows;
};
// Of the terminal at standard output; COLUMNS and LINES go first; 80 by 24 where neither says anything.
Screen screen();

}  // namespace holdfast::cli
