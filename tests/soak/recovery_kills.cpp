// SPDX-License-Identifier: MIT
//
// The broker is killed, and those that follow it are killed while they adopt what it left, some times in a row; clients are
// killed while there is none. The one that may live must have everything of those who live, and nothing of the others.
#include <algorithm>

#include "tests/soak/scene.hpp"
#include "tests/soak/worker.hpp"

namespace holdfast::soak {

namespace {

constexpr std::uint64_t kInARowMax = 5;

// Lanes and subscriptions of those who stay, by their session.
nlohmann::json of_the_staying(const std::vector<std::uint32_t>& staying, const BrokerProcess& broker) {
  nlohmann::json kept = nlohmann::json::array();
  const nlohmann::json topics = broker.request("topics", {{"name", name_of(Topic::kLoad)}}).at("topics");
  if (topics.size() != 1) return kept;
  const auto stays = [&](const nlohmann::json& row) {
    return std::find(staying.begin(), staying.end(), row.at("session").get<std::uint32_t>()) != staying.end();
  };
  for (const nlohmann::json& lane : topics[0].at("lanes"))
    if (stays(lane)) kept.push_back({lane.at("lane"), lane.at("session"), lane.at("state"), lane.at("pid")});
  for (const nlohmann::json& one : topics[0].at("subscriptions"))
    if (stays(one)) kept.push_back({one.at("handle"), one.at("session"), one.at("delivery"), one.at("pid")});
  return kept;
}

class RecoveryKills {
 public:
  RecoveryKills(const Plan& plan, Score& score) : plan_(plan), score_(score), scene_(score) {
    scene_.seed(plan.seed);
    scene_.stalls_after(seconds(1));
  }

  void run() {
    const Resources before = scene_.resources();
    attach();
    const auto began = integration::now();
    while (score_.stalled + score_.failed == 0 && !plan_.over(score_.count, began)) round();
    scene_.end();
    score_.gap_ms = scene_.longest_gap().ms;
    scene_.count_leaks(before);
  }

 private:
  void attach() {
    for (int i = 0; i < 2; ++i) scene_.add(publisher_spec());
    scene_.add(subscriber_spec(true, false));
    scene_.add(subscriber_spec(true, true));
    scene_.add(subscriber_spec(false, false));
    scene_.add(spec_of(Job::kIdle));
    staying_ = scene_.workers();
    scene_.add(spec_of(Job::kOpen));
    victims_ = scene_.workers();
    scene_.add(publisher_spec());
    scene_.add(subscriber_spec(true, false));
    scene_.wait_running();
    sessions_.clear();
    for (std::size_t worker = 0; worker < staying_; ++worker) sessions_.push_back(scene_.seat(worker).session);
    kept_ = of_the_staying(sessions_, scene_.broker());
  }

  void round() {
    pass(log_uniform(random(), std::chrono::microseconds(100), milliseconds(20)));
    scene_.broker().kill();
    const bool one_dies = random()() % 2 == 0;
    const std::size_t victim = victims_ + random()() % 2;
    const std::uint32_t dead = one_dies ? scene_.seat(victim).session.load() : 0;
    const std::uint64_t in_a_row = 1 + random()() % kInARowMax;
    const std::uint64_t dies_before = random()() % in_a_row;
    for (std::uint64_t i = 0; i < in_a_row; ++i) {
      if (one_dies && i == dies_before) scene_.kill(victim);
      scene_.broker().start();
      pass(log_uniform(random(), std::chrono::microseconds(20), milliseconds(20)));
      scene_.broker().kill();
      ++score_.count;
    }
    scene_.broker().start();
    scene_.broker().wait_ready();
    converges(dead);
    if (!one_dies) return;
    scene_.replace(victim);
    scene_.wait_running();
  }

  // `dead`: the session of a worker that was killed, which must end; 0: none was.
  void converges(std::uint32_t dead) {
    const auto in_order = [&] {
      if (!scene_.not_connected().empty()) return false;
      const nlohmann::json sessions = scene_.broker().all("sessions");
      return std::none_of(sessions.begin(), sessions.end(), [&](const auto& row) { return row.at("session") == dead; });
    };
    if (!soon(in_order, seconds(30))) {
      ++score_.stalled;
      score_.say("after kills in the recovery, not all is back: " + scene_.broker().request("sessions").dump());
      return;
    }
    const nlohmann::json kept = of_the_staying(sessions_, scene_.broker());
    if (kept == kept_) return;
    ++score_.failed;
    score_.say("lanes and subscriptions were " + kept_.dump() + " and are " + kept.dump());
  }

  std::mt19937_64& random() { return scene_.random(); }

  const Plan& plan_;
  Score& score_;
  Scene scene_;
  std::size_t staying_ = 0;
  std::size_t victims_ = 0;
  std::vector<std::uint32_t> sessions_;
  nlohmann::json kept_;
};

}  // namespace

void recovery_kills(const Plan& plan, Score& score) { RecoveryKills(plan, score).run(); }

}  // namespace holdfast::soak
