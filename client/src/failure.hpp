// SPDX-License-Identifier: MIT
//
// Failures of the library: a code for the caller, a sentence for people, kept per thread.
#pragma once

#include <exception>
#include <new>
#include <string>

#include "client/include/holdfast/holdfast.h"

namespace holdfast::client {

// Keeps the sentence for hf_last_error() and returns the code.
[[nodiscard]] int fail(int code, std::string sentence);

// The same for a system call: names it and what errno says.
[[nodiscard]] int fail_errno(const std::string& what);

const char* last_failure();

// While it lives, failures of this thread are nobody's concern: afterwards last_failure() is what it was, at the same
// address. For destructors, which run within somebody's call, and for attempts of the library's own. Nests.
class KeptSentence {
 public:
  KeptSentence() noexcept;
  KeptSentence(const KeptSentence&) = delete;
  KeptSentence& operator=(const KeptSentence&) = delete;
  ~KeptSentence();

 private:
  std::string sentence_;
};

// The one place where exceptions (of allocation, of JSON) turn into codes at the C ABI.
template <class Call>
int guarded(Call&& call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return fail(HF_E_NO_MEMORY, "this process is out of memory");
  } catch (const std::exception& error) {
    return fail(HF_E_SYSTEM, std::string("unexpected: ") + error.what());
  }
}

}  // namespace holdfast::client
