// SPDX-License-Identifier: MIT
//
// Every scenario under every memory machine: no run within small bounds, and none of many random ones, goes wrong. And
// the tests themselves: what is weakened is noticed. The whole table of mutants is `scripts/test --mutants`.
#include <gtest/gtest.h>

#include "tests/model/mutants.hpp"
#include "tests/model/scenarios.hpp"

namespace holdfast::model {
namespace {

struct Setting {
  const Case* what;
  Memory memory;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.what->name; }

std::string describe(const Verdict& verdict) { return verdict.why + "; choices '" + text_of(verdict.choices) + "'"; }

std::string word(std::string name) {
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return name;
}

class Holds : public testing::TestWithParam<Setting> {
 protected:
  Bounds bounds() const {
    return {.switches = 2, .stale = 1, .delays = 1, .deaths = GetParam().what->deaths, .runs_max = 5'000};
  }
};

TEST_P(Holds, InEveryRunWithinBounds) {
  const Verdict verdict = explore(GetParam().what->make, GetParam().memory, bounds());
  EXPECT_FALSE(verdict.failed) << describe(verdict);
  EXPECT_GT(verdict.runs, 10u);
}

TEST_P(Holds, InRandomRuns) {
  const Verdict verdict = wander(GetParam().what->make, GetParam().memory, 3'000, 1, bounds());
  EXPECT_FALSE(verdict.failed) << describe(verdict);
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const Case& one : cases())
    for (const Memory memory : {Memory::kSequential, Memory::kBuffers, Memory::kViews}) all.push_back({&one, memory});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Model, Holds, testing::ValuesIn(settings()), [](const testing::TestParamInfo<Setting>& info) {
  return word(std::string(info.param.what->name) + "_" + name_of(info.param.memory));
});

// A few of the table, one of each kind.
class Weakened : public testing::TestWithParam<const char*> {};

TEST_P(Weakened, IsFoundAndTheFailingRunRepeats) {
  const Entry* entry = find_mutant(GetParam());
  ASSERT_NE(entry, nullptr);
  const Case* what = find_case(entry->scenario);
  ASSERT_NE(what, nullptr);
  const Bounds bounds{.deaths = what->deaths};
  const Verdict found = wander(what->make, entry->memory, 200'000, 1, bounds, entry->mutant);
  ASSERT_TRUE(found.failed) << GetParam() << ": nothing notices";
  EXPECT_EQ(replay(what->make, entry->memory, found.choices, bounds, entry->mutant).why, found.why);
  EXPECT_EQ(choices_of(text_of(found.choices)).size() <= found.choices.size(), true);
  const Choices least = shrink(what->make, entry->memory, found.choices, bounds, entry->mutant);
  EXPECT_TRUE(replay(what->make, entry->memory, choices_of(text_of(least)), bounds, entry->mutant).failed);
}

INSTANTIATE_TEST_SUITE_P(Model, Weakened,
                         testing::Values("publish.stamp/relaxed", "publish.fence/no fence", "reclaim.fence/no fence",
                                         "take.pin_fence/no fence", "reclaim.pin/relaxed", "release.pin/relaxed",
                                         "scan.cursor/relaxed", "take.cursor/relaxed", "finish.state/relaxed"),
                         [](const testing::TestParamInfo<const char*>& info) { return word(info.param); });

}  // namespace
}  // namespace holdfast::model
