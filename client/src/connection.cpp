// SPDX-License-Identifier: MIT
#include "client/src/connection.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/src/failure.hpp"
#include "client/src/json_fields.hpp"
#include "client/src/version.hpp"
#include "proto/control/spoken.hpp"
#include "proto/control/versions.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::client {

namespace {

constexpr std::size_t kHandlesPerRequest = 256;
constexpr std::size_t kDescriptorsPerRequest = 64;

constexpr const char* kStartOne = ". Start holdfastd, or set HOLDFAST_SOCKET or HOLDFAST_INSTANCE";
// Of a client that is being opened, and of one that was. What was asked for is not asked for again by itself.
constexpr ControlSocket::Advice kWithoutSession{
    ". Nothing was opened; open the client again",
    ". Nothing was opened; open the client again, perhaps with a longer timeout",
};
constexpr ControlSocket::Advice kWithSession{
    ". What is attached goes on without it, and this client comes back by itself; then call again",
    ". What is attached goes on, and so does this client; call again, or open a client with a longer timeout",
};

// What a broker that has just started may answer, and will not for ever.
bool passes(int code) {
  return code == HF_E_NO_BROKER || code == HF_E_BUSY || code == HF_E_NO_MEMORY || code == HF_E_QUOTA ||
         code == HF_E_SYSTEM;
}

constexpr control::Spoken kSpoken{control::kProtocolOldest, control::kProtocolVersion, shm::kLayoutVersion};

nlohmann::json versions() {
  return {{"protocol", kSpoken.newest}, {"protocol_min", kSpoken.oldest}, {"layout", kSpoken.layout}};
}

}  // namespace

int Connection::connect(const std::vector<std::string>& paths, std::int64_t timeout_ns) {
  timeout_ns_ = timeout_ns;
  socket_.set_advice(kWithoutSession);
  if (const int result = socket_.connect(paths, timeout_ns); result != HF_OK)
    return fail(result, std::string(last_failure()) + kStartOne);
  // The process may change its directory; where the path would be too long, it had better not.
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(socket_.path(), error).string();
  path_ = {error || absolute.size() >= sizeof(sockaddr_un::sun_path) ? socket_.path() : absolute};
  return HF_OK;
}

void Connection::begin_session(std::uint32_t session, std::string token) {
  session_ = session;
  token_ = std::move(token);
  socket_.set_advice(kWithSession);
}

int Connection::hello(nlohmann::json params, Reply& reply) {
  params.update(versions());
  if (control::kNext) params["library"] = kVersion;
  if (const int result = request("hello", params, reply, timeout_ns_, nullptr); result != HF_OK) return result;
  if (const std::string wrong = agree(reply.result); !wrong.empty())
    return fail(HF_E_VERSION, "the broker at " + socket_.path() + " does not fit: " + wrong);
  begin_session(static_cast<std::uint32_t>(number(reply.result, "session")), text(reply.result, "token"));
  return HF_OK;
}

// What is wrong with the versions that the broker answered, or "". It should have refused us then.
std::string Connection::agree(const nlohmann::json& answer) {
  protocol_ = number(answer, "protocol");
  const control::Spoken broker{protocol_, protocol_, number(answer, "layout")};
  if (control::agreed(kSpoken, broker)) return "";
  return "it speaks " + control::in_words(broker) + ", this library (libholdfast " + kVersion + ") " +
         control::in_words(kSpoken) + ": update the older of the two";
}

// ---- requests -----------------------------------------------------------------------------------------------------

int Connection::request(const char* method, const nlohmann::json& params, Reply& reply, std::int64_t timeout_ns,
                        LateReply late) {
  const int result = socket_.request(method, params, reply, timeout_ns, std::move(late));
  notice();
  return result;
}

int Connection::take_late(const Deadline& deadline) {
  const int result = up() ? socket_.take_late(deadline) : HF_OK;
  notice();
  return result;
}

void Connection::notice() {
  if (socket_.fd() >= 0 || !up()) return;
  away_ = "lost the broker at " + socket_.path() + ": it closed the connection" + kWithSession.lost;
  find_again_ns_ = 0;
  wait_again_ns_ = 0;
  back_off_.reset();
  state_.store(State::kAway, std::memory_order_relaxed);
}

