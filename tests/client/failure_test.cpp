// SPDX-License-Identifier: MIT
//
// Sentences of failures: the last one of the thread, but for those that are nobody's concern.
#include "client/src/failure.hpp"

#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

TEST(Failure, SentenceIsTheThreadsLast) {
  EXPECT_EQ(fail(HF_E_INVALID, "one"), HF_E_INVALID);
  EXPECT_EQ(fail(HF_E_CLOSED, "two"), HF_E_CLOSED);
  std::thread([] { EXPECT_STREQ(last_failure(), ""); }).join();
  EXPECT_STREQ(last_failure(), "two");
}

TEST(Failure, KeptSentenceIsThereAgainAtTheSameAddress) {
  for (const std::string& sentence : {std::string("short"), std::string(200, 'x'), std::string()}) {
    (void)fail(HF_E_INVALID, sentence);
    const char* const address = last_failure();
    {
      const KeptSentence kept;
      (void)fail(HF_E_NO_BROKER, std::string(300, 'y'));
      const KeptSentence nested;
      (void)fail(HF_E_NO_BROKER, "z");
    }
    EXPECT_EQ(last_failure(), sentence);
    EXPECT_EQ(last_failure(), address);
  }
}

TEST(Failure, KeepsItsSentenceAndGivesItsCode) {
  EXPECT_EQ(fail(HF_E_INVALID, "a sentence"), HF_E_INVALID);
  EXPECT_STREQ(last_failure(), "a sentence");
  errno = EBADF;
  EXPECT_EQ(fail_errno("a call"), HF_E_SYSTEM);
  EXPECT_NE(std::string(last_failure()).find("a call: Bad file descriptor (errno 9)"), std::string::npos);
}

TEST(Failure, ExceptionsBecomeCodes) {
  EXPECT_EQ(guarded([]() -> int { return 7; }), 7);
  EXPECT_EQ(guarded([]() -> int { throw std::bad_alloc(); }), HF_E_NO_MEMORY);
  EXPECT_EQ(guarded([]() -> int { throw std::runtime_error("odd"); }), HF_E_SYSTEM);
  EXPECT_NE(std::string(last_failure()).find("odd"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::client
