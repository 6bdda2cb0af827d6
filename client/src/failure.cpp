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

// Swapped, not copied: a caller may hold the pointer, and a destructor cannot fail for want of memory. (A move would copy
// a short string into whatever buffer is there.)
KeptSentence::KeptSentence() noexcept { sentence_.swap(t_sentence); }
KeptSentence::~KeptSentence() { t_sentence.swap(sentence_); }

const char* last_failure() { return t_sentence.c_str(); }

}  // namespace holdfast::client
