// SPDX-License-Identifier: MIT
//
// Campaigns that are programs of their own: the simulation of the broker, and the mutated rows of its registry. Their last
// line goes on the scorecard.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <thread>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/soak/campaign.hpp"
#include "tests/soak/child.hpp"

namespace holdfast::soak {

namespace {

// So that --minutes ends it in between.
constexpr std::uint64_t kSeedsAtOnce = 10'000;

struct Outcome {
  bool good = false;
  std::string text;
};

std::string read_all(int fd) {
  std::string text;
  char bytes[4096];
  ssize_t n = 0;
  for (off_t at = 0; (n = ::pread(fd, bytes, sizeof bytes, at)) > 0; at += n)
    text.append(bytes, static_cast<std::size_t>(n));
  return text;
}

class Run {
 public:
  explicit Run(std::vector<std::string> arguments)
      : output_(::memfd_create("output", MFD_CLOEXEC)),
        child_(launch(std::move(arguments), output_.get())) {}

  Outcome finish() {
    while (!child_.ended()) pass(milliseconds(20));
    return {WIFEXITED(child_.status()) && WEXITSTATUS(child_.status()) == 0, read_all(output_.get())};
  }

 private:
  static Launch launch(std::vector<std::string> arguments, int output) {
    Launch launch;
    launch.program = arguments[0];
    launch.arguments = std::move(arguments);
    launch.output = output;
    return launch;
  }

  Descriptor output_;
  Child child_;
};

Outcome run(std::vector<std::string> arguments) { return Run(std::move(arguments)).finish(); }

// The line of `text` that begins with `with`.
std::string line(const std::string& text, const std::string& with) {
  const std::size_t begin = text.find(with);
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

// Runs `part`, from one seed on so many, until all are done. `with`: how the line of its verdict begins.
template <class Part>
void in_parts(const Plan& plan, Score& score, std::uint64_t at_once, const std::string& with, Part&& part) {
  const auto began = integration::now();
  while (!plan.over(score.count, began)) {
    const std::uint64_t seeds = std::min(at_once, plan.count - score.count);
    const Outcome outcome = part(plan.seed + score.count, seeds);
    score.count += seeds;
    score.note = line(outcome.text, with);
    if (outcome.good && !score.note.empty()) continue;
    ++score.failed;
    constexpr std::size_t kTail = 2'000;
    score.say(outcome.text.size() > kTail ? outcome.text.substr(outcome.text.size() - kTail) : outcome.text);
    return;
  }
  score.note += "; all seeds from " + std::to_string(plan.seed) + " on";
}

}  // namespace

// On every CPU.
void simulation(const Plan& plan, Score& score) {
  const std::uint64_t cpus = std::max(1U, std::thread::hardware_concurrency());
  in_parts(plan, score, cpus * kSeedsAtOnce, "simulation: ", [cpus](std::uint64_t first, std::uint64_t seeds) {
    std::vector<std::unique_ptr<Run>> runs;
    for (const std::uint64_t end = first + seeds; first < end;) {
      const std::uint64_t share = std::min((seeds + cpus - 1) / cpus, end - first);
      runs.push_back(std::make_unique<Run>(std::vector<std::string>{
          HOLDFAST_SIMULATION, "--seeds", std::to_string(share), "--first", std::to_string(first)}));
      first += share;
    }
    Outcome all{true, ""};
    for (const auto& one : runs) {
      const Outcome outcome = one->finish();
      if (all.good) all = outcome;
    }
    return all;
  });
}

void registry(const Plan& plan, Score& score) {
  in_parts(plan, score, kSeedsAtOnce, "registry rows: ", [](std::uint64_t first, std::uint64_t seeds) {
    ::setenv("HOLDFAST_COUNT", std::to_string(seeds).c_str(), 1);
    ::setenv("HOLDFAST_SEED", std::to_string(first).c_str(), 1);
    Outcome rows = run({HOLDFAST_BROKER_TEST, "--gtest_filter=Adopt.MutatedRows*"});
    if (!rows.good) return rows;
    // A file takes a hundred times as long as its rows.
    ::setenv("HOLDFAST_COUNT", std::to_string((seeds + 9) / 10).c_str(), 1);
    const Outcome images = run({HOLDFAST_SHELL_TEST, "--gtest_filter=Registry.MutatedImages*"});
    const std::string verdict = line(images.text, "registry images: ");
    if (!images.good || verdict.empty()) return images;
    return Outcome{true, line(rows.text, "registry rows: ") + "; " + verdict + "\n"};
  });
}

}  // namespace holdfast::soak
