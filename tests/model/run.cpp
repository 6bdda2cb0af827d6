// SPDX-License-Identifier: MIT
#include "tests/model/run.hpp"

#include <cstdio>
#include <sstream>
#include <utility>

#include "tests/model/fiber.hpp"

namespace holdfast::model {

namespace {

struct Died {};    // unwinds a process that was killed, or a run that is over
struct Failed {};  // unwinds the process that found the failure

enum class Life : std::uint8_t { kReady, kWaiting, kAsleep, kDone, kDead, kStopped };

struct Process {
  std::unique_ptr<Fiber> fiber = std::make_unique<Fiber>();
  Life life = Life::kReady;
  bool kill = false;
  std::function<bool()> until;
  const std::uint64_t* bell = nullptr;
  std::vector<std::function<void()>> late;
};

// A generator of 64 bits that is cheap to seed (splitmix64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

// Where choices come from: a prefix to repeat, then the ordinary ones (explore) or random ones (wander). Every choice
// between two or more is recorded, so that the same list repeats the run under any budget that allows it.
class Source : public Chooser {
 public:
  struct Made {
    std::uint32_t taken;
    std::uint32_t options;
  };

  Source(const Choices& prefix, const Bounds& bounds, Random* random) : prefix_(prefix), random_(random) {
    left_ = {bounds.switches, bounds.stale, bounds.delays, bounds.deaths};
    if (random_ == nullptr) return;
    // Some runs switch all the time, others seldom: each finds what the other does not.
    constexpr std::uint64_t kOdds[] = {2, 3, 4, 6, 10, 20};
    for (std::uint64_t& odds : odds_) odds = kOdds[(*random_)() % 6];
    odds_[static_cast<std::size_t>(Budget::kDeath)] = 4 * kOdds[(*random_)() % 6];
  }

  std::uint32_t choose(std::uint32_t options, Budget budget) override {
    if (options <= 1) return 0;
    auto& left = left_[static_cast<std::size_t>(budget)];
    const bool free = random_ != nullptr && budget != Budget::kDeath;
    if (left == 0 && !free) options = 1;
    std::uint32_t taken = 0;
    if (made.size() < prefix_.size())
      taken = prefix_[made.size()] < options ? prefix_[made.size()] : 0;
    else if (random_ != nullptr && options > 1)
      taken = draw(options, budget);
    if (taken != 0 && !free) --left;
    made.push_back({taken, options});
    return taken;
  }

  std::vector<Made> made;

 private:
  std::uint32_t draw(std::uint32_t options, Budget budget) {
    if ((*random_)() % odds_[static_cast<std::size_t>(budget)] != 0) return 0;
    return 1 + static_cast<std::uint32_t>((*random_)() % (options - 1));
  }

  const Choices& prefix_;
  Random* random_;
  std::array<std::uint32_t, static_cast<std::size_t>(Budget::kCount)> left_{};
  std::array<std::uint64_t, static_cast<std::size_t>(Budget::kCount)> odds_{};
};

// One run.
class Run {
 public:
  Run(const Make& make, Memory memory, const Bounds& bounds, const Mutant& change, Source& source);
  ~Run();

  void go();
  bool failed() const { return failed_; }
  const std::string& why() const { return why_; }

  void yield();
  void pause(Life life);
  void fail(const std::string& why);
  void say(const std::string& line) const;
  bool is_registered(std::size_t process) const { return scenario_->registered(process); }

  std::size_t running = 0;
  Mutant mutant;
  Machine machine;
  std::vector<Process> processes;
  bool trace = false;

 private:
  static void enter();
  bool can_go_on(Process& one);
  std::size_t next();
  void consider_death(std::size_t process);
  void resume(std::size_t process);
  void finish_all();

