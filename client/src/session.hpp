// SPDX-License-Identifier: MIT
//
// A session: this process's connection to one broker, the segments that belong to it, and what it knows of other
// sessions. Shared by the client handle, its publishers and subscribers, and every lane that still has views; the
// session ends, with `bye`, when the last of them lets go. Any thread may call anything here.
//
// The session outlives its connection and its broker: whoever asks the broker for something, or sees that it is gone,
// connects again and resumes the session (connection.hpp). Two ways to ask: request() waits for a broker that is away,
// as long as a request may take; request_soon(), for the data path, looks whether one is there, now and then, and gives
// one that does not answer a moment only: what it answers later is found by the next who asks.
//
// Locks, in the order in which they are taken:
//   (1) control_: the connection. Held over a round trip, so for as long as the broker takes, but not while nobody
//       listens. Nothing that the data path does waits for it longer than kSoon says, and not at all once the request under
//       way is older, or the broker has owed an answer for longer; a ring waits a few milliseconds (kRingWaitNs).
//   (2) peers_mutex_: the map of known peers. Held for a look, never over a request or a system call.
//   (3) words_mutex_: what waits to be told to the broker. Held for a look.
//   (4) fork_mutex(): the sessions of this process (fork_guard.hpp).
// Bells have no lock: which are leased is one atomic word, and a peer's eventfd, once known, does not change.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sys/epoll.h>
#include <sys/types.h>

#include "client/include/holdfast/holdfast.h"
#include "client/src/connection.hpp"
#include "client/src/fork_guard.hpp"
#include "client/src/mapping.hpp"
#include "proto/shm/bells_layout.hpp"
#include "proto/shm/roster_layout.hpp"

namespace holdfast::client {

// The answer to a request_soon() whose caller had given up, for the next time that it asks the same. Whoever holds the
// session's control_.
struct LateAnswer {
  std::optional<Reply> reply;
  std::uint32_t resumed = 0;  // how often the session was, when it was asked
};

// Another process's session, as far as we read and ring it. Its segments stay mapped while somebody refers to it.
class Peer : public std::enable_shared_from_this<Peer> {
 public:
  Peer(std::uint32_t session, std::shared_ptr<Mapping> records, std::shared_ptr<Mapping> bells);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer();

  std::uint32_t session() const { return session_; }
  const Mapping& records() const { return *records_; }
  shm::BellSegment& bells() const { return bells_->as<shm::BellSegment>(); }
  const std::shared_ptr<Mapping>& bells_mapping() const { return bells_; }

  // The eventfd of a bell of its, or -1: not known. Any thread; the descriptor, known once, stays until the end of this
  // object, but may come to mean a newer eventfd. Pairs with the release store in learn_event().
  int event(std::uint32_t bell) const { return events_[bell].load(std::memory_order_acquire); }
  // Is it the one that the bell's word says, from the broker of now? A restarted one makes new eventfds, and may come to
  // the same number again: `resumed` is how often our session was. Any thread.
  bool knows(std::uint32_t bell, std::uint64_t word, std::uint32_t resumed) const {
    return words_[bell].load(std::memory_order_acquire) == word &&
           learned_[bell].load(std::memory_order_acquire) == resumed && event(bell) >= 0;
  }

  // The rest belongs to who holds the session's control_.
  // `word`: what the bell's word was when we asked, and `resumed` which broker.
  void learn_event(std::uint32_t bell, std::uint64_t word, std::uint32_t resumed, Descriptor event);
  bool asked(std::uint32_t bell) const { return (asked_ >> bell & 1) != 0; }
  void set_asked(std::uint32_t bell, bool asked);

 private:
  std::uint32_t session_;
  std::shared_ptr<Mapping> records_;
  std::shared_ptr<Mapping> bells_;
  std::array<std::atomic<int>, shm::kBellCount> events_;
  std::array<std::atomic<std::uint64_t>, shm::kBellCount> words_{};
  std::array<std::atomic<std::uint32_t>, shm::kBellCount> learned_{};
  std::uint64_t asked_ = 0;  // bells whose eventfd we have asked for, without an answer yet
};

// The file of a broker's roster, device and inode. Nobody else's while we have it mapped, unlike socket path and epoch:
// both are the same again after a clean stop.
using BrokerId = std::pair<dev_t, ino_t>;

class Session : public std::enable_shared_from_this<Session> {
 public:
  [[nodiscard]] static int open(const hf_client_options& options, std::shared_ptr<Session>& session);
  ~Session();