void Connection::look() {
  notice();
  pollfd other_end{socket_.fd(), POLLRDHUP, 0};
  if (!up() || ::poll(&other_end, 1, 0) <= 0) return;
  const KeptSentence kept;
  (void)take_late();  // which finds the end, behind what was answered before it
}

void Connection::end_open(std::uint64_t key) {
  if (pending_keys_.erase(key) == 0 || !resuming() || !keys_listed_) return;
  // The broker would keep what it opened. Nothing has changed there before the end of the resumption.
  cut("the broker at " + path_.front() + " has not resumed session " + std::to_string(session_) + " yet" +
      kWithSession.lost);
  find_again_ns_ = 0;
}

std::shared_ptr<HeldHandle> Connection::hold(std::uint64_t handle) {
  auto held = std::make_shared<HeldHandle>();
  held->id = handle;
  held_[handle] = held;
  return held;
}

bool Connection::let_go(std::uint64_t handle) {
  held_.erase(handle);
  if (!resuming()) return true;
  add_errand("close", {{"handle", handle}});
  return false;
}

void Connection::add_errand(const char* method, nlohmann::json params) {
  errands_.push_back({method, std::move(params)});
}

void Connection::send_errands() {
  if (errands_.empty()) return;
  const KeptSentence kept;
  for (auto left = std::exchange(errands_, {}); Errand & errand : left) {
    const auto again = [this, errand](const Reply& late) {
      if (late.code == HF_E_NO_BROKER) errands_.push_back(errand);
    };
    Reply reply;
    const int result = up() ? request(errand.method, errand.params, reply, 0, again) : HF_E_NO_BROKER;
    if (result == HF_E_NO_BROKER && !up()) errands_.push_back(errand);
  }
}

// ---- resuming -----------------------------------------------------------------------------------------------------

int Connection::bring_up(std::int64_t wait_ns, bool now) {
  if (up()) return HF_OK;
  if (refused()) return fail(refused_code_, refused_);
  const std::int64_t moment = monotonic_ns();
  if (!resuming()) {
    if (!now && moment < find_again_ns_) return fail(HF_E_NO_BROKER, away_);
    find_again_ns_ = moment + back_off_.next_ns();
    if (const int result = find_broker(wait_ns); result != HF_OK) return result;
  }
  // For one that takes the connection and does not answer nobody waits at every call.
  if (wait_ns > 0 && !now) {
    if (moment < wait_again_ns_)
      wait_ns = 0;
    else
      wait_again_ns_ = moment + wait_ns + back_off_.next_ns();
  }
  return resume(wait_ns);
}

int Connection::find_broker(std::int64_t wait_ns) {
  int result = HF_OK;
  std::string why;
  {
    const KeptSentence kept;
    result = socket_.connect(path_, timeout_ns_, wait_ns);
    if (result != HF_OK) why = last_failure();
  }
  if (result != HF_OK) {
    away_ = why + kWithSession.lost;
    return fail(result, away_);
  }
  state_.store(State::kResuming, std::memory_order_relaxed);
  listed_ = 0;
  keys_listed_ = false;
  nlohmann::json params = versions();
  params["session"] = session_;
  params["token"] = token_;
  ask(Step::kBegin, "resume.begin", params);
  return HF_OK;
}

// Sends a step of the resumption. Its answer goes to answer_, now or in some later call.
void Connection::ask(Step step, const char* method, const nlohmann::json& params, std::vector<int> fds) {
  const KeptSentence kept;
  step_ = step;
  answer_.reset();
  Reply reply;
  const auto late = [this](Reply& answer) { answer_ = std::move(answer); };
  const int result = socket_.request(method, params, reply, 0, late, std::move(fds));
  if (result == HF_TIMEOUT) return;  // the rule: it has only just been asked
  reply.code = result;
  reply.sentence = last_failure();
  answer_ = std::move(reply);
}

int Connection::resume(std::int64_t wait_ns) {
  const Deadline deadline(wait_ns);
  while (resuming()) {
    if (!answer_) {
      const KeptSentence kept;
      (void)socket_.take_late(deadline);
    }
    if (!answer_) {
      away_ = "the broker at " + path_.front() + " has not resumed session " + std::to_string(session_) + " yet" +
              kWithSession.lost;
      return fail(HF_E_NO_BROKER, away_);
    }
    Reply answer = std::move(*answer_);
    answer_.reset();
    if (const int result = answered(answer); result != HF_OK) return result;
  }
  return up() ? HF_OK : fail(HF_E_NO_BROKER, away_);
}

