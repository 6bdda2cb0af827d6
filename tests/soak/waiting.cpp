// SPDX-License-Identifier: MIT
#include "tests/soak/waiting.hpp"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <ctime>

namespace holdfast::soak {

namespace {

volatile std::sig_atomic_t signalled = 0;

void note_signal(int) { signalled = 1; }

}  // namespace

void heed_signals() {
  struct sigaction action{};
  action.sa_handler = note_signal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool interrupted() { return signalled != 0; }

void pass(nanoseconds time) {
  if (interrupted()) throw Interrupted();
  const auto whole = std::chrono::duration_cast<seconds>(time);
  const timespec sleep{whole.count(), (time - whole).count()};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep, nullptr);
  if (interrupted()) throw Interrupted();
}

nanoseconds log_uniform(std::mt19937_64& random, nanoseconds least, nanoseconds most) {
  const double draw = std::uniform_real_distribution<>(std::log(least.count()), std::log(most.count()))(random);
  return std::clamp(nanoseconds(static_cast<std::int64_t>(std::exp(draw))), least, most);
}

}  // namespace holdfast::soak