  // One request to the broker. HF_E_NO_BROKER if it does not answer in time: that costs this request, and the next may
  // work. What the broker opened for it all the same is closed again. Where the connection breaks, the session is
  // resumed and the request repeated, within that time; HF_E_CLOSED, HF_E_VERSION, …: it cannot be resumed, see lost().
  [[nodiscard]] int request(const char* method, const nlohmann::json& params, Reply& reply);
  // For a caller with a timeout of its own. Negative: as long as a request may take.
  struct Patience {
    std::int64_t away_ns;  // for a broker that is away
    std::int64_t answer_ns;  // for one that is there and does not answer
    bool look;  // not for another thread that waits for it; and if it owes an answer for as long, not at all
  };
  static constexpr Patience kAsRequest{-1, -1, false};
  static constexpr Patience kSoon{0, 50'000'000, true};
  [[nodiscard]] int request_within(const char* method, const nlohmann::json& params, Reply& reply,
                                   const Patience& patience);
  // For the data path: kSoon. HF_E_NO_BROKER at once where the broker is away, or owes an answer for longer than that.
  [[nodiscard]] int request_soon(const char* method, const nlohmann::json& params, Reply& reply,
                                 const std::shared_ptr<LateAnswer>& earlier);

  // For what must not be forgotten: what cannot be said now, or was not heard, is said later. Waits for a moment only, and
  // leaves the thread's sentence alone.
  void tell_surely(const char* method, const nlohmann::json& params);

  // A request that opens a handle: adds a key, under which a repeated one finds the first. Held until close_handle().
  [[nodiscard]] int open_handle(const char* method, nlohmann::json params, Reply& reply,
                                std::shared_ptr<HeldHandle>& held);
  // Waits a second at most, for a broker that does not answer or a thread that waits for it: it will hear of it then.
  void close_handle(std::uint64_t handle);

  // Segments that nobody but this process keeps for the broker. The descriptor stays the caller's.
  void keep_memory(std::uint64_t segment, int fd);
  void let_go_memory(std::uint64_t segment);

  // For the data path: if the broker has gone, looks whether one is there again, as BackOff says. Any failure is nobody's
  // concern. The first is for who is about to sleep, and gives it a few milliseconds to answer; the second does not wait:
  // the next call goes on from there. `now`: there is one, as shared memory says.
  void look_for_broker();
  void glance_for_broker(bool now);
  // It has gone, as far as anybody has noticed.
  bool broker_away() const { return !connection_.up() && !lost(); }
  // The broker that answers does not know this session any more, or does not fit: no request will ever work again.
  bool lost() const { return connection_.refused(); }
  // How often the session was resumed.
  std::uint32_t resumed() const { return connection_.resumed(); }
  // Adds the control socket to an epoll. False: there is none now, or no look at it; to be tried again.
  bool watch_broker(int epoll, epoll_event& hang_up);

  // The peers of `sessions`, in order; nullptr for those that are gone. Asks the broker for those not known yet, and
  // waits for it as `patience` says. Failure: not all are known; HF_E_NO_BROKER also for one that lives and has still to
  // give its memory back to a broker that lost it. What is known is there all the same.
  [[nodiscard]] int peers(std::span<const std::uint32_t> sessions, std::vector<std::shared_ptr<Peer>>& found,
                          const Patience& patience);

  // A bell for the calling thread. HF_E_BUSY if all 64 are in use: by threads that wait, and by event loops.
  [[nodiscard]] int lease_bell(std::uint32_t& bell);
  void return_bell(std::uint32_t bell);
  std::uint64_t fresh_ticket();

  // Rings bell `bell` (untrusted) of `peer`, if it is armed. False: its eventfd is not known, and the broker is busy or
  // away; to be tried again. Waits a few milliseconds at most, and not again while the broker owes an answer.
  bool ring(Peer& peer, std::uint64_t bell);

