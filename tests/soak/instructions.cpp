// SPDX-License-Identifier: MIT
//
// Clients are killed at every instruction of an operation: each life is another client that comes to another instruction.
// Those who live must not notice, and the broker must have let go of the dead before the next life begins.
//
// How long each operation is, and where it leads through the library, is recorded first, step by step. A life runs from
// breakpoint to breakpoint, each a place that is not come to any sooner from the one before it, and the rest step by step.
// It may differ a little from what was recorded: a number has one digit more, somebody does not sleep.
#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <unordered_map>
#include <utility>

#include "tests/soak/scene.hpp"
#include "tests/soak/steps.hpp"
#include "tests/soak/tracee.hpp"

namespace holdfast::soak {

namespace {

constexpr std::size_t kRecordings = 3;
constexpr std::uint64_t kStepsEnough = 50'000;  // to record an operation; then it is not recorded once more
// A breakpoint takes as long as some steps.
constexpr std::uint64_t kBreakpointSteps = 8;

// The instructions of one operation, and how many of them have been killed at.
class Route {
 public:
  void add(std::uint64_t where) {
    std::int64_t before = kAlways;
    if (where != Tracee::kElsewhere) {
      const auto [found, first] = last_.emplace(where, instructions());
      before = first ? kNever : static_cast<std::int64_t>(std::exchange(found->second, instructions()));
    }
    places_.push_back({where, before});
  }
  std::uint64_t instructions() const { return places_.size(); }
  std::uint64_t where(std::uint64_t instruction) const { return places_[instruction].where; }

  // The next instruction to be killed at: however many are wanted, they are spread evenly, and no two are the same.
  std::uint64_t next() const {
    constexpr double kGolden = 0.6180339887;
    auto stride = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<double>(instructions()) * kGolden));
    while (std::gcd(stride, instructions()) != 1) ++stride;
    return killed * stride % instructions();
  }

  // The farthest place on the way from one instruction to another that is not come to any sooner on it. `to` becomes its
  // instruction; kElsewhere: there is none.
  std::uint64_t breakpoint(std::uint64_t from, std::uint64_t& to) const {
    for (std::uint64_t at = to; at > from + kBreakpointSteps; --at) {
      if (places_[at].before >= static_cast<std::int64_t>(from)) continue;
      to = at;
      return places_[at].where;
    }
    return Tracee::kElsewhere;
  }

  std::uint64_t wanted = 0;
  std::uint64_t killed = 0;

 private:
  static constexpr std::int64_t kNever = -1;
  static constexpr std::int64_t kAlways = INT64_MAX;

  struct Place {
    std::uint64_t where;
    std::int64_t before;  // the instruction that was there before
  };

  std::vector<Place> places_;
  std::unordered_map<std::uint64_t, std::uint64_t> last_;
};

class Instructions {
 public:
  Instructions(const Plan& plan, Score& score)
      : plan_(plan),
        score_(score),
        scene_(score),
        routes_(operations().size()),
        began_(integration::now()) {
    scene_.seed(plan.seed);
  }

  void run() {
    attach();
    for (std::size_t operation = 0; operation < routes_.size(); ++operation) routes_[operation] = usual(operation);
    scene_.end();
    quiet();
    const Resources before = scene_.resources();

    scene_.forget_gaps();
    scene_.stalls_after(seconds(1));
    attach();
    share();
    kill_all();
    record(0);  // the last one lives
    scene_.end();
    score_.gap_ms = scene_.longest_gap().ms;
    score_.note = killed_text() + "; " + std::to_string(strayed_) +
                  " of them somewhere else than recorded; longest gap: " + scene_.longest_gap().of;
    scene_.count_leaks(before);
  }

 private:
  // Who stays; and the seat of those who are followed.
  void attach() {
    attach_survivors();
    scene_.wait_running();
    survivors_ = scene_.workers();
    victim_ = scene_.add(spec_of(Job::kStep));
    scene_.kill(victim_);
  }

  void attach_survivors() {
    Spec publisher = publisher_spec();
    publisher.alternating = 1;
    scene_.add(publisher);
    scene_.add(subscriber_spec(true, false));
    scene_.add(subscriber_spec(true, true));
    scene_.add(subscriber_spec(false, false));
  }

  void quiet() {
    scene_.forget_gaps();
    attach_survivors();
    scene_.wait_running();
    pass(std::min<nanoseconds>(seconds(5), std::chrono::microseconds(500) * plan_.count));
    scene_.end();
    score_.quiet_gap_ms = scene_.longest_gap().ms;
  }

  Child& begin(std::size_t operation) {
    scene_.seat(victim_).spec.operation = static_cast<std::uint32_t>(operation);
    scene_.replace(victim_);
    return scene_.process(victim_);
  }

  // One that is followed all the way, and lives.
  Route record(std::size_t operation) {
    Route route;
    Tracee tracee(begin(operation));
    auto stop = tracee.begin();
    for (bool under_way = stop == Tracee::Stop::kByItself; under_way;
         under_way = stop == Tracee::Stop::kAtInstruction) {
      route.add(tracee.where());
      stop = tracee.step();
    }
    if (stop != Tracee::Stop::kEnded) tracee.let_go();
    soon([&] { return scene_.process(victim_).ended(); }, seconds(60));
    scene_.kill(victim_);  // if it does not end
    return route;
  }

