// SPDX-License-Identifier: MIT
//
// How the command ends. Everything that goes wrong is thrown as `Failed` and printed once, in main(); `Ended` leaves
// quietly, so that every destructor on the way runs: nothing is left behind by an interrupt or a closed pipe.
#pragma once

#include <stdexcept>
#include <string>

#include "holdfast/holdfast.h"

namespace holdfast::cli {

enum class Exit : int {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,
  kNoBroker = 3,
  kDenied = 4,
  kTimedOut = 5,
  kNotFound = 6,
  kInterrupted = 130,
};

class Failed : public std::runtime_error {
 public:
  // `error`: a stable name, such as "no_broker". `sentence`: the thing, the limit, and what to do.
  Failed(Exit exit, std::string error, const std::string& sentence)
      : std::runtime_error(sentence),
        exit_(exit),
        error_(std::move(error)) {}

  Exit exit() const { return exit_; }
  const std::string& error() const { return error_; }

 private:
  Exit exit_;
  std::string error_;
};

// Not an error: standard output was closed (0), or a signal asked us to end (128 + its number).
struct Ended {
  int status;
};

// The exit status that stands for a failure or a condition of the C ABI.
constexpr Exit exit_of(int result) {
  switch (result) {
    case HF_E_INVALID:
      return Exit::kUsage;
    case HF_E_NO_BROKER:
      return Exit::kNoBroker;
    case HF_E_DENIED:
      return Exit::kDenied;
    case HF_E_NOT_FOUND:
      return Exit::kNotFound;
    case HF_TIMEOUT:
      return Exit::kTimedOut;
    default:
      return Exit::kFailure;
  }
}

}  // namespace holdfast::cli
