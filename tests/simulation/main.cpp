// SPDX-License-Identifier: MIT
//
// holdfast_simulation [--seeds N] [--first SEED] [--events N]: runs N seeds, from SEED on. A seed that fails is printed
// with the command that runs it again. Status 0: none failed; 1: one did; 2: usage.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/simulation/world.hpp"

namespace {

bool number(const char* text, std::uint64_t& value) {
  char* end = nullptr;
  value = std::strtoull(text, &end, 10);
  return *text != '\0' && *text != '-' && *end == '\0';
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seeds = 1'000;
  std::uint64_t first = 1;
  std::uint64_t events = 500;
  testing::InitGoogleTest();
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    std::uint64_t* const value = name == "--seeds"    ? &seeds
                                 : name == "--first"  ? &first
                                 : name == "--events" ? &events
                                                      : nullptr;
    if (value == nullptr || i + 1 == argc || !number(argv[i + 1], *value)) {
      std::fprintf(stderr, "usage: holdfast_simulation [--seeds N] [--first SEED] [--events N]\n");
      return 2;
    }
  }
  std::uint64_t done = 0;
  std::string wrong;
  std::uint64_t failing = 0;
  class Run : public testing::Test {
   public:
    explicit Run(std::function<void()> body) : body_(std::move(body)) {}
    void TestBody() override { body_(); }

   private:
    std::function<void()> body_;
  };
  testing::RegisterTest("Simulation", "Seeds", nullptr, nullptr, __FILE__, __LINE__, [&]() -> testing::Test* {
    return new Run([&] {
      for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
        wrong = holdfast::simulation::World(seed).run(static_cast<int>(events));
        ++done;
        if (wrong.empty()) continue;
        failing = seed;
        FAIL() << "seed " << seed << ": " << wrong;
      }
    });
  });
  testing::GTEST_FLAG(brief) = true;
  const int status = RUN_ALL_TESTS();
  if (status != 0 && failing != 0)
    std::printf("again: holdfast_simulation --seeds 1 --first %llu --events %llu\n",
                static_cast<unsigned long long>(failing), static_cast<unsigned long long>(events));
  std::printf("simulation: %llu seeds of %llu events, %d failed\n", static_cast<unsigned long long>(done),
              static_cast<unsigned long long>(events), status != 0 ? 1 : 0);
  return status != 0 ? 1 : 0;
}
