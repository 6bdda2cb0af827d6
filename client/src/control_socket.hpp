// SPDX-License-Identifier: MIT
//
// One connection to the broker: requests go out as lines, replies come back in order, with descriptors.
// Not for two threads at once: Session serialises.
//
// A request whose reply does not come in time is *given up*: it costs only itself. Its reply is still awaited, by its
// id, and goes to the handler that the request came with; so do its descriptors, of which each reply lists how many it
// has. Only what cannot be told apart any more (the end of the connection, a line that is no reply, descriptors that the
// kernel dropped) closes the connection; connect() makes another.
//
// Invariants:
//   (1) every request that was given up has its handler called once: with its reply, or with an empty one if none can
//       come any more. No other request has.
//   (2) what goes out is whole lines: the rest of one that was given up half-sent goes before the next.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/include/holdfast/holdfast.h"
#include "client/src/deadline.hpp"
#include "proto/control/descriptor.hpp"
#include "proto/control/message.hpp"

namespace holdfast::client {

struct Reply {
  nlohmann::json result;
  std::vector<Descriptor> fds;  // in the order of result["fds"]
  int code = HF_OK;  // of a late reply: why it is empty. HF_E_NO_BROKER also if none can come any more
  std::string sentence;  // and in words
};

// Takes the reply of a request that was given up; empty if it was refused, or none comes. Must not use the connection.
using LateReply = std::function<void(Reply& reply)>;

class ControlSocket {
 public:
  ControlSocket() = default;
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  ~ControlSocket();

  // Connects to the first of `paths` that answers. Failure: HF_E_NO_BROKER, naming every path and why, and leaving it to
  // the caller what to do. `timeout_ns` is that of requests; each path gets as much to take the connection, or `connect_ns` where that is given.
  [[nodiscard]] int connect(const std::vector<std::string>& paths, std::int64_t timeout_ns,
                            std::int64_t connect_ns = -1);

  // Sends one request and waits for its reply, as long as connect() was told. HF_TIMEOUT, with a sentence: given up.
  [[nodiscard]] int request(const char* method, const nlohmann::json& params, Reply& reply) {
    return request(method, params, reply, timeout_ns_, nullptr);
  }
  // `fds`: descriptors that go with it.
  [[nodiscard]] int request(const char* method, const nlohmann::json& params, Reply& reply, std::int64_t timeout_ns,
                            LateReply late, std::vector<int> fds = {});

  // Hands out the replies of given up requests that are here, without waiting.
  [[nodiscard]] int take_late() { return take_late(Deadline(0)); }
  // The same, and waits until all of them have come. The deadline's end is no failure.
  [[nodiscard]] int take_late(const Deadline& deadline);
  // Is a reply still to come?
  bool awaits_reply() const { return !given_up_.empty(); }
  // Until when the oldest of them was to come, had its request been given the time that connect() was told: monotonic_ns().
  // No reply is owed: the end of time.
  std::int64_t owed_until_ns() const;

  // What follows in the sentence when the broker was lost, or does not answer: what becomes of it all, and what to do.
  struct Advice {
    const char* lost = "";
    const char* late = "";
  };
  void set_advice(const Advice& advice) { advice_ = advice; }

  // Has the broker ended the connection, or said that it is going to? No fault of this process, then, nor an answer that
  // makes no sense.
  bool left_by_broker() const { return left_by_broker_; }

  const std::string& path() const { return path_; }
  int fd() const { return socket_.get(); }
  void close();
  // In a forked child, where the descriptor is closed and its number perhaps another's.
  void abandon();

 private:
  struct GivenUp {
    std::int64_t asked_ns = 0;
    LateReply late;
  };
  struct Answer {
    nlohmann::json document;
    std::vector<Descriptor> fds;
    bool unnumbered = false;  // an error about the connection itself, or about a line that the broker could not read
    std::uint64_t id = 0;
  };

  int flush(const Deadline& deadline);
  ssize_t send_some();
  int next_answer(const Deadline& deadline, Answer& answer);
  int receive_some(const Deadline& deadline);
  int settle(Answer& answer, Reply& reply);
  int refusal(const nlohmann::json& error, std::string& sentence) const;
  int hand_out(Answer& answer);
  int give_up(const char* method, std::int64_t timeout_ns);
  int hung_up(const std::string& why);
  int lost(const std::string& why);

  Descriptor socket_;
  std::string path_;
  std::string unsent_;
  std::vector<int> unsent_fds_;  // not ours
  control::LineBuffer received_;
  std::deque<Descriptor> received_fds_;  // of lines that have not been taken from received_
  std::map<std::uint64_t, GivenUp> given_up_;
  std::uint64_t next_id_ = 1;
  std::int64_t timeout_ns_ = 0;
  bool left_by_broker_ = false;
  Advice advice_;
};

// Where to look for the broker of `instance`, in order. `socket`: the caller's choice, may be empty.
std::vector<std::string> socket_paths(const std::string& socket, const std::string& instance);

}  // namespace holdfast::client
