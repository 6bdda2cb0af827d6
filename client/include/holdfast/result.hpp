/* SPDX-License-Identifier: MIT */
#ifndef HOLDFAST_RESULT_HPP_
#define HOLDFAST_RESULT_HPP_

#include <cassert>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "holdfast/holdfast.h"

namespace holdfast {
inline namespace v1 {

/// A failure: a stable code (HF_E_*) and a sentence that says what to do.
struct Error {
  int code;
  std::string sentence;

  /// The failure that the C ABI reported last on this thread.
  static Error last(int code) { return {code, hf_last_error()}; }
};

/// What the `_or_throw` forms throw.
class Exception : public std::runtime_error {
 public:
  explicit Exception(Error error)
      : std::runtime_error(std::string(hf_result_name(error.code)) + ": " + error.sentence),
        code_(error.code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A value, or why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const noexcept { return content_.index() == 0; }

  /// Requires: a value is there.
  T& operator*() & { return *checked(); }
  T&& operator*() && { return std::move(*checked()); }
  T* operator->() { return checked(); }

  /// Requires: no value is there.
  const Error& error() const {
    assert(content_.index() == 1);
    return *std::get_if<1>(&content_);
  }

  /// The value, or an Exception.
  T or_throw() && {
    if (content_.index() == 1) throw Exception(std::move(*std::get_if<1>(&content_)));
    return std::move(*std::get_if<0>(&content_));
  }

 private:
  T* checked() {
    assert(content_.index() == 0);
    return std::get_if<0>(&content_);
  }
  std::variant<T, Error> content_;
};

}  // namespace v1
}  // namespace holdfast

#endif /* HOLDFAST_RESULT_HPP_ */
