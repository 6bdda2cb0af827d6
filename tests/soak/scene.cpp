// SPDX-License-Identifier: MIT
#include "tests/soak/scene.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include <sys/wait.h>

namespace holdfast::soak {

using integration::Broken;

namespace {

// The roster keeps the blocks that it once needed, for the next topics and lanes.
constexpr std::uint64_t kRosterGrowth = 512 << 10;

}  // namespace

Scene::Scene(Score& score) : score_(score) {
  const std::string socket = broker_.socket();
  if (socket.size() >= sizeof board_->socket) throw Broken("the path of the socket is too long: " + socket);
  std::memcpy(board_->socket, socket.c_str(), socket.size());
  broker_.start();
  broker_.wait_ready();
}

std::size_t Scene::add(Spec spec) {
  const std::size_t worker = workers_.size();
  if (worker == kSeatsMax) throw Broken("no seat is free");
  spec.seed = random_();
  seat(worker).spec = spec;
  workers_.emplace_back();
  launch(worker);
  return worker;
}

void Scene::launch(std::size_t worker) {
  Launch launch;
  launch.program = "/proc/self/exe";
  launch.arguments = {"holdfast_soak", "--seat", std::to_string(worker)};
  launch.inherited = board_.fd();
  workers_[worker] = std::make_unique<Child>(launch);
}

void Scene::wait_running() {
  for (std::size_t worker = 0; worker < workers_.size(); ++worker) {
    const bool running = soon([&] { return seat(worker).state == SeatState::kRunning || process(worker).ended(); });
    if (running && seat(worker).state == SeatState::kRunning) continue;
    if (running) harvest(worker, 0);
    throw Broken("worker " + std::to_string(worker) + " did not get to work" + (running ? ", but ended" : ""));
  }
}

void Scene::kill(std::size_t worker) {
  if (process(worker).ended()) {  // of itself, before its time: it says why
    harvest(worker, 0);
    return;
  }
  const std::uint64_t at_ns = now_ns();
  process(worker).kill();
  harvest(worker, at_ns);
}

void Scene::replace(std::size_t worker) {
  Seat& here = seat(worker);
  Spec spec = here.spec;
  spec.seed = random_();
  std::memset(static_cast<void*>(&here), 0, sizeof here);
  here.spec = spec;
  launch(worker);
}

void Scene::harvest(std::size_t worker, std::uint64_t at_ns) {
  Seat& here = seat(worker);
  score_.lost += here.lost;
  score_.duplicated += here.duplicated;
  score_.torn += here.torn;
  score_.failed += here.failed;
  if (here.spec.job == Job::kSubscribe) score_.samples += here.samples;
  if (here.sentence[0] != '\0') score_.say(describe(worker) + ": " + here.sentence);
  const int status = process(worker).status();
  if (at_ns == 0 && here.failed == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
    ++score_.failed;
    score_.say("worker " + std::to_string(worker) + " ended with wait status " + std::to_string(status));
  }
  if (here.spec.job != Job::kPublish && here.spec.job != Job::kSubscribe && here.spec.job != Job::kWait) return;
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(here.gaps_count, kGapsMax); ++i)
    count_gap(here.gaps[i], worker);
  if (at_ns != 0 && here.state == SeatState::kRunning && here.last_ns < at_ns) count_gap({here.last_ns, at_ns}, worker);
}

void Scene::count_gap(Gap gap, std::size_t worker) {
  if (gap.end_ns <= gap.begin_ns) return;
  const std::uint64_t unshared = watch_.unshared_ns(gap);
  LongestGap& longest = longest_gaps_[static_cast<std::size_t>(seat(worker).spec.topic)];
  if (const double ms = static_cast<double>(unshared) / 1e6; ms > longest.ms) longest = {ms, describe(worker)};
  if (stall_ns_ == 0 || unshared < stall_ns_) return;
  ++score_.stalled;
  score_.say(describe(worker) + " stalled for " + std::to_string(unshared / 1'000'000) + " ms");
}

bool Scene::runs(std::size_t worker) const {
  return workers_[worker]->running() && seat(worker).state == SeatState::kRunning;
}

std::string Scene::describe(std::size_t worker) const {
  const Spec& spec = seat(worker).spec;
  const std::string number = " (worker " + std::to_string(worker) + ")";
  switch (spec.job) {
    case Job::kPublish:
      return "publisher" + number;
    case Job::kOpen:
      return "opener" + number;
    case Job::kIdle:
      return "idle client" + number;
    case Job::kWait:
      return "waiter" + number;
    case Job::kStep:
      return "followed client" + number;
    case Job::kSubscribe:
      break;
  }
  return std::string(spec.lossless != 0 ? "lossless" : "drop-oldest") + " subscriber" +
         (spec.event_loop != 0 ? " with an event loop" : "") + number;
}

