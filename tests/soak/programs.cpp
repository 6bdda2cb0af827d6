// SPDX-License-Identifier: MIT
//
// Campaigns that are programs of their own: the simulation of the broker, and the mutated rows of its registry. Their last
// line goes on the scorecard.
#include <algorithm>
#include <cstdlib>

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

Outcome run(std::vector<std::string> arguments) {
  const Descriptor output(::memfd_create("output", MFD_CLOEXEC));
  Launch launch;
  launch.program = arguments[0];
  launch.arguments = std::move(arguments);
  launch.output = output.get();
  Child child(launch);
  while (!child.ended()) pass(milliseconds(20));
  return {WIFEXITED(child.status()) && WEXITSTATUS(child.status()) == 0, read_all(output.get())};
}

// The line of `text` that begins with `with`.
std::string line(const std::string& text, const std::string& with) {
  const std::size_t begin = text.find(with);
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

// Runs `part`, from one seed on so many, until all are done. `with`: how the line of its verdict begins.
template <class Part>
void in_parts(const Plan& plan, Score& score, const std::string& with, Part&& part) {
  const auto began = integration::now();
  while (!plan.over(score.count, began)) {
    const std::uint64_t seeds = std::min(kSeedsAtOnce, plan.count - score.count);
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

void simulation(const Plan& plan, Score& score) {
  in_parts(plan, score, "simulation: ", [](std::uint64_t first, std::uint64_t seeds) {
    return run({HOLDFAST_SIMULATION, "--seeds", std::to_string(seeds), "--first", std::to_string(first)});
  });
}

void registry(const Plan& plan, Score& score) {
  in_parts(plan, score, "registry rows: ", [](std::uint64_t first, std::uint64_t seeds) {
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
