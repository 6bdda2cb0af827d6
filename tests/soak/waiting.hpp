// SPDX-License-Identifier: MIT
//
// How campaigns wait: on the monotonic clock, with a deadline, and until somebody interrupts.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <random>

#include "tests/integration/within.hpp"

namespace holdfast::soak {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// SIGINT, SIGTERM or SIGHUP came.
class Interrupted : public std::exception {};

// Requires: called once, before anything waits.
void heed_signals();
bool interrupted();

// Sleeps. Throws Interrupted.
void pass(nanoseconds time);

// Asks every `every` until the answer is yes; false: it never was. Throws Interrupted.
template <class Question>
bool soon(Question&& question, nanoseconds within = seconds(30), nanoseconds every = milliseconds(1)) {
  const auto until = integration::now() + within;
  while (!question()) {
    if (integration::now() > until) return false;
    pass(every);
  }
  return true;
}

// From `least` to `most`, each order of magnitude as likely as the next.
nanoseconds log_uniform(std::mt19937_64& random, nanoseconds least, nanoseconds most);

}  // namespace holdfast::soak
