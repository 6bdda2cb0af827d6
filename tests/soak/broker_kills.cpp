// SPDX-License-Identifier: MIT
//
// The broker is killed at random moments under load and started again. Afterwards the same load runs as long without kills,
// for its longest gap.
//
// Two topics: on one, all who are attached stay: they need no broker. On the other an opener comes and goes: a publisher
// whose newest subscriber only the broker can show it waits for the next broker, once its ring is full.
#include <algorithm>
#include <cstdio>

#include "tests/soak/scene.hpp"

namespace holdfast::soak {

namespace {

constexpr seconds kBackWithin{30};

void attach_two_topics(Scene& scene) {
  for (int i = 0; i < 2; ++i) scene.add(publisher_spec());
  scene.add(subscriber_spec(true, false));
  scene.add(subscriber_spec(true, true));
  scene.add(subscriber_spec(false, false));
  scene.add(subscriber_spec(false, true));
  scene.add(spec_of(Job::kIdle));
  for (Spec spec :
       {publisher_spec(), subscriber_spec(true, false), subscriber_spec(false, true), spec_of(Job::kOpen)}) {
    spec.topic = Topic::kBusy;
    scene.add(spec);
  }
  scene.wait_running();
}

// Kills and starts it once. When everybody was back, from its first answer on; negative: they were not.
double kill_once(Scene& scene, Score& score) {
  scene.broker().kill();
  pass(log_uniform(scene.random(), std::chrono::microseconds(1), milliseconds(20)));
  scene.broker().start();
  scene.broker().wait_ready();
  const auto answered = integration::now();
  std::string late;
  const bool back = soon(
      [&] {
        std::string away = scene.not_connected();
        if (away.empty()) return true;
        late = std::move(away);
        return false;
      },
      kBackWithin);
  if (!back) return -1;
  const double ms = integration::milliseconds_since(answered);
  if (ms >= 1'000) score.say("back after " + std::to_string(static_cast<int>(ms)) + " ms: " + late);
  return ms;
}

void judge(Score& score, std::vector<double> back_ms) {
  if (back_ms.empty()) return;
  std::sort(back_ms.begin(), back_ms.end());
  const double p99 = back_ms[back_ms.size() * 99 / 100];
  char text[160];
  std::snprintf(text, sizeof text, "every session back after %.1f ms (median), %.1f ms (p99), %.1f ms (max)",
                back_ms[back_ms.size() / 2], p99, back_ms.back());
  score.note = text;
  if (p99 < 1'000) return;
  score.stalled +=
      static_cast<std::uint64_t>(std::count_if(back_ms.begin(), back_ms.end(), [](double ms) { return ms >= 1'000; }));
  score.say("sessions are back too late");
}

struct Gaps {
  double load_ms = 0;
  double busy_ms = 0;
};

Gaps quiet_gaps(const Plan& plan, nanoseconds time) {
  Score ignored;
  Scene scene(ignored);
  scene.seed(plan.seed);
  attach_two_topics(scene);
  pass(time);
  scene.end();
  return {scene.longest_gap().ms, scene.longest_gap(Topic::kBusy).ms};
}

}  // namespace

void broker_kills(const Plan& plan, Score& score) {
  Scene scene(score);
  scene.seed(plan.seed);
  scene.stalls_after(seconds(1));
  const Resources before = scene.resources();
  attach_two_topics(scene);
  const auto began = integration::now();
  std::vector<double> back_ms;
  while (!plan.over(score.count, began)) {
    pass(log_uniform(scene.random(), std::chrono::microseconds(100), milliseconds(100)));
    const double ms = kill_once(scene, score);
    ++score.count;
    if (ms >= 0) {
      back_ms.push_back(ms);
      continue;
    }
    ++score.stalled;
    score.say("sessions did not come back: " + scene.broker().request("sessions").dump());
    break;
  }
  const auto took = integration::now() - began;
  scene.end();
  score.gap_ms = scene.longest_gap().ms;
  score.gap_goal = 2;
  judge(score, std::move(back_ms));
  scene.count_leaks(before);
  const Gaps quiet = quiet_gaps(plan, took);
  score.quiet_gap_ms = quiet.load_ms;
  const LongestGap& busy = scene.longest_gap(Topic::kBusy);
  char text[200];
  std::snprintf(text, sizeof text,
                "; longest gap: %s; where an opener comes and goes: %.1f ms (%s), %.1f without kills",
                scene.longest_gap().of.c_str(), busy.ms, busy.of.c_str(), quiet.busy_ms);
  score.note += text;
}

}  // namespace holdfast::soak
