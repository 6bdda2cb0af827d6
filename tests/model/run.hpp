// SPDX-License-Identifier: MIT
//
// Runs the code that ships under a scheduler: each process of a scenario is a fiber that yields before every access to
// a shared word. Which process goes on, which of the older values a load returns, when a buffered store becomes visible
// and who dies where are choices.
//
// explore() tries all runs whose choices stay within the budgets, depth first; the ordinary choice is free, each other
// one costs a unit: so a bound of three switches means every run with at most three preemptions. wander() draws runs at
// random, without budgets but for deaths. A failing run is a list of choices, printed, and replay() repeats it.
//
// One thread. Fibers share the real memory of the scenario; words that go through the policy live in the Machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/model/machine.hpp"

namespace holdfast::model {

// What a scenario is made of. A fresh object is made for each run.
class Scenario {
 public:
  virtual ~Scenario() = default;
  virtual std::size_t processes() const = 0;
  virtual void run(std::size_t process) = 0;  // the code of one process
  virtual bool may_die(std::size_t process) const {
    (void)process;
    return false;
  }
  // After a run: everybody is done, dead or asleep. Calls fail() if something is wrong.
  virtual void check() {}
};

struct Bounds {
  std::uint32_t switches = 2;
  std::uint32_t stale = 2;
  std::uint32_t delays = 2;
  std::uint32_t deaths = 0;
  std::uint64_t runs_max = 2'000'000;  // explore() stops here and says so
  std::uint32_t steps_max = 5'000;  // of one run: beyond, it counts as a livelock
};

// A site weakened on purpose.
struct Weakening {
  shm::At at;
  bool present = false;
};

struct Verdict {
  bool failed = false;
  bool exhausted = false;  // every run within the bounds was tried
  std::uint64_t runs = 0;
  std::string why;
  std::vector<std::uint32_t> choices;  // of the failing run
};

using Make = std::function<std::unique_ptr<Scenario>()>;

Verdict explore(const Make& make, Memory memory, const Bounds& bounds, Weakening weakening = {});
Verdict wander(const Make& make, Memory memory, std::uint64_t runs, std::uint64_t seed, const Bounds& bounds,
               Weakening weakening = {});
Verdict replay(const Make& make, Memory memory, const std::vector<std::uint32_t>& choices, const Bounds& bounds,
               Weakening weakening = {});

// ---- called by scenarios and by the policy, inside a run ------------------------------------------------------------

// Ends the run as failed, with this sentence. From a process: does not return.
void fail(const std::string& why);
inline void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

std::size_t self();  // the running process
bool dead(std::size_t process);  // for the broker's repair and for check()
bool asleep(std::size_t process);  // blocked in sleep_on()
bool done(std::size_t process);
void wait_until(const std::function<bool()>& holds);  // the process is not scheduled until it holds

// Semaphores of bells, by address.
void post(const void* bell);
void drain(const void* bell);
void sleep_on(const void* bell);  // until a token is there, and takes it

// One access of the running process. Requires: inside a run.
Machine& machine();
void yield(shm::At at);
shm::Order order_of(shm::At at);  // of the site, weakened if this run says so
bool left_out(shm::At at);  // is this fence left out?

}  // namespace holdfast::model