int Connection::answered(Reply& answer) {
  // Nothing depends on the last step, but for a connection that breaks.
  if (answer.code != HF_OK && (step_ != Step::kLibrary || answer.code == HF_E_NO_BROKER)) {
    cut("the broker at " + path_.front() + " has not resumed session " + std::to_string(session_) + ": " +
        (answer.sentence.empty() ? std::string("it closed the connection") + kWithSession.lost : answer.sentence));
    return passes(answer.code) ? fail(answer.code, away_) : refuse(answer.code, answer.sentence);
  }
  wait_again_ns_ = 0;
  back_off_.reset();
  switch (step_) {
    case Step::kBegin:
      return began(answer);
    case Step::kMemory:
      give_memory(answer);
      return HF_OK;
    case Step::kHandles:
      handles_answered(answer);
      return HF_OK;
    case Step::kEnd:
      // The session may have begun with a broker that did not ask.
      if (control::kNext && protocol_ >= control::kProtocolOfLibrary)
        ask(Step::kLibrary, "session.library", {{"library", kVersion}});
      else
        finish();
      return HF_OK;
    case Step::kLibrary:
      finish();
  }
  return HF_OK;
}

int Connection::began(const Reply& answer) {
  if (const std::string wrong = agree(answer.result); !wrong.empty()) {
    socket_.close();
    return refuse(HF_E_VERSION, wrong);
  }
  if (flag(answer.result, "full_fences")) full_fences_.store(true, std::memory_order_relaxed);
  give_memory(answer);
  return HF_OK;
}

// What the broker lacks of our sealed segments, as far as we have it; then comes the rest.
void Connection::give_memory(const Reply& answer) {
  const nlohmann::json& lost = list(answer.result, "lost");
  if (lost.empty()) return ask_handles();
  std::vector<int> fds;
  for (const nlohmann::json& id : lost) {
    const auto at = id.is_number_unsigned() ? memory_.find(id.get<std::uint64_t>()) : memory_.end();
    if (at != memory_.end() && fds.size() < kDescriptorsPerRequest) fds.push_back(at->second);
  }
  ask(Step::kMemory, "resume.memory", nlohmann::json::object(), std::move(fds));
}

void Connection::ask_handles() {
  std::vector<std::uint64_t> handles;
  for (auto at = held_.upper_bound(listed_); at != held_.end() && handles.size() < kHandlesPerRequest; ++at)
    handles.push_back(at->first);
  const bool list_keys = !pending_keys_.empty() && !std::exchange(keys_listed_, true);
  if (handles.empty() && !list_keys) return ask(Step::kEnd, "resume.end", nlohmann::json::object());
  if (!handles.empty()) listed_ = handles.back();
  nlohmann::json params{{"handles", handles}};
  if (list_keys) params["keys"] = pending_keys_;
  ask(Step::kHandles, "resume.handles", params);
}

void Connection::handles_answered(const Reply& answer) {
  for (const nlohmann::json& id : list(answer.result, "unknown")) {
    const auto at = id.is_number_unsigned() ? held_.find(id.get<std::uint64_t>()) : held_.end();
    if (at != held_.end()) at->second->unknown.store(true, std::memory_order_relaxed);
  }
  ask_handles();
}

void Connection::finish() {
  given_up_ = false;
  state_.store(State::kUp, std::memory_order_relaxed);
  resumed_.fetch_add(1, std::memory_order_release);
  notice();  // the answer may have been the last that was there, before the end
  send_errands();
}

// Ends the resumption under way.
void Connection::cut(const std::string& why) {
  socket_.close();
  answer_.reset();
  away_ = why;
  state_.store(State::kAway, std::memory_order_relaxed);
}

int Connection::refuse(int code, const std::string& sentence) {
  // To the caller this is no thing that was not found, but a client that is of no more use.
  refused_code_ = code == HF_E_NOT_FOUND ? HF_E_CLOSED : code;
  refused_ = "the broker at " + path_.front() + " does not resume session " + std::to_string(session_) + ": " +
             sentence + ". What is attached goes on; open a new client for anything else";
  held_.clear();
  errands_.clear();
  state_.store(State::kRefused, std::memory_order_relaxed);
  return fail(refused_code_, refused_);
}

}  // namespace holdfast::client