  // The longest of a few, without those that had to ask the broker for something that the others did not.
  Route usual(std::size_t operation) {
    std::vector<Route> routes;
    std::uint64_t steps = 0;
    while (routes.size() < kRecordings && steps < kStepsEnough) {
      routes.push_back(record(operation));
      steps += routes.back().instructions();
    }
    std::sort(routes.begin(), routes.end(),
              [](const Route& one, const Route& other) { return one.instructions() < other.instructions(); });
    while (routes.back().instructions() > 4 * routes.front().instructions()) routes.pop_back();
    return std::move(routes.back());
  }

  // Says how many of each operation: as many of each as of any other, and all of those that have fewer.
  void share() {
    std::vector<Route*> routes;
    for (Route& route : routes_) routes.push_back(&route);
    std::sort(routes.begin(), routes.end(),
              [](const Route* one, const Route* other) { return one->instructions() < other->instructions(); });
    std::uint64_t left = plan_.count;
    score_.planned = 0;
    for (std::size_t i = 0; i < routes.size(); ++i) {
      routes[i]->wanted = std::min(routes[i]->instructions(), left / (routes.size() - i));
      left -= routes[i]->wanted;
      score_.planned += routes[i]->wanted;
    }
  }

  // In turn, so that whoever ends it early has as large a part of each.
  void kill_all() {
    while (score_.stalled + score_.failed == 0 && !plan_.over(score_.count, began_)) {
      const auto next = std::min_element(routes_.begin(), routes_.end(), [](const Route& one, const Route& other) {
        return one.killed * std::max<std::uint64_t>(other.wanted, 1) <
               other.killed * std::max<std::uint64_t>(one.wanted, 1);
      });
      if (next->killed >= next->wanted) return;
      kill_once(static_cast<std::size_t>(next - routes_.begin()));
    }
  }

  void kill_once(std::size_t operation) {
    Route& route = routes_[operation];
    const std::uint64_t instruction = route.next();
    Tracee tracee(begin(operation));
    if (!advance(tracee, route, instruction)) ++strayed_;
    const std::uint64_t wrong = wrong_so_far();
    scene_.kill(victim_);
    ++score_.count;
    ++route.killed;
    const std::string here = operations()[operation].name + (" at instruction " + std::to_string(instruction));
    if (!others_go_on()) {
      ++score_.stalled;
      score_.say("nobody goes on after " + here + ": " + scene_.broker().request("stats").dump());
    }
    if (wrong_so_far() != wrong) score_.say("first seen after " + here);
  }

  // To this instruction, or to where the operation ends earlier. False: it is not where the recording was.
  static bool advance(Tracee& tracee, const Route& route, std::uint64_t instruction) {
    if (tracee.begin() != Tracee::Stop::kByItself) return false;
    std::uint64_t now = 0;
    while (true) {
      std::uint64_t next = instruction;
      const std::uint64_t place = route.breakpoint(now, next);
      if (place == Tracee::kElsewhere) break;
      if (tracee.go_to(place) != Tracee::Stop::kAtInstruction) return false;
      now = next;
    }
    for (; now < instruction; ++now)
      if (tracee.step() != Tracee::Stop::kAtInstruction) return false;
    return tracee.where() == route.where(instruction);
  }

  // What subscribers that live have found.
  std::uint64_t wrong_so_far() const {
    std::uint64_t wrong = 0;
    for (std::size_t worker = 0; worker < survivors_; ++worker) {
      const Seat& seat = scene_.seat(worker);
      wrong += seat.lost + seat.duplicated + seat.torn + seat.failed;
    }
    return wrong;
  }

  // Everybody has another sample, and the broker has let go of the dead.
  bool others_go_on() {
    std::vector<std::uint64_t> then;
    for (std::size_t worker = 0; worker < survivors_; ++worker) then.push_back(scene_.seat(worker).samples);
    const auto goes_on = [&] {
      for (std::size_t worker = 0; worker < survivors_; ++worker)
        if (scene_.seat(worker).samples == then[worker]) return false;
      return scene_.broker().request("stats").at("sessions") == survivors_;
    };
    return soon(goes_on, seconds(10), std::chrono::microseconds(200));
  }

  std::string killed_text() const {
    std::string text = "instructions killed at: ";
    for (std::size_t operation = 0; operation < routes_.size(); ++operation) {
      const Route& route = routes_[operation];
      text += std::string(operation == 0 ? "" : ", ") + operations()[operation].name + " " +
              std::to_string(route.killed) + " of " + std::to_string(route.instructions());
    }
    return text;
  }

  const Plan& plan_;
  Score& score_;
  Scene scene_;
  std::vector<Route> routes_;
  std::chrono::steady_clock::time_point began_;
  std::size_t survivors_ = 0;
  std::size_t victim_ = 0;
  std::uint64_t strayed_ = 0;
};

}  // namespace

void instructions(const Plan& plan, Score& score) {
  ::setenv("LD_BIND_NOW", "1", 1);  // functions are found before an operation begins, not in it
  Instructions(plan, score).run();
  ::unsetenv("LD_BIND_NOW");
}

}  // namespace holdfast::soak
