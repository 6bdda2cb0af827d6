// SPDX-License-Identifier: MIT
#include "tests/model/run.hpp"

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <utility>

#include "tests/model/fiber.hpp"

namespace holdfast::model {

namespace {

struct Died {};    // unwinds a process that was killed, or a run that is over
struct Failed {};  // unwinds the process that found the failure

enum class Life : std::uint8_t { kReady, kWaiting, kAsleep, kDone, kDead };

struct Process {
  std::unique_ptr<Fiber> fiber = std::make_unique<Fiber>();
  Life life = Life::kReady;
  bool kill = false;
  std::function<bool()> until;
  const void* bell = nullptr;
};

// Where choices come from: a prefix to repeat, then the ordinary ones (explore) or random ones (wander).
class Choices : public Chooser {
 public:
  struct Made {
    std::uint32_t taken;
    std::uint32_t options;
    Budget budget;
  };

  Choices(std::vector<std::uint32_t> prefix, const Bounds& bounds, std::mt19937_64* random)
      : prefix_(std::move(prefix)),
        random_(random) {
    left_ = {bounds.switches, bounds.stale, bounds.delays, bounds.deaths};
  }

  std::uint32_t choose(std::uint32_t options, Budget budget) override {
    auto& left = left_[static_cast<std::size_t>(budget)];
    const bool free = random_ != nullptr && budget != Budget::kDeath;
    if (options <= 1 || (left == 0 && !free)) return 0;
    std::uint32_t taken = 0;
    if (made.size() < prefix_.size())
      taken = prefix_[made.size()] < options ? prefix_[made.size()] : 0;
    else if (random_ != nullptr)
      taken = draw(options, budget);
    if (taken != 0 && !free) --left;
    made.push_back({taken, options, budget});
    return taken;
  }

  std::vector<Made> made;

 private:
  // Mostly the ordinary choice, so that runs get somewhere.
  std::uint32_t draw(std::uint32_t options, Budget budget) {
    const std::uint64_t odds = budget == Budget::kDeath ? 64 : 3;
    if ((*random_)() % odds != 0) return 0;
    return static_cast<std::uint32_t>((*random_)() % options);
  }

  std::vector<std::uint32_t> prefix_;
  std::mt19937_64* random_;
  std::array<std::uint32_t, static_cast<std::size_t>(Budget::kCount)> left_{};
};

// One run.
class Run {
 public:
  Run(const Make& make, Memory memory, const Bounds& bounds, Weakening weakening, Choices& choices);
  ~Run();

  void go();
  bool failed() const { return failed_; }
  const std::string& why() const { return why_; }

  void yield();
  void pause(Life life);
  void fail(const std::string& why);

  std::size_t running = 0;
  Weakening weakening;
  Machine machine;
  std::vector<Process> processes;
  std::map<const void*, std::uint32_t> tokens;

 private:
  static void enter();
  bool can_go_on(Process& one) const;
  std::size_t next();
  void consider_death(std::size_t process);
  void resume(std::size_t process);
  void finish_all();

