// SPDX-License-Identifier: MIT
//
// What a campaign is told, and what it says. Only zeros are good.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/integration/within.hpp"

namespace holdfast::soak {

struct Plan {
  std::uint64_t count = 0;
  std::uint64_t seed = 1;
  std::chrono::nanoseconds time_max{0};  // 0: as long as it takes

  bool over(std::uint64_t done, std::chrono::steady_clock::time_point began) const {
    return done >= count || (time_max.count() != 0 && integration::now() - began >= time_max);
  }
};

struct Score {
  std::string name;
  std::uint64_t planned = 0;
  std::uint64_t count = 0;
  std::uint64_t samples = 0;  // taken
  std::uint64_t lost = 0;
  std::uint64_t duplicated = 0;
  std::uint64_t torn = 0;
  std::uint64_t leaked = 0;
  std::uint64_t stalled = 0;
  std::uint64_t failed = 0;  // anything else that went wrong
  double gap_ms = -1;        // longest; -1: not measured
  double quiet_gap_ms = -1;  // of a run without
  double gap_goal = 0;       // at most so many times that; 0: shown only
  std::string note;
  std::vector<std::string> sentences;  // what went wrong, at most some of it

  bool whole() const { return count >= planned; }
  bool good() const { return lost + duplicated + torn + leaked + stalled + failed == 0; }
  void say(const std::string& sentence) {
    constexpr std::size_t kSentencesMax = 10;
    if (sentence.empty() || sentences.size() >= kSentencesMax) return;
    if (std::find(sentences.begin(), sentences.end(), sentence) == sentences.end()) sentences.push_back(sentence);
  }
};

void broker_kills(const Plan& plan, Score& score);
void client_kills(const Plan& plan, Score& score);
void recovery_kills(const Plan& plan, Score& score);
void stops(const Plan& plan, Score& score);
void clock_steps(const Plan& plan, Score& score);  // a part of stops
void instructions(const Plan& plan, Score& score);
// Programs of their own, whose verdict is shown beside the others.
void simulation(const Plan& plan, Score& score);
void registry(const Plan& plan, Score& score);

}  // namespace holdfast::soak