  Source& source_;
  Bounds bounds_;
  std::unique_ptr<Scenario> scenario_;
  Fiber scheduler_;
  std::size_t last_ = 0;
  std::uint32_t steps_ = 0;
  bool over_ = false;
  bool checking_ = false;
  bool failed_ = false;
  std::string why_;
};

thread_local Run* g_run = nullptr;

// Stacks are reused: allocating them for every run would cost more than the run.
std::vector<Process>& spare_processes() {
  thread_local std::vector<Process> spare;
  return spare;
}

Run::Run(const Make& make, Memory memory, const Bounds& bounds, const Mutant& change, Source& source)
    : mutant(change),
      machine(memory, source),
      source_(source),
      bounds_(bounds),
      scenario_(make()) {
  g_run = this;
  processes = std::move(spare_processes());
  processes.resize(scenario_->processes());
  for (std::size_t i = 0; i < processes.size(); ++i) {
    Process& one = processes[i];
    one.life = Life::kReady;
    one.kill = false;
    one.until = nullptr;
    one.late.clear();
    one.fiber->prepare(&Run::enter);
    if (!scenario_->registered(i)) machine.unregister(i);
  }
}

Run::~Run() {
  finish_all();
  spare_processes() = std::move(processes);
  g_run = nullptr;
}

void Run::enter() {
  Run& run = *g_run;
  const std::size_t me = run.running;
  Process& one = run.processes[me];
  Life end = Life::kDone;
  try {
    if (!one.kill) run.scenario_->run(me);
    for (const auto& access : one.late) access();
  } catch (const Died&) {
    end = Life::kDead;
  } catch (const Failed&) {
  }
  // What is in its store buffer is on its way all the same.
  one.life = end;
  Fiber::change(*one.fiber, run.scheduler_);
}

bool Run::can_go_on(Process& one) {
  switch (one.life) {
    case Life::kReady:
      return true;
    case Life::kWaiting:
      return one.until();
    case Life::kAsleep:
      return machine.newest(one.bell, 0) > 0;
    case Life::kDone:
    case Life::kDead:
    case Life::kStopped:
      return false;
  }
  return false;
}

// The process to go on: the last one for free, another one for a switch.
std::size_t Run::next() {
  std::array<std::size_t, 2 * kProcessesMax> options{};
  std::uint32_t able = 0;
  if (can_go_on(processes[last_])) options[able++] = last_;
  for (std::size_t i = 0; i < processes.size(); ++i)
    if (i != last_ && can_go_on(processes[i])) options[able++] = i;
  // A buffered store may become visible before its process goes on.
  std::uint32_t all = able;
  for (std::size_t i = 0; i < processes.size(); ++i)
    if (machine.buffered(i)) options[all++] = i;
  if (all == 0) return processes.size();
  const std::uint32_t taken = source_.choose(all, Budget::kSwitch);
  if (taken < able) return options[taken];
  machine.flush_one(options[taken]);
  return next();
}

void Run::consider_death(std::size_t process) {
  if (bounds_.deaths == 0) return;
  const bool may_die = scenario_->may_die(process);
  const bool may_stop = scenario_->may_stop(process);
  const std::uint32_t taken = source_.choose(1 + (may_die ? 1 : 0) + (may_stop ? 1 : 0), Budget::kDeath);
  if (taken == 0) return;
  if (taken == 1 && may_die) {
    say("dies");
    processes[process].kill = true;
  } else {
    say("is stopped");
    pause(Life::kStopped);
  }
}

void Run::say(const std::string& line) const {
  if (trace) std::printf("  %-12s %s\n", scenario_->role(running).c_str(), line.c_str());
}

void Run::resume(std::size_t process) {
  running = process;
  last_ = process;
  Fiber::change(scheduler_, *processes[process].fiber);
}

void Run::go() {
  while (!failed_) {
    const std::size_t process = next();
    if (process == processes.size()) break;
    if (++steps_ > bounds_.steps_max) {
      fail("no end after " + std::to_string(bounds_.steps_max) + " steps");
      break;
    }
    processes[process].life = Life::kReady;
    resume(process);
  }
  if (failed_) return;
  for (std::size_t i = 0; i < processes.size(); ++i) machine.flush(i);
  checking_ = true;
  try {
    scenario_->check();
  } catch (const Failed&) {
  }
}

// Unwinds every process that has begun and not ended, so that its objects are destroyed.
void Run::finish_all() {
  over_ = true;
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (processes[i].life == Life::kDone || processes[i].life == Life::kDead) continue;
    processes[i].kill = true;
    resume(i);
  }
}

// Before an access: others may go first, and this process may die here.
void Run::yield() {
  if (checking_) return;
  Process& one = processes[running];
  if (over_) throw Died{};
  consider_death(running);
  if (one.kill) throw Died{};
  Fiber::change(*one.fiber, scheduler_);
  if (one.kill) throw Died{};
}

void Run::pause(Life life) {
  processes[running].life = life;
  Process& one = processes[running];
  Fiber::change(*one.fiber, scheduler_);
  if (one.kill) throw Died{};
}

void Run::fail(const std::string& why) {
  if (!failed_) why_ = why;
  failed_ = true;
}

Choices taken_of(const Source& source) {
  Choices taken;
  for (const auto& made : source.made) taken.push_back(made.taken);
  return taken;
}

bool run_once(const Make& make, Memory memory, const Bounds& bounds, const Mutant& mutant, Source& source,
              Verdict& verdict, bool trace = false) {
  Run run(make, memory, bounds, mutant, source);
  run.trace = trace;
  run.go();
  ++verdict.runs;
  if (!run.failed()) return true;
  verdict.failed = true;
  verdict.why = run.why();
  verdict.choices = taken_of(source);
  return false;
}

}  // namespace

