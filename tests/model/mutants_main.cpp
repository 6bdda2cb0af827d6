// SPDX-License-Identifier: MIT
//
// Runs the whole table: every mutant, then the code as it ships through every scenario, machine and bound.
//
//   holdfast_model_mutants [--only TEXT] [--schedules]       all, or the lines whose name contains TEXT
//   holdfast_model_mutants --replay SCENARIO MACHINE MUTANT CHOICES    one run, access by access
//
// Runs are drawn from fixed seeds: the output is the same each time, whatever the number of threads. Status 1 if a
// mutant survives where it is named, one that is explained is noticed, the code as it ships fails, or a site has no
// entry.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/model/mutants.hpp"
#include "tests/model/scenarios.hpp"

namespace holdfast::model {
namespace {

constexpr Memory kMemories[] = {Memory::kSequential, Memory::kBuffers, Memory::kViews};
constexpr std::uint64_t kMutantRunsMax = 200'000;
constexpr std::uint64_t kExplainedRuns = 1'000;  // per scenario
constexpr std::uint64_t kRandomRuns = 10'000;
constexpr std::uint64_t kExploreRunsMax = 20'000;  // at each level
struct Level {
  std::uint32_t switches;
  std::uint32_t stale;
  std::uint32_t delays;
};
constexpr Level kLevels[] = {{0, 0, 0}, {1, 0, 0}, {1, 1, 1}, {2, 1, 1}, {2, 2, 2}, {3, 2, 2}, {4, 2, 2}};

struct Options {
  std::string only;
  bool schedules = false;
};

// What a line of the report is made of; tasks fill them in any order, they are printed in theirs.
struct Line {
  enum class Kind { kCaught, kSurvived, kExplained, kHeld, kWrong } kind = Kind::kWrong;
  std::string text;
};

struct Task {
  std::string name;
  std::function<Line()> run;
};

std::string quoted(const std::string& text) { return "'" + text + "'"; }

std::string replay_line(const Case& what, Memory memory, const Mutant& mutant, const Choices& choices) {
  return "\n    scripts/test --mutants --replay " + std::string(what.name) + " " + name_of(memory) + " " +
         quoted(mutant.change == Change::kNone ? "unchanged" : name_of(mutant)) + " " + quoted(text_of(choices));
}

// The shortest schedule, if the failing run repeats as it must.
std::string schedule(const Case& what, Memory memory, const Mutant& mutant, const Verdict& found,
                     const Bounds& bounds) {
  if (!replay(what.make, memory, found.choices, bounds, mutant).failed) return "\n    THE RUN DOES NOT REPEAT";
  return replay_line(what, memory, mutant, shrink(what.make, memory, found.choices, bounds, mutant));
}

std::string text_of(const Bounds& bounds) {
  std::string text = std::to_string(bounds.switches) + " switches, " + std::to_string(bounds.stale) + " stale loads, " +
                     std::to_string(bounds.delays) + " delayed stores";
  if (bounds.deaths > 0) text += ", " + std::to_string(bounds.deaths) + " death or stop";
  return text;
}

// Bounds that grow until one is too large to be tried whole; then random runs beyond.
Line unchanged(const Case& what, Memory memory) {
  const std::string head = std::string("unchanged | ") + name_of(memory) + " | " + what.name + " | ";
  std::string text = "no bound was tried whole";
  Verdict verdict;
  Bounds bounds;
  for (const auto& [switches, stale, delays] : kLevels) {
    bounds = {
        .switches = switches, .stale = stale, .delays = delays, .deaths = what.deaths, .runs_max = kExploreRunsMax};
    verdict = explore(what.make, memory, bounds);
    if (verdict.failed || !verdict.exhausted) break;
    text = "all " + std::to_string(verdict.runs) + " runs of up to " + text_of(bounds);
  }
  if (!verdict.failed && !verdict.exhausted)
    text += "; " + std::to_string(verdict.runs) + " of up to " + std::to_string(bounds.switches) + " switches";
  if (!verdict.failed) {
    verdict = wander(what.make, memory, kRandomRuns, 1, bounds);
    text += "; " + std::to_string(verdict.runs) + " random";
  }
  if (!verdict.failed) return {Line::Kind::kHeld, "held      | " + head + text};
  return {Line::Kind::kWrong, "FAILED    | " + head + verdict.why + schedule(what, memory, {}, verdict, bounds)};
}

std::string head_of(const Entry& entry) {
  return name_of(entry.mutant) + " | row " + shm::site(entry.mutant.at).row + " | ";
}

Line caught(const Entry& entry, bool schedules) {
  const Case* what = find_case(entry.scenario);
  if (what == nullptr) return {Line::Kind::kWrong, "FAILED    | " + head_of(entry) + "there is no such scenario"};
  const Bounds bounds{.deaths = what->deaths};
  const Verdict verdict = wander(what->make, entry.memory, kMutantRunsMax, 1, bounds, entry.mutant);
  const std::string head = head_of(entry) + name_of(entry.memory) + " | " + what->name + " | ";
  if (!verdict.failed) return {Line::Kind::kSurvived, "SURVIVED  | " + head + std::to_string(verdict.runs) + " runs"};
  std::string text = "caught    | " + head + "after " + std::to_string(verdict.runs) + " runs: " + verdict.why;
  if (schedules) text += schedule(*what, entry.memory, entry.mutant, verdict, bounds);
  return {Line::Kind::kCaught, text};
}

bool comes_by(const Case& what, shm::At at) {
  visited().reset();
  wander(what.make, Memory::kSequential, 20, 1, {.deaths = what.deaths});
  return visited().test(static_cast<std::size_t>(at));
}

// Nothing may notice: in every scenario that comes by the site.
Line explained(const Entry& entry) {
  std::uint64_t runs = 0;
  for (const Case& what : cases()) {
    const Bounds bounds{.deaths = what.deaths};
    if (!comes_by(what, entry.mutant.at)) continue;
    for (const Memory memory : kMemories) {
      // Orders are nothing to the weaker machines.
      if (entry.mutant.change == Change::kRelaxed && memory != Memory::kViews) continue;
      const Verdict verdict = wander(what.make, memory, kExplainedRuns, 1, bounds, entry.mutant);
      runs += verdict.runs;
      if (!verdict.failed) continue;
      return {Line::Kind::kWrong, "NOTICED   | " + head_of(entry) + name_of(memory) + " | " + what.name + " | " +
                                      verdict.why + schedule(what, memory, entry.mutant, verdict, bounds)};
    }
  }
  return {Line::Kind::kExplained,
          "explained | " + head_of(entry) + entry.reason + " (" + std::to_string(runs) + " runs)"};
}

std::vector<Task> tasks_of(const Options& options) {
  std::vector<Task> tasks;
  for (const Entry& entry : mutants()) {
    tasks.push_back({name_of(entry.mutant), [&entry, schedules = options.schedules] {
                       return entry.reason != nullptr ? explained(entry) : caught(entry, schedules);
                     }});
  }
  for (const Case& what : cases())
    for (const Memory memory : kMemories)
      tasks.push_back({std::string("unchanged ") + what.name, [&what, memory] { return unchanged(what, memory); }});
  std::erase_if(tasks, [&](const Task& task) { return task.name.find(options.only) == std::string::npos; });
  return tasks;
}

// Runs the tasks on all CPUs and prints each line as soon as those before it are done.
std::vector<Line> run_all(const std::vector<Task>& tasks) {
  std::vector<Line> lines(tasks.size());
  std::vector<bool> ready(tasks.size());
  std::mutex mutex;
  std::size_t printed = 0;
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < tasks.size(); i = next++) {
      Line line = tasks[i].run();
      const std::lock_guard lock(mutex);
      lines[i] = std::move(line);
      ready[i] = true;
      for (; printed < tasks.size() && ready[printed]; ++printed) std::printf("%s\n", lines[printed].text.c_str());
      std::fflush(stdout);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return lines;
}

// Every order needs an entry, and every form of fence and exchange that the code comes by in some scenario.
std::size_t print_missing() {
  for (const Case& what : cases()) wander(what.make, Memory::kSequential, 20, 1, {.deaths = what.deaths});
  constexpr Change kForms[] = {Change::kNoFence, Change::kNoLightFence, Change::kNoHeavyFence, Change::kOwnHeavyFence,
                               Change::kSplit};
  std::size_t missing = 0;
  const auto need = [&](const shm::Site& site, Change change) {
    if (has_entry(site.at, change)) return;
    std::printf("MISSING   | %s | row %s | has no entry in the table\n", name_of(Mutant{site.at, change}).c_str(),
                site.row);
    ++missing;
  };
  for (const shm::Site& site : shm::kSites) {
    if (site.access != shm::Access::kFence && site.order != shm::Order::kRelaxed) need(site, Change::kRelaxed);
    for (const Change form : kForms)
      if (visited(form).test(static_cast<std::size_t>(site.at))) need(site, form);
  }
  return missing;
}

int run_table(const Options& options) {
  const std::vector<Line> lines = run_all(tasks_of(options));
  const auto count = [&](Line::Kind kind) {
    return static_cast<std::size_t>(
        std::count_if(lines.begin(), lines.end(), [&](const Line& l) { return l.kind == kind; }));
  };
  const std::size_t missing = options.only.empty() ? print_missing() : 0;
  const std::size_t wrong = count(Line::Kind::kWrong) + missing;
  std::printf("not_run   | row 8d | quiet lanes and ready words are not built\n");
  std::printf("%zu caught, %zu survived, %zu explained, %zu held unchanged, %zu failed\n", count(Line::Kind::kCaught),
              count(Line::Kind::kSurvived), count(Line::Kind::kExplained), count(Line::Kind::kHeld), wrong);
  return wrong + count(Line::Kind::kSurvived) == 0 && !lines.empty() ? 0 : 1;
}

int run_replay(const std::string& scenario, const std::string& machine, const std::string& mutant,
               const std::string& choices) {
  const Case* what = find_case(scenario);
  const Memory* memory =
      std::find_if(std::begin(kMemories), std::end(kMemories), [&](Memory one) { return machine == name_of(one); });
  const Entry* entry = mutant == "unchanged" ? nullptr : find_mutant(mutant);
  if (what == nullptr || memory == std::end(kMemories) || (entry == nullptr && mutant != "unchanged")) {
    std::fprintf(stderr, "replay: no such scenario, machine or mutant\n");
    return 2;
  }
  const Verdict verdict = replay(what->make, *memory, choices_of(choices), {.deaths = what->deaths},
                                 entry == nullptr ? Mutant{} : entry->mutant, true);
  std::printf("%s\n", verdict.failed ? verdict.why.c_str() : "nothing goes wrong");
  return verdict.failed ? 1 : 0;
}

}  // namespace
}  // namespace holdfast::model

int main(int argc, char** argv) {
  using namespace holdfast::model;
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--replay") == 0 && i + 4 < argc)
      return run_replay(argv[i + 1], argv[i + 2], argv[i + 3], argv[i + 4]);
    if (std::strcmp(argv[i], "--schedules") == 0) {
      options.schedules = true;
    } else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
      options.only = argv[++i];
    } else {
      std::fprintf(stderr, "usage: %s [--only TEXT] [--schedules] | --replay SCENARIO MACHINE MUTANT CHOICES\n",
                   argv[0]);
      return 2;
    }
  }
  return run_table(options);
}
