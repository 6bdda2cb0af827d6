// SPDX-License-Identifier: MIT
//
// holdfast_soak [--only NAME] [--count N] [--minutes N] [--seed N] [--ci] [--list]: the campaigns, and one scorecard.
// Status 0: only zeros; 1: something else; 2: usage; 130: interrupted. It is its own workers, too (--seat).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/soak/campaign.hpp"
#include "tests/soak/scorecard.hpp"
#include "tests/soak/waiting.hpp"
#include "tests/soak/worker.hpp"

namespace holdfast::soak {

namespace {

struct Campaign {
  const char* name;
  void (*run)(const Plan& plan, Score& score);
  std::uint64_t count;
  std::uint64_t count_in_ci;
};

constexpr Campaign kCampaigns[] = {
    {"broker-kills", broker_kills, 1'000, 50},         {"client-kills", client_kills, 100'000, 2'000},
    {"recovery-kills", recovery_kills, 10'000, 300},   {"stops", stops, 1'000, 100},
    {"instructions", instructions, 10'000'000, 2'000}, {"registry", registry, 1'000'000, 20'000},
    {"simulation", simulation, 1'000'000, 1'000},
};

// On a machine that is busy with something else a test does less rather than hold up all others.
constexpr std::chrono::seconds kCiTimeMax{150};

struct Options {
  std::string only;
  std::uint64_t count = 0;
  std::uint64_t minutes = 0;
  std::uint64_t seed = 0;
  bool ci = false;
  bool list = false;
};

constexpr int kNotWhole = 3;  // nothing wrong in what was done

constexpr const char* kUsage =
    "usage: scripts/soak [--only NAME] [--count N | --ci] [--minutes N] [--seed N] [--list]\n"
    "  --only NAME   one campaign; --list says which there are\n"
    "  --count N     how many of what it does; --ci: few, in some minutes\n"
    "  --minutes N   it ends after so long at the latest\n"
    "  --seed N      the random numbers; 0: others each time\n";

bool number(const char* text, std::uint64_t& value) {
  char* end = nullptr;
  value = text == nullptr ? 0 : std::strtoull(text, &end, 10);
  return text != nullptr && *text >= '0' && *text <= '9' && *end == '\0';
}

bool known(const std::string& name) {
  for (const Campaign& campaign : kCampaigns)
    if (campaign.name == name) return true;
  return false;
}

std::optional<Options> read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--ci" || name == "--list") {
      (name == "--ci" ? options.ci : options.list) = true;
      continue;
    }
    const char* const value = i + 1 < argc ? argv[++i] : nullptr;
    if (name == "--only" && value != nullptr && known(value)) {
      options.only = value;
      continue;
    }
    std::uint64_t* const wanted = name == "--count"     ? &options.count
                                  : name == "--minutes" ? &options.minutes
                                  : name == "--seed"    ? &options.seed
                                                        : nullptr;
    if (wanted == nullptr || !number(value, *wanted)) return std::nullopt;
  }
  if (options.seed == 0) options.seed = std::random_device()() | 1U;
  return options;
}

void run_one(const Campaign& campaign, const Options& options, Score& score) {
  Plan plan;
  plan.seed = options.seed;
  plan.count = options.count != 0 ? options.count : options.ci ? campaign.count_in_ci : campaign.count;
  plan.time_max = std::chrono::minutes(options.minutes);
  if (options.ci && options.minutes == 0) plan.time_max = kCiTimeMax;
  std::printf("%s: count %llu, seed %llu\n", campaign.name, static_cast<unsigned long long>(plan.count),
              static_cast<unsigned long long>(plan.seed));
  std::fflush(stdout);
  score.name = campaign.name;
  score.planned = plan.count;
  try {
    campaign.run(plan, score);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& error) {
    ++score.failed;
    score.say(error.what());
  }
}

int run_all(const Options& options) {
  std::vector<Score> scores;
  bool stopped = false;
  try {
    for (const Campaign& campaign : kCampaigns)
      if (options.only.empty() || options.only == campaign.name) run_one(campaign, options, scores.emplace_back());
  } catch (const Interrupted&) {
    stopped = true;
  }
  print_scorecard(scores);
  if (stopped) return std::puts("interrupted"), 130;
  bool good = true;
  bool whole = true;
  for (const Score& score : scores) {
    good = good && score.good();
    whole = whole && score.whole();
  }
  return !good ? 1 : whole ? 0 : kNotWhole;
}

}  // namespace

}  // namespace holdfast::soak

int main(int argc, char** argv) {
  using namespace holdfast::soak;
  if (argc == 3 && std::strcmp(argv[1], "--seat") == 0) return run_worker(std::strtoull(argv[2], nullptr, 10));
  const auto options = read_options(argc, argv);
  if (!options) return std::fputs(kUsage, stderr), 2;
  if (options->list) {
    for (const Campaign& campaign : kCampaigns) std::puts(campaign.name);
    return 0;
  }
  for (const char* name : {"HOLDFAST_INSTANCE", "HOLDFAST_SOCKET", "HOLDFAST_CONFIG", "NOTIFY_SOCKET", "LISTEN_FDS",
                           "LISTEN_PID", "WATCHDOG_USEC", "WATCHDOG_PID"})
    ::unsetenv(name);  // the broker of a campaign is nobody else's
  heed_signals();
  return run_all(*options);
}
