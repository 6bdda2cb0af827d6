// SPDX-License-Identifier: MIT
//
// The broker of a campaign: an instance of its own in a directory of its own, killed and started as often as it takes.
// Nothing is left of it afterwards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/soak/child.hpp"

namespace holdfast::soak {

class BrokerProcess {
 public:
  BrokerProcess();
  BrokerProcess(const BrokerProcess&) = delete;
  BrokerProcess& operator=(const BrokerProcess&) = delete;
  ~BrokerProcess();

  // Returns when exec has happened.
  void start();
  // Until it answers. Throws Broken if it does not.
  void wait_ready();
  void kill() { child_->kill(); }
  void signal(int signal) { child_->signal(signal); }
  bool running() { return child_ && !child_->ended(); }

  // One request of a connection of its own. Throws Broken.
  nlohmann::json request(const char* method, const nlohmann::json& params = nlohmann::json::object()) const;
  // All of a paged list.
  nlohmann::json all(const char* method) const;

  std::string socket() const { return directory_ + "/broker.sock"; }
  std::string log() const;

  // What it has.
  std::size_t descriptors() const;
  std::vector<std::string> shm_files() const;
  std::uint64_t shm_bytes() const;

 private:
  std::string directory_;
  std::string instance_;
  std::optional<Child> child_;
};

}  // namespace holdfast::soak
