// SPDX-License-Identifier: MIT
//
// A session's connection to its broker, over cut sockets and restarts of the broker. Not for two threads at once: Session
// serialises with control_; what says "any thread" is a hint for those who look before they lock.
//
//   up ──socket broken──► away ──connect()──► resuming ──resume.end answered──► up, `resumed()` one more
//                           ▲                    │  │
//                           └──cut, or busy──────┘  └──the broker does not know the session, or refuses──► refused
//
// Invariants:
//   (1) nothing but the resumption is sent while resuming; what the broker answers to it may come at any later call, so
//       that nobody has to wait for it.
//   (2) a handle that is held() when the resumption lists the handles is never dropped by it: handles are held before the
//       lock is let go under which they were opened, and closed by errand once they have been listed.
//   (3) refused is the end: this session is never asked for again.
//   (4) a resumption that has listed a key is only ended while somebody still wants what the key has opened: else it is
//       begun again, without the key.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/src/back_off.hpp"
#include "client/src/control_socket.hpp"

namespace holdfast::client {

// A handle that this session has open. `unknown`: a broker that resumed the session does not know it (any more).
struct HeldHandle {
  std::uint64_t id = 0;
  std::atomic<bool> unknown{false};  // relaxed: who misses it looks again
};

class Connection {
 public:
  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // The first connection. Until hello() has begun a session it cannot be resumed.
  [[nodiscard]] int connect(const std::vector<std::string>& paths, std::int64_t timeout_ns);
  // `params`: what the session says about itself beside the versions. HF_E_VERSION: client and broker do not fit.
  [[nodiscard]] int hello(nlohmann::json params, Reply& reply);
  void begin_session(std::uint32_t session, std::string token);

  // One request, as ControlSocket's. If up() afterwards is false, the connection broke; see broken_by_broker().
  [[nodiscard]] int request(const char* method, const nlohmann::json& params, Reply& reply, std::int64_t timeout_ns,
                            LateReply late);
  // As ControlSocket's.
  [[nodiscard]] int take_late(const Deadline& deadline = Deadline(0));
  bool awaits_reply() const { return socket_.awaits_reply(); }
  std::int64_t owed_until_ns() const { return socket_.owed_until_ns(); }
  bool broken_by_broker() const { return socket_.left_by_broker(); }

  // HF_OK: up, as far as is known. Else connects and resumes, as far as that goes without waiting longer than wait_ns
  // for answers; the next call goes on from there. Looks for a broker that is away, and waits for one that does not answer, as
  // seldom as BackOff says, unless `now`.
  // Failure: why it is not up; refused() says whether it ever will be.
  [[nodiscard]] int bring_up(std::int64_t wait_ns, bool now);

  // Any thread, relaxed.
  bool up() const { return state_.load(std::memory_order_relaxed) == State::kUp; }
  bool refused() const { return state_.load(std::memory_order_relaxed) == State::kRefused; }
  bool resuming() const { return state_.load(std::memory_order_relaxed) == State::kResuming; }
  // How often the session was resumed. Pairs with the release in finish(): with it comes what that had found out.
  std::uint32_t resumed() const { return resumed_.load(std::memory_order_acquire); }
  // Has some broker asked for them since? It does not take back.
  bool full_fences() const { return full_fences_.load(std::memory_order_relaxed); }

  // Has the other end gone, though no request has found out yet? Then away from now on.
  void look();

  // A request has waited its whole time for the broker; the next ones need not, until it is back.
  void give_up() { given_up_ = true; }
  bool gave_up() const { return given_up_; }

  // The keys of requests under way that open a handle, one for each thread in one: a resumption keeps what they have made.
  // Begins when such a request is about to be sent; ends when it is answered or given up.
  void begin_open(std::uint64_t key) { pending_keys_.insert(key); }
  void end_open(std::uint64_t key);

  // A segment whose descriptor this process keeps, because nobody keeps it for the broker: a resumption gives it back.
  // The descriptor stays the caller's, until let_go_memory().
  void keep_memory(std::uint64_t segment, int fd) { memory_[segment] = fd; }
  void let_go_memory(std::uint64_t segment) { memory_.erase(segment); }

  std::shared_ptr<HeldHandle> hold(std::uint64_t handle);
  // True: to be told to the broker now. False: it will be, once the resumption under way is done.
  bool let_go(std::uint64_t handle);

  // Requests whose answers nobody waits for. They survive the end of the connection; send_errands() requires up().
  void add_errand(const char* method, nlohmann::json params);
  void send_errands();

  int fd() const { return socket_.fd(); }
  const std::string& path() const { return socket_.path(); }
  void abandon() { socket_.abandon(); }

 private:
  enum class State : std::uint8_t { kUp, kAway, kResuming, kRefused };
  enum class Step : std::uint8_t { kBegin, kMemory, kHandles, kEnd, kLibrary /* the next release's */ };
  struct Errand {
    const char* method;
    nlohmann::json params;
  };

  void notice();
  int find_broker(std::int64_t wait_ns);
  int resume(std::int64_t wait_ns);
  std::string agree(const nlohmann::json& answer);
  int answered(Reply& answer);
  int began(const Reply& answer);
  void handles_answered(const Reply& answer);
  void ask(Step step, const char* method, const nlohmann::json& params, std::vector<int> fds = {});
  void give_memory(const Reply& answer);
  void ask_handles();
  void finish();
  void cut(const std::string& why);
  int refuse(int code, const std::string& sentence);

  std::atomic<State> state_{State::kUp};
  std::atomic<std::uint32_t> resumed_{0};
  std::atomic<bool> full_fences_{false};

  std::map<std::uint64_t, std::shared_ptr<HeldHandle>> held_;
  std::map<std::uint64_t, int> memory_;  // by segment
  std::vector<Errand> errands_;
  std::uint32_t session_ = 0;
  std::string token_;
  std::uint64_t protocol_ = 0;  // that the broker of now speaks with us
  std::vector<std::string> path_;  // the one that answered: another's broker does not know us
  std::int64_t timeout_ns_ = 0;
  bool given_up_ = false;
  std::int64_t find_again_ns_ = 0;
  std::int64_t wait_again_ns_ = 0;
  BackOff back_off_;
  std::string away_;  // why, when a broker was looked for last
  int refused_code_ = HF_OK;
  std::string refused_;

  Step step_ = Step::kBegin;
  std::uint64_t listed_ = 0;  // handles up to this one have been listed
  std::set<std::uint64_t> pending_keys_;
  bool keys_listed_ = false;
  std::optional<Reply> answer_;  // to the step under way

  ControlSocket socket_;  // last, so first to go: its late replies end up above
};

}  // namespace holdfast::client