  std::uint32_t id() const { return id_; }
  bool full_fences() const { return full_fences_ || connection_.full_fences(); }
  const shm::RosterHeader& roster() const { return roster_->as<shm::RosterHeader>(); }
  const Mapping& records() const { return *records_; }
  const Mapping& bells() const { return *bells_; }
  shm::Bell& bell(std::uint32_t index) const { return bells_->as<shm::BellSegment>().bells[index]; }
  std::int64_t timeout_ns() const { return timeout_ns_; }

 private:
  // What could not be told because another thread waited for the broker: that one says it when it is done. `closed`: the
  // handle that this closes, or 0.
  struct Word {
    const char* method;
    nlohmann::json params;
    std::uint64_t closed;
  };

  int begin(const hf_client_options& options, const std::vector<std::string>& paths);
  int say_hello(const hf_client_options& options);
  int confirm();
  int map_own(const nlohmann::json& result, std::vector<Descriptor>& fds);
  std::unique_lock<std::timed_mutex> lock_control();
  bool lock_control_soon(std::unique_lock<std::timed_mutex>& lock, std::int64_t young_ns);
  std::int64_t most_ns(const Patience& patience) const;
  int lock_within(const Patience& patience, std::unique_lock<std::timed_mutex>& lock);
  struct Question {
    const char* method;
    const nlohmann::json& params;
    LateReply late = nullptr;  // beside what every late reply needs
    std::uint64_t key = 0;  // of one that opens a handle
  };
  int wait_for_owed(const char* method, const Patience& patience);
  int ask(std::unique_lock<std::timed_mutex>& lock, const Question& question, Reply& reply, std::int64_t away_ns,
          std::int64_t answer_ns = -1);
  std::int64_t owed_since_ns() const;
  int ask_once(const Question& question, Reply& reply, std::int64_t timeout_ns);
  void say(std::unique_lock<std::timed_mutex>& lock, const char* method, const nlohmann::json& params,
           std::int64_t answer_ns);
  void leave_word(std::unique_lock<std::timed_mutex>& lock, Word word);
  void say_words();
  bool known_peers(std::span<const std::uint32_t> sessions, std::vector<std::shared_ptr<Peer>>& found,
                   std::vector<std::uint32_t>& unknown);
  int fetch_peers(std::unique_lock<std::timed_mutex>& lock, std::span<const std::uint32_t> sessions,
                  const Patience& patience, std::vector<std::shared_ptr<Peer>>& fresh);
  int fetch_remote(std::unique_lock<std::timed_mutex>& lock, const std::vector<std::uint32_t>& sessions,
                   const Patience& patience, std::vector<std::shared_ptr<Peer>>& fresh);
  int map_peers(Reply& reply, std::vector<std::shared_ptr<Peer>>& fresh);
  void keep_late_peers(Reply& reply);
  bool ring_unknown(Peer& peer, std::uint32_t bell, std::uint64_t word);
  bool find_event(Peer& peer, std::uint32_t bell, std::uint64_t word);

  std::timed_mutex control_;  // protects the next two; see the head of this file
  Connection connection_;
  std::uint64_t last_key_ = 0;  // of a request that opens a handle
  std::atomic<std::int64_t> busy_since_ns_{0};  // when it was locked last. Read without it, as a hint: relaxed

  std::mutex words_mutex_;  // protects the next one
  std::vector<Word> words_;

  std::mutex peers_mutex_;  // protects the next two
  std::map<std::uint32_t, std::weak_ptr<Peer>> peers_;
  std::vector<std::shared_ptr<Peer>> late_peers_;  // of the last late answer, until somebody refers to them

  std::atomic<std::uint64_t> bells_leased_{0};
  std::atomic<std::uint64_t> ticket_{0};

  // Set once, by open().
  std::uint32_t id_ = 0;
  std::uint32_t forks_ = g_fork_count;
  std::int64_t timeout_ns_ = 0;  // of one request
  bool full_fences_ = false;
  BrokerId broker_{};  // which one the id belongs to
  Descriptor lock_;  // the session segment's descriptor, which carries the fcntl lock
  Descriptor bells_fd_;  // kept for the broker, if nobody else does
  std::shared_ptr<Mapping> records_;
  std::shared_ptr<Mapping> bells_;
  std::shared_ptr<Mapping> roster_;
};

}  // namespace holdfast::client
