// SPDX-License-Identifier: MIT
//
// The test program: GoogleTest, or one of the roles that its tests start as processes of their own.
#include <gtest/gtest.h>

#include "tests/integration/process.hpp"

int main(int argc, char** argv) {
  int status = 0;
  if (holdfast::integration::run_role(argc, argv, status)) return status;
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
