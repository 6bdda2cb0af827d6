// SPDX-License-Identifier: MIT
//
// Lines of the control protocol: reading them within bounds, writing them. Used by the broker and by clients, each on
// its own thread. Nothing here throws, but for running out of memory while a line is built.
//
// Invariants:
//   (1) no document deeper than kDepthMax, and none from a line longer than kLineBytesMax, is ever built.
//   (2) LineBuffer never holds more than kLineBytesMax bytes beyond what was appended last.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include <nlohmann/json.hpp>

#include "proto/control/errors.hpp"

namespace holdfast::control {

inline constexpr std::size_t kLineBytesMax = 65536;  // with its newline
inline constexpr int kDepthMax = 16;                 // nested arrays and objects

struct ParseError {
  std::string sentence;
};

// The document of one line, with or without its newline. No object in it has a member twice.
[[nodiscard]] std::variant<nlohmann::json, ParseError> parse_line(std::string_view line) noexcept;

// Lines to send, each with its newline. Bytes that are not UTF-8 are replaced.
[[nodiscard]] std::string request_line(const nlohmann::json& id, std::string_view method, const nlohmann::json& params);
[[nodiscard]] std::string result_line(const nlohmann::json& id, const nlohmann::json& result);

// `numbers`: an object whose members go into `data`, or null. `data.error` is the failure's name.
[[nodiscard]] std::string error_line(const nlohmann::json& id, Failure failure, std::string_view sentence,
                                     const nlohmann::json& numbers = nullptr);

// Bytes in, lines out.
class LineBuffer {
 public:
  // Adds received bytes. False if they hold, or begin, a line longer than kLineBytesMax: then the peer is wrong, and
  // the lines before that one can still be taken.
  [[nodiscard]] bool append(std::string_view bytes);

  // The next complete line, without its newline.
  [[nodiscard]] std::optional<std::string> next();

  std::size_t size() const { return bytes_.size() - begin_; }

 private:
  std::string bytes_;
  std::size_t begin_ = 0;    // of the first line not taken yet
  std::size_t tail_ = 0;     // of the last line, which lacks its newline
};

}  // namespace holdfast::control
