// SPDX-License-Identifier: MIT
#include "proto/control/errors.hpp"

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "client/include/holdfast/holdfast.h"

namespace holdfast::control {
namespace {

TEST(Errors, AreFoundByCodeAndByName) {
  for (const ErrorRow& row : kErrors) {
    EXPECT_EQ(find_error(row.code), &row);
    EXPECT_EQ(find_error(row.name), &row);
    EXPECT_EQ(&error_row(row.failure), &row);
  }
  EXPECT_EQ(find_error(0), nullptr);
  EXPECT_EQ(find_error("nothing"), nullptr);
}

TEST(Errors, AreDistinct) {
  std::set<int> codes;
  std::set<std::string> names;
  for (const ErrorRow& row : kErrors) {
    EXPECT_TRUE(codes.insert(row.code).second);
    EXPECT_TRUE(names.insert(std::string(row.name)).second);
  }
}

TEST(Errors, HaveTheNumbersOfTheCInterface) {
  const std::pair<Failure, int> expected[] = {
      {Failure::kParse, HF_E_PROTOCOL},     {Failure::kRequest, HF_E_PROTOCOL},   {Failure::kMethod, HF_E_PROTOCOL},
      {Failure::kInvalid, HF_E_INVALID},    {Failure::kDenied, HF_E_DENIED},      {Failure::kNotFound, HF_E_NOT_FOUND},
      {Failure::kExists, HF_E_EXISTS},      {Failure::kMismatch, HF_E_MISMATCH},  {Failure::kQuota, HF_E_QUOTA},
      {Failure::kNoMemory, HF_E_NO_MEMORY}, {Failure::kBusy, HF_E_BUSY},          {Failure::kVersion, HF_E_VERSION},
      {Failure::kHello, HF_E_PROTOCOL},     {Failure::kDraining, HF_E_NO_BROKER}, {Failure::kSystem, HF_E_SYSTEM},
  };
  EXPECT_EQ(std::size(expected), kErrorCount);
  for (const auto& [failure, number] : expected) EXPECT_EQ(error_row(failure).c_abi, number);
}

}  // namespace
}  // namespace holdfast::control