std::vector<std::uint32_t> Scene::sessions() const {
  std::vector<std::uint32_t> sessions;
  for (std::size_t worker = 0; worker < workers_.size(); ++worker)
    if (workers_[worker]->running() && seat(worker).state == SeatState::kRunning)
      sessions.push_back(seat(worker).session);
  std::sort(sessions.begin(), sessions.end());
  return sessions;
}

std::string Scene::not_connected() const {
  std::set<std::uint32_t> connected;
  for (const nlohmann::json& session : broker_.all("sessions"))
    if (session.at("connected")) connected.insert(session.at("session").get<std::uint32_t>());
  std::string names;
  for (std::size_t worker = 0; worker < workers_.size(); ++worker)
    if (runs(worker) && !connected.contains(seat(worker).session))
      names += (names.empty() ? "" : ", ") + describe(worker);
  return names;
}

void Scene::expect_listed(const std::vector<std::uint32_t>& sessions) {
  std::set<std::uint32_t> listed;
  for (const nlohmann::json& session : broker_.all("sessions"))
    listed.insert(session.at("session").get<std::uint32_t>());
  for (const std::uint32_t session : sessions) {
    if (listed.contains(session)) continue;
    ++score_.failed;
    score_.say("session " + std::to_string(session) + " was taken for dead");
  }
}

void Scene::await_end(std::size_t worker) {
  if (!soon([&] { return process(worker).ended(); }, seconds(60))) {
    ++score_.stalled;
    score_.say("worker " + std::to_string(worker) + " does not end");
    process(worker).kill();
    harvest(worker, now_ns());
    return;
  }
  harvest(worker, 0);
}

// Whoever is there has one session, an opener two for a moment.
void Scene::count_sessions_of_nobody() {
  std::size_t most = workers_.size();
  for (std::size_t worker = 0; worker < workers_.size(); ++worker)
    if (seat(worker).spec.job == Job::kOpen) ++most;
  std::vector<nlohmann::json> listed;
  const auto nobodys = [&] {
    listed = broker_.all("sessions");
    return listed.size() > most;
  };
  if (soon([&] { return !nobodys(); }, seconds(10), milliseconds(10))) return;
  score_.leaked += listed.size() - most;
  score_.say("sessions of nobody: " + nlohmann::json(listed).dump());
}

void Scene::end() {
  count_sessions_of_nobody();
  const auto publishes = [&](std::size_t worker) {
    return seat(worker).spec.job == Job::kPublish || seat(worker).spec.job == Job::kOpen;
  };
  board_->phase = Phase::kEndPublishers;
  for (std::size_t worker = 0; worker < workers_.size(); ++worker)
    if (publishes(worker)) await_end(worker);
  board_->phase = Phase::kEndAll;
  for (std::size_t worker = 0; worker < workers_.size(); ++worker)
    if (!publishes(worker)) await_end(worker);
  workers_.clear();
  board_->phase = Phase::kRun;
  for (std::size_t worker = 0; worker < kSeatsMax; ++worker)
    std::memset(static_cast<void*>(&seat(worker)), 0, sizeof(Seat));
}

Resources Scene::resources(std::uint64_t descriptors_expected) {
  Resources now;
  const auto empty = [&] {
    const nlohmann::json stats = broker_.request("stats");
    now.segments = stats.at("segments");
    return stats.at("sessions") == 0 && stats.at("lanes") == 0 && now.segments <= 1;
  };
  if (!soon(empty, seconds(10), milliseconds(10)))
    score_.say("the broker does not let go of all: " + broker_.request("stats").dump() +
               broker_.request("topics").dump() + broker_.request("segments").dump());
  // Those of connections go a moment after their sessions.
  soon([&] { return (now.descriptors = broker_.descriptors()) <= descriptors_expected; }, seconds(5), milliseconds(10));
  now.files = broker_.shm_files().size();
  now.bytes = broker_.shm_bytes();
  return now;
}

void Scene::count_leaks(const Resources& before) {
  const Resources after = resources(before.descriptors);
  const auto leak = [&](const char* what, std::uint64_t now, std::uint64_t then, std::uint64_t allowed) {
    if (now <= then + allowed) return;
    score_.leaked += now - then;
    score_.say(std::string(what) + ": " + std::to_string(then) + " before, " + std::to_string(now) + " afterwards");
  };
  leak("segments", after.segments, before.segments, 0);
  leak("files in /dev/shm", after.files, before.files, 0);
  leak("descriptors of the broker", after.descriptors, before.descriptors, 0);
  leak("bytes in /dev/shm", after.bytes, before.bytes, kRosterGrowth);
}

Spec spec_of(Job job) {
  Spec spec;
  spec.job = job;
  return spec;
}

Spec publisher_spec() {
  Spec spec = spec_of(Job::kPublish);
  spec.burst = 8;
  spec.pause_us = 2'000;
  spec.grown = 1;
  return spec;
}

Spec subscriber_spec(bool lossless, bool event_loop) {
  Spec spec = spec_of(Job::kSubscribe);
  spec.lossless = lossless;
  spec.event_loop = event_loop;
  spec.views_held = 3;
  return spec;
}

}  // namespace holdfast::soak
