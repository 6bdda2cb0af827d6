// SPDX-License-Identifier: MIT
#include "bench/idle.hpp"

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "bench/endpoint.hpp"

namespace holdfast::bench {

namespace {

constexpr int kTopics = 1000;

// A number of /proc/PID/status.
double status_of(const std::string& pid, const std::string& field) {
  std::ifstream status("/proc/" + pid + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stod(line.substr(field.size() + 1));
  throw std::runtime_error("/proc/" + pid + "/status does not say " + field);
}

Idle measure() {
  const char* pid = std::getenv("HOLDFAST_BENCH_BROKER");
  if (pid == nullptr) throw std::runtime_error("HOLDFAST_BENCH_BROKER does not name the broker's process");
  const ClientHandle client = open_client();
  for (int i = 0; i < kTopics; ++i) {
    hf_publisher* publisher = nullptr;
    const std::string topic = "bench/idle/" + std::to_string(i);
    must("hf_publisher_open", hf_publisher_open(client.get(), topic.c_str(), nullptr, &publisher));
  }
  // What the requests left to do is done when it has not been switched to for a second.
  double before = -1;
  while (before != status_of(pid, "voluntary_ctxt_switches")) {
    before = status_of(pid, "voluntary_ctxt_switches");
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  std::this_thread::sleep_for(std::chrono::seconds(10));
  return {.switches = status_of(pid, "voluntary_ctxt_switches") - before,
          .resident_mib = status_of(pid, "VmRSS") / 1024};
}

}  // namespace

const Idle& idle_broker() {
  static const Idle idle = measure();
  return idle;
}

}  // namespace holdfast::bench
