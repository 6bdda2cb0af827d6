// SPDX-License-Identifier: MIT
//
// A broker of the test's own: an instance name nobody else uses, a runtime directory made for it, nothing left afterwards.
//
// The destructor checks what every test must leave behind: a broker that ends by itself on SIGTERM, and no file of its
// instance in /dev/shm. Declare it before the clients, so that they go first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>
#include <nlohmann/json.hpp>

#include "holdfast/holdfast.hpp"
#include "proto/control/descriptor.hpp"
#include "tests/integration/control.hpp"
#include "tests/integration/fd_keeper.hpp"

namespace holdfast::integration {

class PrivateBroker {
 public:
  // `configuration`: the text of a configuration file; empty: none. `own_pids`: in a pid namespace of its own; throws
  // NoNamespace where there is none to be had. `stored_max`: so many descriptors are kept for it over its restarts, as
  // systemd does for a service; 0: none, as for a broker that is started by hand.
  explicit PrivateBroker(const std::string& configuration = {}, bool own_pids = false, std::size_t stored_max = 0);
  PrivateBroker(const PrivateBroker&) = delete;
  PrivateBroker& operator=(const PrivateBroker&) = delete;
  ~PrivateBroker();

  // Starts holdfastd and waits until it says that it is ready. Requires: not running.
  void start();
  // SIGKILL, and it is gone when this returns.
  void kill();
  // SIGTERM: its exit status, once it has ended.
  int stop();
  bool running() const { return pid_ > 0; }
  // SIGSTOP, and it has stopped when this returns; SIGCONT.
  void pause();
  void resume();
  pid_t pid() const { return pid_; }
  // SIGUSR1: it hands over to the next one; its exit status.
  int hand_over();
  // Who keeps its descriptors, if anybody does.
  FdKeeper& keeper() { return *keeper_; }

  const std::string& instance() const { return instance_; }
  const std::string& directory() const { return directory_; }
  std::string socket() const { return directory_ + "/" + instance_ + ".sock"; }

  // `timeout`: for one request; 0: the library's.
  Client client(const char* name = "test", nanoseconds timeout = nanoseconds(0)) const;
  // One request of a connection of its own.
  nlohmann::json request(const char* method, const nlohmann::json& params = nlohmann::json::object()) const;
  nlohmann::json stats() const { return request("stats"); }
  // The topic as `topics` lists it.
  nlohmann::json topic(const std::string& name) const;

  // Files of this instance in /dev/shm.
  std::vector<std::string> shm_files() const;
  std::uint64_t shm_bytes() const;
  std::string log() const;

 private:
  void wait_until_ready(int notify);
  int end_by(int signal);

  std::string directory_;
  std::string instance_;
  std::string configuration_;
  bool own_pids_;
  std::unique_ptr<FdKeeper> keeper_;
  pid_t pid_ = -1;
  Descriptor pidfd_;
};

// What a failed request must not change: compare before and after.
nlohmann::json resources(const PrivateBroker& broker);

}  // namespace holdfast::integration
