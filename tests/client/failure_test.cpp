// SPDX-License-Identifier: MIT
//
// Sentences of failures: the last one of the thread, but for those that are nobody's concern.
#include "client/src/failure.hpp"

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

}  // namespace
}  // namespace holdfast::client
