// SPDX-License-Identifier: MIT
//
// The lane under every memory machine: no run within the bounds, and none of many random ones, goes wrong. And the
// tests themselves: a lane without its fences is found.
#include <gtest/gtest.h>

#include "tests/model/lane_scenario.hpp"

namespace holdfast::model {
namespace {

struct Case {
  const char* name;
  LaneShape shape;
  std::uint32_t deaths = 0;
};

const Case kCases[] = {
    {"InlineDropOldest", {.chunks = 0, .samples = 4}},
    {"InlineLossless", {.chunks = 0, .lossless = 1, .dropping = 0}},
    {"ChunkDropOldest", {}},
    {"ChunkBothKinds", {.lossless = 1}},
    {"ChunkTurned", {.lossless = 1, .dropping = 0, .takes = 5, .turns = true}},
    {"InlineTurned", {.chunks = 0, .lossless = 1, .dropping = 0, .takes = 5, .turns = true}},
    {"ChunkJoin", {.dropping = 0, .joins = true}},
    {"InlineJoin", {.chunks = 0, .samples = 5, .dropping = 0, .joins = true}},
    {"Batch", {.ring = 4, .chunks = 4, .samples = 6, .batch = 2}},
    {"Finish", {.chunks = 0, .samples = 2, .lossless = 1, .dropping = 0, .takes = 6, .finishes = true}},
    {"Deaths", {.lossless = 1, .takes = 4, .readers_die = true, .publisher_dies = true}, 1},
};

struct Setting {
  Case what;
  Memory memory;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.what.name; }

std::string describe(const Verdict& verdict) {
  std::string text = verdict.why + "; replay with choices {";
  for (const std::uint32_t choice : verdict.choices) text += std::to_string(choice) + ",";
  return text + "}";
}

class Lane : public testing::TestWithParam<Setting> {
 protected:
  Make make() const {
    return [shape = GetParam().what.shape] { return std::make_unique<LaneScenario>(shape); };
  }
  Bounds bounds() const {
    return {.switches = 2, .stale = 1, .delays = 1, .deaths = GetParam().what.deaths, .runs_max = 30'000};
  }
};

TEST_P(Lane, HoldsInEveryRunWithinBounds) {
  const Verdict verdict = explore(make(), GetParam().memory, bounds());
  EXPECT_FALSE(verdict.failed) << describe(verdict);
  EXPECT_GT(verdict.runs, 10u);
}

TEST_P(Lane, HoldsInRandomRuns) {
  const Verdict verdict = wander(make(), GetParam().memory, 5'000, 1, bounds());
  EXPECT_FALSE(verdict.failed) << describe(verdict);
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const Case& one : kCases)
    for (const Memory memory : {Memory::kSequential, Memory::kBuffers, Memory::kViews}) all.push_back({one, memory});
  return all;
}
std::string name_of(const testing::TestParamInfo<Setting>& info) {
  const char* const machines[] = {"Sequential", "Buffers", "Views"};
  return std::string(info.param.what.name) + machines[static_cast<int>(info.param.memory)];
}
INSTANTIATE_TEST_SUITE_P(Model, Lane, testing::ValuesIn(settings()), name_of);

// A weakened site that the machine of its row must show.
struct Weak {
  shm::At at;
  std::size_t scenario;
  Memory memory;
};
class Weakened : public testing::TestWithParam<Weak> {};

TEST_P(Weakened, IsFoundAndTheFailingRunRepeats) {
  const Case& what = kCases[GetParam().scenario];
  const Make make = [&] { return std::make_unique<LaneScenario>(what.shape); };
  const Bounds bounds{.deaths = what.deaths};
  const Weakening weakening{GetParam().at, true};
  const Verdict found = wander(make, GetParam().memory, 200'000, 1, bounds, weakening);
  ASSERT_TRUE(found.failed) << shm::site(GetParam().at).name << " can be weakened and nothing notices";
  const Bounds free{.switches = 1000, .stale = 1000, .delays = 1000, .deaths = what.deaths};
  EXPECT_EQ(replay(make, GetParam().memory, found.choices, free, weakening).why, found.why);
}

INSTANTIATE_TEST_SUITE_P(
    Model, Weakened,
    testing::Values(Weak{shm::At::kPublishStamp, 0, Memory::kViews}, Weak{shm::At::kPublishFence, 0, Memory::kViews},
                    Weak{shm::At::kReclaimFence, 8, Memory::kViews}, Weak{shm::At::kTakePinFence, 2, Memory::kViews},
                    Weak{shm::At::kReclaimPin, 2, Memory::kViews}, Weak{shm::At::kReleasePin, 2, Memory::kViews},
                    Weak{shm::At::kScanCursor, 3, Memory::kViews}, Weak{shm::At::kTakeCursor, 3, Memory::kViews},
                    Weak{shm::At::kFinishState, 9, Memory::kViews}),
    [](const testing::TestParamInfo<Weak>& info) {
      std::string name = shm::site(info.param.at).name;
      for (char& c : name)
        if (c == '.') c = '_';
      return name;
    });

}  // namespace
}  // namespace holdfast::model
