// SPDX-License-Identifier: MIT
#include "client/src/failure.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

namespace holdfast::client {

namespace {
thread_local std::string t_sentence;
}

int fail(int code, std::string sentence) {
  t_sentence = std::move(sentence);
  return code;
}

int fail_errno(const std::string& what) {
  const int error = errno;
  return fail(HF_E_SYSTEM, what + ": " + std::strerror(error) + " (errno " + std::to_string(error) + ")");
}

const char* last_failure() { return t_sentence.c_str(); }

}  // namespace holdfast::client