Verdict explore(const Make& make, Memory memory, const Bounds& bounds, const Mutant& mutant) {
  Verdict verdict;
  Choices prefix;
  while (true) {
    Source source(prefix, bounds, nullptr);
    if (!run_once(make, memory, bounds, mutant, source, verdict)) return verdict;
    if (verdict.runs >= bounds.runs_max) return verdict;
    // The last choice that has another outcome left.
    while (!source.made.empty() && source.made.back().taken + 1 >= source.made.back().options) source.made.pop_back();
    if (source.made.empty()) break;
    prefix = taken_of(source);
    ++prefix.back();
  }
  verdict.exhausted = true;
  return verdict;
}

Verdict wander(const Make& make, Memory memory, std::uint64_t runs, std::uint64_t seed, const Bounds& bounds,
               const Mutant& mutant) {
  Verdict verdict;
  Random random(seed);
  while (verdict.runs < runs) {
    const Choices none;
    Source source(none, bounds, &random);
    if (!run_once(make, memory, bounds, mutant, source, verdict)) break;
  }
  return verdict;
}

Verdict replay(const Make& make, Memory memory, const Choices& choices, const Bounds& bounds, const Mutant& mutant,
               bool trace) {
  Verdict verdict;
  Bounds free = bounds;
  free.switches = free.stale = free.delays = 1'000'000;
  Source source(choices, free, nullptr);
  run_once(make, memory, free, mutant, source, verdict, trace);
  return verdict;
}

Choices shrink(const Make& make, Memory memory, const Choices& choices, const Bounds& bounds, const Mutant& mutant) {
  Choices best = choices;
  bool shorter = true;
  while (shorter) {
    shorter = false;
    for (std::size_t i = best.size(); i-- > 0;) {
      if (i >= best.size() || best[i] == 0) continue;
      Choices tried = best;
      tried[i] = 0;
      const Verdict verdict = replay(make, memory, tried, bounds, mutant);
      if (!verdict.failed) continue;
      best = verdict.choices;
      shorter = true;
    }
  }
  return best;
}

std::string text_of(const Choices& choices) {
  std::ostringstream text;
  for (std::size_t i = 0; i < choices.size(); ++i)
    if (choices[i] != 0) text << (text.tellp() > 0 ? " " : "") << i << ':' << choices[i];
  return text.str();
}

