// SPDX-License-Identifier: MIT
//
// A session: this process's connection to one broker, the segments that belong to it, and what it knows of other
// sessions. Shared by the client handle, its publishers and subscribers, and every lane that still has views; the
// session ends, with `bye`, when the last of them lets go. Any thread may call anything here.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "client/include/holdfast/holdfast.h"
#include "client/src/control_socket.hpp"
#include "client/src/mapping.hpp"
#include "proto/shm/bells_layout.hpp"
#include "proto/shm/roster_layout.hpp"

namespace holdfast::client {

// Another process's session, as far as we read and ring it. Its segments stay mapped while somebody refers to it.
class Peer {
 public:
  Peer(std::uint32_t session, std::shared_ptr<Mapping> records, std::shared_ptr<Mapping> bells)
      : session_(session),
        records_(std::move(records)),
        bells_(std::move(bells)) {}

  std::uint32_t session() const { return session_; }
  const Mapping& records() const { return *records_; }
  shm::BellSegment& bells() const { return bells_->as<shm::BellSegment>(); }
  const std::shared_ptr<Mapping>& bells_mapping() const { return bells_; }

  // Descriptors of those of its bells that are eventfds, fetched at the first ring. Guarded by the session's mutex.
  std::array<Descriptor, shm::kBellCount> events;

 private:
  std::uint32_t session_;
  std::shared_ptr<Mapping> records_;
  std::shared_ptr<Mapping> bells_;
};

// The file of a broker's roster, device and inode. Nobody else's while we have it mapped, unlike socket path and epoch:
// both are the same again after a clean stop.
using BrokerId = std::pair<dev_t, ino_t>;

class Session : public std::enable_shared_from_this<Session> {
 public:
  [[nodiscard]] static int open(const hf_client_options& options, std::shared_ptr<Session>& session);
  ~Session();

  // One request to the broker.
  [[nodiscard]] int request(const char* method, const nlohmann::json& params, Reply& reply);

  // The peers of `sessions`, in order; nullptr for those that are gone. Asks the broker for those not known yet.
  [[nodiscard]] int peers(std::span<const std::uint32_t> sessions, std::vector<std::shared_ptr<Peer>>& found);

  // A bell for the calling thread. HF_E_BUSY if 64 threads of this process wait already.
  [[nodiscard]] int lease_bell(std::uint32_t& bell);
  void return_bell(std::uint32_t bell);
  std::uint64_t fresh_ticket();

  // Rings bell `bell` (untrusted) of `peer`, if it is armed.
  void ring(Peer& peer, std::uint64_t bell);

  std::uint32_t id() const { return id_; }
  bool full_fences() const { return full_fences_; }
  const shm::RosterHeader& roster() const { return roster_->as<shm::RosterHeader>(); }
  const Mapping& records() const { return *records_; }
  const Mapping& bells() const { return *bells_; }
  shm::Bell& bell(std::uint32_t index) const { return bells_->as<shm::BellSegment>().bells[index]; }
  int socket_fd();

 private:
  int say_hello(const hf_client_options& options);
  int map_own(const nlohmann::json& result, std::vector<Descriptor>& fds);
  int fetch_peers(std::span<const std::uint32_t> sessions);
  int map_peer(std::uint32_t session, const nlohmann::json& fds, std::vector<Descriptor>& descriptors);
  int event_of(Peer& peer, std::uint32_t bell);

  std::mutex mutex_;  // protects everything up to the blank line
  ControlSocket socket_;
  std::map<std::uint32_t, std::weak_ptr<Peer>> peers_;
  std::vector<std::shared_ptr<Peer>> fresh_peers_;  // fetched, not yet handed out
  std::uint64_t bells_leased_ = 0;
  std::uint64_t ticket_ = 0;

  // Set once, by open().
  std::uint32_t id_ = 0;
  std::uint32_t forks_ = g_fork_count;
  bool full_fences_ = false;
  BrokerId broker_{};  // which one the id belongs to
  Descriptor lock_;  // the session segment's descriptor, which carries the fcntl lock
  std::shared_ptr<Mapping> records_;
  std::shared_ptr<Mapping> bells_;
  std::shared_ptr<Mapping> roster_;
};

}  // namespace holdfast::client