  Choices& choices_;
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

Run* g_run = nullptr;

// Stacks are reused: allocating them for every run would cost more than the run.
std::vector<Process>& spare_processes() {
  static std::vector<Process> spare;
  return spare;
}

Run::Run(const Make& make, Memory memory, const Bounds& bounds, Weakening weak, Choices& choices)
    : weakening(weak),
      machine(memory, choices),
      choices_(choices),
      bounds_(bounds),
      scenario_(make()) {
  g_run = this;
  processes = std::move(spare_processes());
  processes.resize(scenario_->processes());
  for (Process& one : processes) {
    one.life = Life::kReady;
    one.kill = false;
    one.until = nullptr;
    one.fiber->prepare(&Run::enter);
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
  } catch (const Died&) {
    end = Life::kDead;
  } catch (const Failed&) {
  }
  // A dead process's stores are on their way all the same.
  if (!run.over_) run.machine.flush(me);
  one.life = end;
  Fiber::change(*one.fiber, run.scheduler_);
}

bool Run::can_go_on(Process& one) const {
  switch (one.life) {
    case Life::kReady:
      return true;
    case Life::kWaiting:
      return one.until();
    case Life::kAsleep: {
      const auto at = tokens.find(one.bell);
      return at != tokens.end() && at->second > 0;
    }
    case Life::kDone:
    case Life::kDead:
      return false;
  }
  return false;
}

// The process to go on: the last one for free, another one for a switch.
std::size_t Run::next() {
  std::vector<std::size_t> able;
  if (can_go_on(processes[last_])) able.push_back(last_);
  const bool free = able.empty();
  for (std::size_t i = 0; i < processes.size(); ++i)
    if (i != last_ && can_go_on(processes[i])) able.push_back(i);
  // A buffered store may become visible before its process goes on.
  std::vector<std::size_t> flushable;
  for (std::size_t i = 0; i < processes.size(); ++i)
    if (machine.buffered(i)) flushable.push_back(i);
  if (able.empty() && flushable.empty()) return processes.size();
  const auto options = static_cast<std::uint32_t>(able.size() + flushable.size());
  std::uint32_t taken = 0;
  if (free && able.size() > 1)
    taken = choices_.choose(options, Budget::kSwitch);
  else if (options > 1)
    taken = choices_.choose(options, Budget::kSwitch);
  if (taken < able.size()) return able[taken];
  machine.flush_one(flushable[taken - able.size()]);
  return next();
}

void Run::consider_death(std::size_t process) {
  if (bounds_.deaths > 0 && scenario_->may_die(process) && choices_.choose(2, Budget::kDeath) == 1)
    processes[process].kill = true;
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
    Process& one = processes[process];
    if (one.life == Life::kAsleep) --tokens[one.bell];
    one.life = Life::kReady;
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

std::vector<std::uint32_t> taken_of(const Choices& choices) {
  std::vector<std::uint32_t> taken;
  for (const auto& made : choices.made) taken.push_back(made.taken);
  return taken;
}

bool run_once(const Make& make, Memory memory, const Bounds& bounds, Weakening weakening, Choices& choices,
              Verdict& verdict) {
  Run run(make, memory, bounds, weakening, choices);
  run.go();
  ++verdict.runs;
  if (!run.failed()) return true;
  verdict.failed = true;
  verdict.why = run.why();
  verdict.choices = taken_of(choices);
  return false;
}

}  // namespace

Verdict explore(const Make& make, Memory memory, const Bounds& bounds, Weakening weakening) {
  Verdict verdict;
  std::vector<std::uint32_t> prefix;
  while (true) {
    Choices choices(prefix, bounds, nullptr);
    if (!run_once(make, memory, bounds, weakening, choices, verdict)) return verdict;
    if (verdict.runs >= bounds.runs_max) return verdict;
    // The last choice that has another outcome left.
    while (!choices.made.empty() && choices.made.back().taken + 1 >= choices.made.back().options)
      choices.made.pop_back();
    if (choices.made.empty()) break;
    prefix = taken_of(choices);
    ++prefix.back();
  }
  verdict.exhausted = true;
  return verdict;
}

Verdict wander(const Make& make, Memory memory, std::uint64_t runs, std::uint64_t seed, const Bounds& bounds,
               Weakening weakening) {
  Verdict verdict;
  std::mt19937_64 random(seed);
  while (verdict.runs < runs) {
    Choices choices({}, bounds, &random);
    if (!run_once(make, memory, bounds, weakening, choices, verdict)) break;
  }
  return verdict;
}

Verdict replay(const Make& make, Memory memory, const std::vector<std::uint32_t>& taken, const Bounds& bounds,
               Weakening weakening) {
  Verdict verdict;
  Choices choices(taken, bounds, nullptr);
  run_once(make, memory, bounds, weakening, choices, verdict);
  return verdict;
}

void fail(const std::string& why) {
  g_run->fail(why);
  throw Failed{};
}

std::size_t self() { return g_run->running; }
bool dead(std::size_t process) { return g_run->processes[process].life == Life::kDead; }
bool asleep(std::size_t process) { return g_run->processes[process].life == Life::kAsleep; }
bool done(std::size_t process) { return g_run->processes[process].life == Life::kDone; }

void wait_until(const std::function<bool()>& holds) {
  if (holds()) return;
  g_run->processes[g_run->running].until = holds;
  g_run->pause(Life::kWaiting);
}

void post(const void* bell) {
  g_run->yield();
  ++g_run->tokens[bell];
}
void drain(const void* bell) {
  g_run->yield();
  g_run->tokens[bell] = 0;
}
void sleep_on(const void* bell) {
  g_run->yield();
  if (g_run->tokens[bell] > 0) {
    --g_run->tokens[bell];
    return;
  }
  g_run->processes[g_run->running].bell = bell;
  g_run->pause(Life::kAsleep);
}

Machine& machine() { return g_run->machine; }
void yield(shm::At) { g_run->yield(); }

shm::Order order_of(shm::At at) {
  return g_run->weakening.present && g_run->weakening.at == at ? shm::Order::kRelaxed : shm::site(at).order;
}
bool left_out(shm::At at) { return g_run->weakening.present && g_run->weakening.at == at; }

}  // namespace holdfast::model