Choices choices_of(const std::string& text) {
  Choices choices;
  std::istringstream words(text);
  std::size_t index = 0;
  std::uint32_t taken = 0;
  char colon = 0;
  while (words >> index >> colon >> taken && index < 1'000'000) {
    if (choices.size() <= index) choices.resize(index + 1, 0);
    choices[index] = taken;
  }
  return choices;
}

Sites& visited(Change change) {
  thread_local std::array<Sites, static_cast<std::size_t>(Change::kCount)> sites;
  return sites[static_cast<std::size_t>(change)];
}

void fail(const std::string& why) {
  g_run->fail(why);
  throw Failed{};
}

std::size_t self() { return g_run->running; }
bool dead(std::size_t process) { return g_run->processes[process].life == Life::kDead; }
bool stopped(std::size_t process) { return g_run->processes[process].life == Life::kStopped; }
bool asleep(std::size_t process) { return g_run->processes[process].life == Life::kAsleep; }
bool done(std::size_t process) { return g_run->processes[process].life == Life::kDone; }

void see_all(std::size_t process) {
  g_run->running = process;
  for (std::size_t other = 0; other < g_run->processes.size(); ++other) g_run->machine.bury(process, other);
}

void wait_until(const std::function<bool()>& holds) {
  if (holds()) return;
  g_run->processes[g_run->running].until = holds;
  g_run->pause(Life::kWaiting);
}

namespace {
// Adds to a word of the model's own, atomically and ordered with everything.
void add(std::uint64_t& word, std::uint64_t amount) {
  machine().modify(self(), &word, 0, shm::Order::kAcqRel, [&](std::uint64_t old, std::uint64_t& fresh) {
    fresh = old + amount;
    return true;
  });
}
constexpr std::uint64_t kMinusOne = ~std::uint64_t{0};
}  // namespace

void send(std::uint64_t& word) {
  g_run->yield();
  g_run->say("sends");
  add(word, 1);
}
void receive(std::uint64_t& word) {
  wait_until([&word] { return machine().newest(&word, 0) != 0; });
  g_run->say("receives");
  add(word, 0);
}

void post(std::uint64_t& semaphore) {
  g_run->yield();
  g_run->say("posts");
  add(semaphore, 1);
}
void drain(std::uint64_t& semaphore) {
  while (true) {
    g_run->yield();
    if (machine().newest(&semaphore, 0) == 0) return;
    g_run->say("drains");
    add(semaphore, kMinusOne);
  }
}
void sleep_on(std::uint64_t& semaphore) {
  g_run->yield();
  if (machine().newest(&semaphore, 0) == 0) {
    g_run->say("sleeps");
    g_run->processes[g_run->running].bell = &semaphore;
    g_run->pause(Life::kAsleep);
  }
  g_run->say("wakes");
  add(semaphore, kMinusOne);
}

Machine& machine() { return g_run->machine; }
void yield(shm::At at) {
  visited().set(static_cast<std::size_t>(at));
  g_run->yield();
}

bool mutated(shm::At at, Change change) {
  visited(change).set(static_cast<std::size_t>(at));
  return g_run->mutant.change == change && g_run->mutant.at == at;
}
shm::Order order_of(shm::At at) { return mutated(at, Change::kRelaxed) ? shm::Order::kRelaxed : shm::site(at).order; }
bool registered() { return g_run->is_registered(g_run->running); }

void postpone(std::function<void()> access) { g_run->processes[g_run->running].late.push_back(std::move(access)); }
void arrived(shm::At at) {
  if (g_run->mutant.change != Change::kLate || g_run->mutant.until != at) return;
  std::vector<std::function<void()>> late;
  std::swap(late, g_run->processes[g_run->running].late);
  for (const auto& access : late) {
    g_run->yield();
    access();
  }
}

void note(shm::At at, const char* what, std::uint64_t value) {
  if (g_run->trace)
    g_run->say(std::string(shm::site(at).name) + " " + what + " " + std::to_string(static_cast<std::int64_t>(value)));
}

}  // namespace holdfast::model
