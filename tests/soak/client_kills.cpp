// SPDX-License-Identifier: MIT
//
// Eight publishers and eight subscribers under load. One after the other is killed at a random moment, while it starts, too,
// and another one takes its place at once. Those who live must not notice, and nothing may be left of the dead.
#include "tests/soak/scene.hpp"

namespace holdfast::soak {

namespace {

void attach(Scene& scene) {
  for (int i = 0; i < 8; ++i) {
    Spec spec = publisher_spec();
    spec.grown = 0;  // who is killed while a lane grows is worth seeing
    spec.burst = 4;
    if (i == 0) spec.pause_us = 0;  // one is always in the library
    scene.add(spec);
  }
  for (int i = 0; i < 8; ++i) scene.add(subscriber_spec(i < 5, i % 2 == 1));
  scene.wait_running();
}

}  // namespace

void client_kills(const Plan& plan, Score& score) {
  Scene scene(score);
  scene.seed(plan.seed);
  scene.stalls_after(seconds(1));
  attach(scene);
  const auto quiet_time = std::min<nanoseconds>(seconds(5), std::chrono::microseconds(500) * plan.count);
  pass(quiet_time);
  scene.end();
  score.quiet_gap_ms = scene.longest_gap().ms;
  const Resources before = scene.resources();

  scene.forget_gaps();
  attach(scene);
  const auto began = integration::now();
  std::size_t newest = 0;
  while (!plan.over(score.count, began)) {
    pass(log_uniform(scene.random(), std::chrono::microseconds(100), milliseconds(20)));
    const bool young = scene.random()() % 8 == 0;
    const std::size_t victim = young ? newest : scene.random()() % scene.workers();
    scene.kill(victim);
    scene.replace(victim);
    newest = victim;
    ++score.count;
  }
  scene.wait_running();
  scene.end();
  score.gap_ms = scene.longest_gap().ms;
  score.note = "longest gap: " + scene.longest_gap().of;
  scene.count_leaks(before);
}

}  // namespace holdfast::soak
