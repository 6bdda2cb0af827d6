// SPDX-License-Identifier: MIT
//
// The second half of `stops`: somebody sets the time, by up to twelve hours forth and back, again and again, for clients and
// the broker. Nobody may be taken for dead, no wait may end too early or too late, and nothing may be lost.
#include "tests/soak/scene.hpp"
#include "tests/soak/stepping_clock.hpp"

namespace holdfast::soak {

namespace {

void attach_two_of_each(Scene& scene) {
  for (int i = 0; i < 2; ++i) scene.add(publisher_spec());
  for (int i = 0; i < 4; ++i) scene.add(subscriber_spec(i < 2, i % 2 == 0));
  scene.add(spec_of(Job::kOpen));
  scene.add(spec_of(Job::kIdle));
  scene.add(spec_of(Job::kWait));
  scene.wait_running();
}

}  // namespace

void clock_steps(const Plan& plan, Score& score) {
  const std::string library = SteppingClock::library();
  if (library.empty()) {
    score.note += "no clock steps: libfaketime is not installed";
    return;
  }
  SteppingClock clock(library);
  Scene scene(score);
  scene.seed(plan.seed);
  scene.stalls_after(seconds(1));
  const Resources before = scene.resources();
  attach_two_of_each(scene);
  const std::vector<std::uint32_t> sessions = scene.sessions();
  const auto began = integration::now();
  std::uint64_t steps = 0;
  for (; !plan.over(steps, began); ++steps) {
    const nanoseconds ahead = log_uniform(scene.random(), seconds(1), std::chrono::hours(12));
    clock.set(scene.random()() % 2 == 0 ? ahead : -ahead);
    pass(log_uniform(scene.random(), milliseconds(1), milliseconds(200)));
    scene.expect_listed(sessions);
  }
  const std::uint64_t seen = scene.seat(scene.workers() - 1).clock_steps;
  if (seen == 0 && steps > 0) {
    ++score.failed;
    score.say("no step of the clock was seen: libfaketime does nothing here");
  }
  scene.end();
  scene.count_leaks(before);
  score.note += std::to_string(steps) + " clock steps, " + std::to_string(seen) + " of them seen by one client";
}

}  // namespace holdfast::soak
