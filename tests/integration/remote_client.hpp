// SPDX-License-Identifier: MIT
//
// A client in another process, told step by step what to do. It takes and publishes samples as payload.hpp makes them and
// checks each one; what it saw comes back as numbers.
#pragma once

#include <csignal>
#include <cstdint>
#include <string>

#include "tests/integration/broker.hpp"
#include "tests/integration/process.hpp"

namespace holdfast::integration {

// What a subscriber took, summed up.
struct Seen {
  std::uint64_t samples = 0;
  std::uint64_t bytes = 0;
  std::uint64_t torn = 0;  // samples that do not match their tag
  std::uint64_t disorder = 0;  // positions that came twice, backwards, or were left out without being told
  std::uint64_t missed = 0;
  std::uint64_t turned = 0;
  std::uint64_t finished = 0;
  std::uint64_t aborted = 0;
  std::uint64_t corrupt = 0;
  std::uint64_t first = 0;  // position of the first and of the last sample
  std::uint64_t last = 0;
};

class RemoteClient {
 public:
  // `user`: it becomes this one, a member of the group that may connect; 0: ours.
  explicit RemoteClient(const PrivateBroker& broker, const char* name = "remote", bool own_pids = false,
                        uid_t user = 0);

  std::uint32_t session() const { return session_; }
  Process& process() { return process_; }
  void kill() { process_.kill(SIGKILL); }
  // SIGSTOP, and it has stopped when this returns; SIGCONT.
  void pause();
  void resume() { process_.kill(SIGCONT); }

  // HF_OK or the failure; the sentence is in the answer.
  nlohmann::json subscribe(const std::string& topic, bool lossless = true, int start = HF_START_NEXT);
  nlohmann::json open_publisher(const std::string& topic, const nlohmann::json& options = nlohmann::json::object());

  // Takes and releases `samples` samples, waiting for each.
  Seen take(std::uint64_t samples);
  // Takes until `ends` publishers have ended. begin_…: returns at once, finish_taking() has the result.
  Seen take_until_ended(std::uint64_t ends = 1);
  void begin_taking_until_ended(std::uint64_t ends = 1);
  Seen finish_taking();
  // Takes `samples` samples and keeps their views.
  Seen hold(std::uint64_t samples);
  // How many of the views that it holds are no longer what they were.
  std::uint64_t spoilt_views();
  void release_views();

  // Publishes `samples` samples of `bytes` bytes, seeds from `seed` on; waits for room.
  void publish(std::uint64_t samples, std::uint64_t bytes, std::uint32_t seed = 1);
  // Takes a loan, fills half of it and keeps it.
  void loan(std::uint64_t bytes);
  void drain();

  void close_subscriber() { call("close_subscriber"); }
  void close_publisher() { call("close_publisher"); }
  void close_client() { call("close_client"); }
  // Asks the broker something, and so tells it what it could not be told before.
  void ping() { call("ping"); }
  // Cuts its connection to the broker; the process lives on.
  void cut_connection() { call("cut_connection"); }

  nlohmann::json call(const char* what, nlohmann::json arguments = nlohmann::json::object());

 private:
  Process process_;
  std::uint32_t session_ = 0;
};

}  // namespace holdfast::integration
