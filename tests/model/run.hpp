// SPDX-License-Identifier: MIT
//
// Runs the code that ships under a scheduler: each process of a scenario is a fiber that yields before every access to
// a shared word. Which process goes on, which of the older values a load returns, when a buffered store becomes visible,
// who dies and who is stopped where are choices.
//
// explore() tries all runs whose choices stay within the budgets, depth first; the ordinary choice is free, each other
// one costs a unit: so a bound of three switches means every run with at most three preemptions. wander() draws runs at
// random, without budgets but for deaths. A failing run is a list of choices, printed, and replay() repeats it.
//
// One run at a time per thread. Fibers share the real memory of the scenario; words that go through the policy live in
// the Machine.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
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
  virtual std::string role(std::size_t process) const = 0;
  virtual bool may_die(std::size_t) const { return false; }
  virtual bool may_stop(std::size_t) const { return false; }
  // Is this process registered for membarriers? If not, its heavy fences are its own, and nobody else's reach it.
  virtual bool registered(std::size_t) const { return true; }
  // After a run: everybody is done, dead, stopped or asleep. Calls fail() if something is wrong.
  virtual void check() {}
};

struct Bounds {
  std::uint32_t switches = 2;
  std::uint32_t stale = 2;
  std::uint32_t delays = 2;
  std::uint32_t deaths = 0;  // and stops
  std::uint64_t runs_max = 2'000'000;  // explore() ends here and says so
  std::uint32_t steps_max = 5'000;  // of one run: beyond, it counts as a livelock
};

// One thing done wrongly on purpose, at one site.
enum class Change : std::uint8_t {
  kNone,
  kRelaxed,  // the order of a load, store or exchange
  kNoFence,  // a fence, and a light fence where it has to be a full one
  kNoLightFence,  // a light fence that orders the compiler only: a membarrier does not reach across it
  kNoHeavyFence,  // neither fence nor membarrier
  kOwnHeavyFence,  // a full fence for a membarrier
  kSplit,  // an exchange as a load and a store
  kLate,  // the store happens after the process's next access at `until`
  kCount,
};
struct Mutant {
  shm::At at{};
  Change change = Change::kNone;
  shm::At until{};
};

using Choices = std::vector<std::uint32_t>;
// The choices that are not the ordinary ones, as "index:choice ...". And back.
std::string text_of(const Choices& choices);
Choices choices_of(const std::string& text);

struct Verdict {
  bool failed = false;
  bool exhausted = false;  // every run within the bounds was tried
  std::uint64_t runs = 0;
  std::string why;
  Choices choices;  // of the failing run
};

using Make = std::function<std::unique_ptr<Scenario>()>;

Verdict explore(const Make& make, Memory memory, const Bounds& bounds, const Mutant& mutant = {});
Verdict wander(const Make& make, Memory memory, std::uint64_t runs, std::uint64_t seed, const Bounds& bounds,
               const Mutant& mutant = {});
// `trace`: one line per access, on standard output.
Verdict replay(const Make& make, Memory memory, const Choices& choices, const Bounds& bounds, const Mutant& mutant = {},
               bool trace = false);
// The failing run with as few choices as leaving them out one by one allows.
Choices shrink(const Make& make, Memory memory, const Choices& choices, const Bounds& bounds, const Mutant& mutant);

// The sites that this thread's runs have come by since they were last forgotten: with kNone all of them, else those
// where this change is possible.
using Sites = std::bitset<shm::kSiteCount>;
Sites& visited(Change change = Change::kNone);

// ---- called by scenarios and by the policy, inside a run ------------------------------------------------------------

// Ends the run as failed, with this sentence. From a process: does not return.
void fail(const std::string& why);
inline void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

std::size_t self();  // the running process
bool dead(std::size_t process);  // for the broker's repair and for check()
bool stopped(std::size_t process);
bool asleep(std::size_t process);  // blocked in sleep_on()
bool done(std::size_t process);
void see_all(std::size_t process);  // for check(): accesses are this process's from now on, and it sees every store
void wait_until(const std::function<bool()>& holds);  // the process is not scheduled until it holds

// A message over a socket: who receives it sees all that was done before it was sent.
void send(std::uint64_t& word);
void receive(std::uint64_t& word);

// Semaphores: their words are the machine's, so that a token carries what its poster saw.
void post(std::uint64_t& semaphore);
void drain(std::uint64_t& semaphore);
void sleep_on(std::uint64_t& semaphore);  // until a token is there, and takes it

// One access of the running process. Requires: inside a run.
Machine& machine();
void yield(shm::At at);
bool mutated(shm::At at, Change change);  // is this site changed so in this run?
shm::Order order_of(shm::At at);  // of the site, weakened if this run says so
bool registered();  // the running process
void postpone(std::function<void()> access);  // kLate
void arrived(shm::At at);  // after an access: what waited for it happens
void note(shm::At at, const char* what, std::uint64_t value);  // for the trace

}  // namespace holdfast::model
