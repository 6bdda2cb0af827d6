// SPDX-License-Identifier: MIT
#include "client/src/session.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/src/back_off.hpp"
#include "client/src/deadline.hpp"
#include "client/src/failure.hpp"
#include "client/src/json_fields.hpp"
#include "client/src/policy.hpp"
#include "client/src/sound.hpp"
#include "proto/control/names.hpp"
#include "proto/shm/bell.hpp"

namespace holdfast::client {

namespace {

constexpr std::int64_t kRequestTimeoutNs = 10'000'000'000;
constexpr std::size_t kPeersPerRequest = 16;
// What a publish gives the broker to say which eventfd it has to ring: it answers in a tenth of a millisecond where it
// has a CPU. Who sleeps in an event loop looks by itself after a second.
constexpr std::int64_t kRingWaitNs = 2'000'000;
// What a session that ends gives a broker that was away to take its goodbye; and any other goodbye one that does not answer.
constexpr std::int64_t kLastLookNs = 1'000'000'000;

// The sessions of this process. A process must not open the session segment of another of its own sessions a second
// time: closing that descriptor would drop the fcntl lock that says that the session lives.
// Guarded by fork_mutex(). Made when the library is loaded and never destroyed, as fork_guard.cpp says.
using OwnSessions = std::map<std::pair<BrokerId, std::uint32_t>, std::weak_ptr<Session>>;
OwnSessions& g_own_sessions = *new OwnSessions;

std::string env_or(const char* given, const char* variable, const char* otherwise) {
  if (given != nullptr) return given;
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

std::string executable() {
  char path[4096];
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  return n > 0 ? std::string(path, static_cast<std::size_t>(n)) : std::string();
}

void sleep_until(const timespec& until) { ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr); }

int lock_session(int fd) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  if (::fcntl(fd, F_SETLK, &lock) != 0) return fail_errno("locking the session segment");
  return HF_OK;
}

// The index in `fds` of the first descriptor of this kind (and session, unless 0), or -1.
int find_fd(const nlohmann::json& fds, const char* kind, std::uint32_t session = 0) {
  for (std::size_t i = 0; i < fds.size(); ++i)
    if (text(fds[i], "kind") == kind && (session == 0 || number(fds[i], "session") == session))
      return static_cast<int>(i);
  return -1;
}

int map_listed(const nlohmann::json& fds, std::vector<Descriptor>& descriptors, int index, shm::SegmentKind kind,
               std::uint64_t reserve_bytes, bool writable, Mapping& mapping) {
  if (index < 0 || static_cast<std::size_t>(index) >= descriptors.size())
    return fail(HF_E_PROTOCOL, "the broker's reply lacks a descriptor");
  const auto at = static_cast<std::size_t>(index);
  return mapping.map(descriptors[at].get(), kind, number(fds[at], "segment"), number(fds[at], "bytes"), reserve_bytes,
                     writable);
}

}  // namespace

int Session::open(const hf_client_options& options, std::shared_ptr<Session>& session) {
  const std::string instance = env_or(options.instance, "HOLDFAST_INSTANCE", "default");
  if (!control::is_instance_name(instance))
    return fail(HF_E_INVALID, "instance \"" + instance + "\" " + control::kInstanceNameRule);
  auto paths = socket_paths(options.socket != nullptr ? options.socket : "", instance);
  const std::int64_t timeout_ns = options.timeout_ns > 0 ? options.timeout_ns : kRequestTimeoutNs;
  const Deadline deadline(timeout_ns);
  BackOff back_off;
  bool left = false;
  std::shared_ptr<Session> opened;
  while (true) {
    opened = std::make_shared<Session>();
    opened->timeout_ns_ = timeout_ns;
    const int result = opened->begin(options, paths);
    if (result == HF_OK) break;
    // One was there, and went in the middle: the next one will be at the same place. Where there is none nobody waits.
    if (opened->connection_.broken_by_broker()) {
      left = true;
      paths = {opened->connection_.path()};
    }
    const bool awaited = left && result == HF_E_NO_BROKER;
    // Or the next broker has ended it before it knew that somebody is here.
    if ((!awaited && !opened->lost()) || deadline.expired()) return result;
    if (awaited) sleep_until(deadline.bounded(back_off.next_ns()));
  }
  {
    const std::lock_guard lock(fork_mutex());
    std::erase_if(g_own_sessions, [](const auto& entry) { return entry.second.expired(); });
    g_own_sessions[{opened->broker_, opened->id_}] = opened;
  }
  session = std::move(opened);
  return HF_OK;
}

int Session::begin(const hf_client_options& options, const std::vector<std::string>& paths) {
  if (const int result = connection_.connect(paths, timeout_ns_); result != HF_OK) return result;
  if (const int result = say_hello(options); result != HF_OK) return result;
  return confirm();
}

int Session::say_hello(const hf_client_options& options) {
  const bool membarrier = shm::register_membarrier();
  Reply reply;
  const nlohmann::json params{
      {"name", options.name != nullptr ? options.name : program_invocation_short_name},
      {"exe", executable()},
      {"membarrier", membarrier},
  };
  const int result = connection_.hello(params, reply);
  if (result == HF_TIMEOUT) {
    // It may be answered yet, and nobody will be there: what it has begun would live as long as this process.
    const KeptSentence kept;
    Reply none;
    (void)connection_.request("bye", nlohmann::json::object(), none, 0, nullptr);
  }
  if (result != HF_OK) return result == HF_TIMEOUT ? HF_E_NO_BROKER : result;
  id_ = static_cast<std::uint32_t>(number(reply.result, "session"));
  const std::string instance = text(reply.result, "instance");
  if (options.instance != nullptr && instance != options.instance)
    return fail(HF_E_INVALID, "the broker at " + connection_.path() + " is that of instance " + instance + ", not of " +
                                  options.instance +
                                  ": give its socket, or leave one of them out (HOLDFAST_SOCKET goes "
                                  "before the instance's own socket)");
  full_fences_ = !membarrier || flag(reply.result, "full_fences");
  return map_own(reply.result, reply.fds);
}

// A broker that died after its reply left a session that nobody held until we locked it, and the next one may have looked
// before that. One that is there still is followed by one that looks later.
int Session::confirm() {
  connection_.look();
  if (connection_.up()) return HF_OK;
  Reply reply;
  return request("ping", nlohmann::json::object(), reply);
}

int Session::map_own(const nlohmann::json& result, std::vector<Descriptor>& fds) {
  const nlohmann::json& listed = list(result, "fds");
  records_ = std::make_shared<Mapping>();
  bells_ = std::make_shared<Mapping>();
  roster_ = std::make_shared<Mapping>();
  const int session_at = find_fd(listed, "session");
  const int bells_at = find_fd(listed, "bells");
  const auto reserve = [&](int index) {
    return index < 0 ? 0 : number(listed[static_cast<std::size_t>(index)], "reserve_bytes");
  };
  int code = map_listed(listed, fds, session_at, shm::SegmentKind::kSession, reserve(session_at), true, *records_);
  if (code != HF_OK) return code;
  code = map_listed(listed, fds, bells_at, shm::SegmentKind::kBells, reserve(bells_at), true, *bells_);
  if (code != HF_OK) return code;
  code = map_listed(listed, fds, find_fd(listed, "roster"), shm::SegmentKind::kRoster, shm::kRosterReserve, false,
                    *roster_);
  if (code != HF_OK) return code;
  struct stat file{};
  if (::fstat(fds[static_cast<std::size_t>(find_fd(listed, "roster"))].get(), &file) != 0) return fail_errno("fstat");
  broker_ = {file.st_dev, file.st_ino};
  lock_ = std::move(fds[static_cast<std::size_t>(session_at)]);
  close_in_child(lock_.get());
  const auto at = [&](int index) -> const nlohmann::json& { return listed[static_cast<std::size_t>(index)]; };
  if (flag(at(session_at), "keep")) keep_memory(number(at(session_at), "segment"), lock_.get());
  if (flag(at(bells_at), "keep")) {
    bells_fd_ = std::move(fds[static_cast<std::size_t>(bells_at)]);
    close_in_child(bells_fd_.get());
    keep_memory(number(at(bells_at), "segment"), bells_fd_.get());
  }
  return lock_session(lock_.get());
}

// Where the connection is broken, one look is taken for a broker: else the session lives until this process ends.
Session::~Session() {
  if (forks_ != g_fork_count) {
    // The parent's session: its descriptors were closed at fork(), their numbers may be others' by now.
    lock_.release();
    bells_fd_.release();
    connection_.abandon();
    return;
  }
  if (id_ != 0 && !lost()) {
    const KeptSentence kept;
    connection_.look();
    Reply reply;
    if (connection_.bring_up(std::min(timeout_ns_, kLastLookNs), true) == HF_OK)
      (void)connection_.request("bye", nlohmann::json::object(), reply,
                                connection_.awaits_reply() ? kRingWaitNs : std::min(timeout_ns_, kLastLookNs), nullptr);
  }
  if (lock_) forget_in_child(lock_.get());
  if (bells_fd_) forget_in_child(bells_fd_.get());
}

// ---- requests -----------------------------------------------------------------------------------------------------

std::unique_lock<std::timed_mutex> Session::lock_control() {
  std::unique_lock lock(control_);
  busy_since_ns_.store(monotonic_ns(), std::memory_order_relaxed);
  return lock;
}

// For the data path: waits while the request under way is younger than `young_ns`. It was just asked, most likely, and
// is answered at once; if not, nobody waits for it any more.
bool Session::lock_control_soon(std::unique_lock<std::timed_mutex>& lock, std::int64_t young_ns) {
  if (lock.try_lock()) {
    busy_since_ns_.store(monotonic_ns(), std::memory_order_relaxed);
    return true;
  }
  const std::int64_t left_ns = busy_since_ns_.load(std::memory_order_relaxed) + young_ns - monotonic_ns();
  if (left_ns <= 0 || !lock.try_lock_for(std::chrono::nanoseconds(left_ns))) return false;
  busy_since_ns_.store(monotonic_ns(), std::memory_order_relaxed);
  return true;
}

std::int64_t Session::most_ns(const Patience& patience) const {
  return patience.answer_ns < 0 ? timeout_ns_ : std::min(patience.answer_ns, timeout_ns_);
}

int Session::lock_within(const Patience& patience, std::unique_lock<std::timed_mutex>& lock) {
  const Deadline deadline(most_ns(patience));
  bool locked = patience.look ? lock_control_soon(lock, kSoon.answer_ns)
                              : lock.try_lock_for(std::chrono::nanoseconds(most_ns(patience)));
  // Many threads whose requests are all answered: one after the other.
  while (patience.look && !locked && !deadline.expired() &&
         monotonic_ns() < busy_since_ns_.load(std::memory_order_relaxed) + kSoon.answer_ns)
    locked = lock_control_soon(lock, kSoon.answer_ns);
  if (!locked) return fail(HF_E_NO_BROKER, "another thread waits for the broker, which does not answer. Try again");
  busy_since_ns_.store(monotonic_ns(), std::memory_order_relaxed);
  return HF_OK;
}

int Session::request(const char* method, const nlohmann::json& params, Reply& reply) {
  auto lock = lock_control();
  return ask(lock, {method, params}, reply, -1);
}

int Session::request_within(const char* method, const nlohmann::json& params, Reply& reply, const Patience& patience) {
  const Deadline deadline(most_ns(patience));
  std::unique_lock lock(control_, std::defer_lock);
  if (const int result = lock_within(patience, lock); result != HF_OK) return result;
  if (const int result = wait_for_owed(method, patience); result != HF_OK) return result;
  return ask(lock, {method, params}, reply, patience.away_ns, deadline.left_ns());
}

int Session::request_soon(const char* method, const nlohmann::json& params, Reply& reply,
                          const std::shared_ptr<LateAnswer>& earlier) {
  const Deadline deadline(most_ns(kSoon));
  std::unique_lock lock(control_, std::defer_lock);
  if (const int result = lock_within(kSoon, lock); result != HF_OK) return result;
  const int owed = wait_for_owed(method, kSoon);
  // Not that of an earlier broker.
  if (auto found = std::exchange(earlier->reply, std::nullopt); found && earlier->resumed == resumed()) {
    reply = std::move(*found);
    return reply.code == HF_OK ? HF_OK : fail(reply.code, reply.sentence);
  }
  if (owed != HF_OK) return owed;
  const auto late = [earlier, resumed = resumed()](Reply& answer) {
    if (answer.code == HF_E_NO_BROKER) return;
    earlier->reply = std::move(answer);
    earlier->resumed = resumed;
  };
  return ask(lock, {method, params, late}, reply, kSoon.away_ns, deadline.left_ns());
}

// Who looks waits for what is owed together with those who looked before: once. Failure: it is owed still. While the
// session is resumed it is the resumption's own answer that is owed, which bring_up() takes. Requires: control_.
int Session::wait_for_owed(const char* method, const Patience& patience) {
  if (!patience.look || !connection_.up() || !connection_.awaits_reply()) return HF_OK;
  {
    const KeptSentence kept;
    const std::int64_t left_ns = owed_since_ns() + most_ns(patience) - monotonic_ns();
    (void)connection_.take_late(Deadline(std::clamp<std::int64_t>(left_ns, 0, most_ns(patience))));
  }
  if (!connection_.up() || !connection_.awaits_reply()) return HF_OK;
  return fail(HF_E_NO_BROKER,
              std::string("the broker owes earlier answers, so it was not asked for ") + method + ". Try again");
}

// Requires: `lock` of control_, held; let go of while nobody listens.
int Session::ask(std::unique_lock<std::timed_mutex>& lock, const Question& question, Reply& reply, std::int64_t away_ns,
                 std::int64_t answer_ns) {
  if (away_ns < 0 || away_ns > timeout_ns_) away_ns = timeout_ns_;
  if (answer_ns < 0 || answer_ns > timeout_ns_) answer_ns = timeout_ns_;
  const bool soon = away_ns == 0;
  const Deadline whole(answer_ns);
  const Deadline away(away_ns);
  BackOff back_off;
  for (bool at_once = true;; lock.lock()) {
    busy_since_ns_.store(monotonic_ns(), std::memory_order_relaxed);
    int result = connection_.bring_up(soon ? kRingWaitNs : away.left_ns(), !soon);
    while (result == HF_OK) {
      result = ask_once(question, reply, whole.left_ns());
      // Repeated only where the broker went away in the middle, and then a new one may be there already.
      if (connection_.up() || !connection_.broken_by_broker()) {
        say_words();
        return result;
      }
      if (soon && !std::exchange(at_once, false)) return HF_E_NO_BROKER;
      result = connection_.bring_up(soon ? kRingWaitNs : away.left_ns(), true);
    }
    if (connection_.refused() || soon) return result;
    if (away.expired() && away_ns == timeout_ns_) connection_.give_up();
    if (away.expired() || connection_.gave_up()) return result;
    lock.unlock();
    sleep_until(away.bounded(back_off.next_ns()));
  }
}

// When the oldest request was sent whose answer is owed. Requires: control_, and there is one.
std::int64_t Session::owed_since_ns() const { return connection_.owed_until_ns() - timeout_ns_; }

// Requires: control_.
int Session::ask_once(const Question& question, Reply& reply, std::int64_t timeout_ns) {
  {
    const KeptSentence kept;
    (void)connection_.take_late();
  }
  say_words();
  // Nobody knows of a handle that is opened late: whoever asked for it was told that the broker does not answer.
  // Where an earlier answer is owed the broker hangs, or has much to do: all who ask wait for that one together, so that
  // a broker that hangs costs a timeout once, not once to each request.
  if (connection_.awaits_reply())
    timeout_ns = std::min(timeout_ns, std::max(owed_since_ns() + timeout_ns - monotonic_ns(), kRingWaitNs));
  if (question.key != 0) connection_.begin_open(question.key);
  const int result = connection_.request(
      question.method, question.params, reply, timeout_ns, [this, late = question.late](Reply& answer) {
        if (const std::uint64_t handle = number(answer.result, "handle"); handle != 0)
          connection_.add_errand("close", {{"handle", handle}});
        if (late) late(answer);
      });
  return result == HF_TIMEOUT ? HF_E_NO_BROKER : result;
}

void Session::tell_surely(const char* method, const nlohmann::json& params) {
  const KeptSentence kept;
  std::unique_lock lock(control_, std::defer_lock);
  if (!lock.try_lock_for(std::chrono::nanoseconds(kSoon.answer_ns))) return leave_word(lock, {method, params, 0});
  say(lock, method, params, kSoon.answer_ns);
}

// What nobody has heard when this returns, or when the connection ends before it is answered, is an errand.
// Requires: `lock` of control_, held.
void Session::say(std::unique_lock<std::timed_mutex>& lock, const char* method, const nlohmann::json& params,
                  std::int64_t answer_ns) {
  const auto again = [this, method, params](Reply& late) {
    if (late.code == HF_E_NO_BROKER) connection_.add_errand(method, params);
  };
  Reply reply;
  if (ask(lock, {method, params, again}, reply, 0, answer_ns) == HF_OK || !broker_away()) return;
  connection_.add_errand(method, params);
  // A resumption that has begun gets as long as an answer: this may have been the last call of this program.
  if (!connection_.awaits_reply()) return;
  (void)connection_.bring_up(std::clamp<std::int64_t>(owed_since_ns() + answer_ns - monotonic_ns(), 0, answer_ns),
                             true);
  say_words();
}

int Session::open_handle(const char* method, nlohmann::json params, Reply& reply, std::shared_ptr<HeldHandle>& held) {
  auto lock = lock_control();
  params["key"] = ++last_key_;
  const std::uint64_t key = last_key_;
  const int result = ask(lock, {method, params, nullptr, key}, reply, -1);  // which lets go of the lock now and then
  connection_.end_open(key);
  if (result == HF_OK) held = connection_.hold(number(reply.result, "handle"));
  return result;
}

void Session::close_handle(std::uint64_t handle) {
  const KeptSentence kept;
  const nlohmann::json params{{"handle", handle}};
  std::unique_lock lock(control_, std::defer_lock);
  if (!lock.try_lock_for(std::chrono::nanoseconds(kLastLookNs))) return leave_word(lock, {"close", params, handle});
  if (connection_.let_go(handle)) say(lock, "close", params, kLastLookNs);
}

// Who holds control_ says it when it is done. It may just have been.
void Session::leave_word(std::unique_lock<std::timed_mutex>& lock, Word word) {
  {
    const std::lock_guard words(words_mutex_);
    words_.push_back(std::move(word));
  }
  if (lock.try_lock()) say_words();
}

// And the errands. Requires: control_.
void Session::say_words() {
  {
    const std::lock_guard words(words_mutex_);
    for (Word& word : words_)
      if (word.closed == 0 || connection_.let_go(word.closed))
        connection_.add_errand(word.method, std::move(word.params));
    words_.clear();
  }
  if (connection_.up()) connection_.send_errands();
}

void Session::keep_memory(std::uint64_t segment, int fd) {
  const auto lock = lock_control();
  connection_.keep_memory(segment, fd);
}

void Session::let_go_memory(std::uint64_t segment) {
  const auto lock = lock_control();
  connection_.let_go_memory(segment);
}

void Session::look_for_broker() {
  if (lost()) return;
  const KeptSentence kept;
  std::unique_lock lock(control_, std::defer_lock);
  if (!lock_control_soon(lock, kRingWaitNs)) return;
  connection_.look();
  (void)connection_.bring_up(kRingWaitNs, false);
  say_words();
}

void Session::glance_for_broker(bool now) {
  if (lost()) return;
  const KeptSentence kept;
  const std::unique_lock lock(control_, std::try_to_lock);
  if (!lock) return;
  busy_since_ns_.store(monotonic_ns(), std::memory_order_relaxed);
  connection_.look();
  (void)connection_.bring_up(0, now);
  say_words();
}

bool Session::watch_broker(int epoll, epoll_event& hang_up) {
  std::unique_lock lock(control_, std::defer_lock);
  if (!lock_control_soon(lock, kRingWaitNs) || !connection_.up()) return false;
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, connection_.fd(), &hang_up) == 0 || errno == EEXIST;
}

// ---- peers --------------------------------------------------------------------------------------------------------

Peer::Peer(std::uint32_t session, std::shared_ptr<Mapping> records, std::shared_ptr<Mapping> bells)
    : session_(session),
      records_(std::move(records)),
      bells_(std::move(bells)) {
  for (auto& event : events_) event.store(-1, std::memory_order_relaxed);  // nobody else knows us yet
}

Peer::~Peer() {
  for (const auto& event : events_) Descriptor(event.load(std::memory_order_relaxed)).reset();  // nor any more
}

void Peer::learn_event(std::uint32_t bell, std::uint64_t word, std::uint32_t resumed, Descriptor event) {
  // Relaxed: only who holds control_ stores it.
  const int known = events_[bell].load(std::memory_order_relaxed);
  if (known < 0)
    events_[bell].store(event.release(), std::memory_order_release);
  else
    ::dup3(event.get(), known, O_CLOEXEC);  // in one step: another thread may be ringing it
  words_[bell].store(word, std::memory_order_release);
  learned_[bell].store(resumed, std::memory_order_release);
}

void Peer::set_asked(std::uint32_t bell, bool asked) {
  const std::uint64_t bit = std::uint64_t{1} << bell;
  asked_ = asked ? asked_ | bit : asked_ & ~bit;
}

int Session::peers(std::span<const std::uint32_t> sessions, std::vector<std::shared_ptr<Peer>>& found,
                   const Patience& patience) {
  std::vector<std::uint32_t> unknown;
  if (known_peers(sessions, found, unknown)) return HF_OK;
  std::unique_lock lock(control_, std::defer_lock);
  if (const int result = lock_within(patience, lock); result != HF_OK) return result;
  {
    const KeptSentence kept;
    (void)connection_.take_late();
  }
  if (known_peers(sessions, found, unknown)) return HF_OK;  // an answer has come late, or another thread has asked
  std::vector<std::shared_ptr<Peer>> fresh;
  int result = HF_OK;
  for (std::size_t i = 0; i < unknown.size() && result == HF_OK; i += kPeersPerRequest) {
    const auto part = std::span(unknown).subspan(i, std::min(kPeersPerRequest, unknown.size() - i));
    result = fetch_peers(lock, part, patience, fresh);
  }
  for (std::size_t i = 0; i < sessions.size(); ++i)
    for (const auto& peer : fresh)
      if (found[i] == nullptr && peer->session() == sessions[i]) found[i] = peer;
  return result;
}

// True: all of them.
bool Session::known_peers(std::span<const std::uint32_t> sessions, std::vector<std::shared_ptr<Peer>>& found,
                          std::vector<std::uint32_t>& unknown) {
  found.assign(sessions.size(), nullptr);
  unknown.clear();
  const std::lock_guard lock(peers_mutex_);
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    const auto at = peers_.find(sessions[i]);
    if (at != peers_.end()) found[i] = at->second.lock();
    if (found[i] == nullptr && std::find(unknown.begin(), unknown.end(), sessions[i]) == unknown.end())
      unknown.push_back(sessions[i]);
  }
  std::erase_if(late_peers_, [](const auto& peer) { return peer.use_count() > 1; });
  return unknown.empty();
}

// Requires: control_.
int Session::fetch_peers(std::unique_lock<std::timed_mutex>& lock, std::span<const std::uint32_t> sessions,
                         const Patience& patience, std::vector<std::shared_ptr<Peer>>& fresh) {
  std::vector<std::shared_ptr<Session>> own;  // let go without the lock: we may be the last who refers to one
  std::vector<std::uint32_t> others;
  {
    const std::lock_guard own_sessions(fork_mutex());
    for (const std::uint32_t id : sessions) {
      const auto at = g_own_sessions.find({broker_, id});
      auto session = at != g_own_sessions.end() ? at->second.lock() : nullptr;
      // What a forked child inherited is another process's.
      if (session == nullptr || session->forks_ != g_fork_count) others.push_back(id);
      if (session != nullptr) own.push_back(std::move(session));
    }
  }
  const std::size_t before = fresh.size();
  for (const auto& session : own)
    if (session->forks_ == g_fork_count)
      fresh.push_back(std::make_shared<Peer>(session->id_, session->records_, session->bells_));
  const int result = others.empty() ? HF_OK : fetch_remote(lock, others, patience, fresh);
  const std::lock_guard peers(peers_mutex_);
  std::erase_if(peers_, [](const auto& entry) { return entry.second.expired(); });
  for (std::size_t i = before; i < fresh.size(); ++i) peers_[fresh[i]->session()] = fresh[i];
  return result;
}

// Requires: control_.
int Session::fetch_remote(std::unique_lock<std::timed_mutex>& lock, const std::vector<std::uint32_t>& sessions,
                          const Patience& patience, std::vector<std::shared_ptr<Peer>>& fresh) {
  const nlohmann::json params{{"sessions", sessions}};
  const auto late = [this](Reply& answer) { keep_late_peers(answer); };
  Reply reply;
  if (const int owed = wait_for_owed("peers", patience); owed != HF_OK) return owed;
  const int result = ask(lock, {"peers", params, late}, reply, patience.away_ns, patience.answer_ns);
  return result == HF_OK ? map_peers(reply, fresh) : result;
}

// Whoever asked for them asks again, and finds them among the known ones. Requires: control_.
void Session::keep_late_peers(Reply& reply) {
  if (reply.code != HF_OK) return;
  const KeptSentence kept;
  std::vector<std::shared_ptr<Peer>> fresh;
  (void)map_peers(reply, fresh);
  const std::lock_guard peers(peers_mutex_);
  for (const auto& peer : fresh)
    if (std::weak_ptr<Peer>& known = peers_[peer->session()]; known.expired()) known = peer;
  late_peers_.swap(fresh);
}

// HF_E_NO_BROKER: some live, and have still to give their memory back to a broker that lost it.
int Session::map_peers(Reply& reply, std::vector<std::shared_ptr<Peer>>& fresh) {
  std::uint32_t without_memory = 0;
  for (const nlohmann::json& peer : list(reply.result, "peers")) {
    if (!flag(peer, "alive")) continue;
    const auto id = static_cast<std::uint32_t>(number(peer, "session"));
    auto records = std::make_shared<Mapping>();
    auto bells = std::make_shared<Mapping>();
    const nlohmann::json& listed = list(reply.result, "fds");
    if (find_fd(listed, "session", id) < 0 || find_fd(listed, "bells", id) < 0) {
      without_memory = id;
      continue;
    }
    int code = map_listed(listed, reply.fds, find_fd(listed, "session", id), shm::SegmentKind::kSession,
                          number(peer, "session_reserve_bytes"), false, *records);
    if (code != HF_OK) return code;
    code = map_listed(listed, reply.fds, find_fd(listed, "bells", id), shm::SegmentKind::kBells,
                      number(peer, "bells_reserve_bytes"), true, *bells);
    if (code != HF_OK) return code;
    fresh.push_back(std::make_shared<Peer>(id, std::move(records), std::move(bells)));
  }
  if (without_memory == 0) return HF_OK;
  return fail(HF_E_NO_BROKER, "session " + std::to_string(without_memory) +
                                  " has not given its memory back to the broker yet, which was restarted. Try again");
}

// ---- bells --------------------------------------------------------------------------------------------------------

int Session::lease_bell(std::uint32_t& index) {
  std::uint64_t leased = bells_leased_.load(std::memory_order_relaxed);
  do {
    if (~leased == 0)
      return fail(HF_E_BUSY, "all " + std::to_string(shm::kBellCount) + " bells" +
                                 " of this client are in use, one by each thread that waits and one by each subscriber "
                                 "whose hf_fd() was asked "
                                 "for; open a second client for more");
    index = static_cast<std::uint32_t>(__builtin_ctzll(~leased));
    // Pairs with the release of return_bell(): its last user is done with it.
  } while (!bells_leased_.compare_exchange_weak(leased, leased | std::uint64_t{1} << index, std::memory_order_acquire,
                                                std::memory_order_relaxed));
  // A semaphore, until bell.open says otherwise: the broker may have stored an eventfd after we had given that up.
  std::uint64_t& event = bell(index).event;
  if (Atomics::load<shm::At::kObserve>(event) != 0) Atomics::store<shm::At::kTakeCounter>(event, std::uint64_t{0});
  return HF_OK;
}

void Session::return_bell(std::uint32_t bell) {
  bells_leased_.fetch_and(~(std::uint64_t{1} << bell), std::memory_order_release);
}

// Relaxed: a ticket has to be another than all before it, nothing else.
std::uint64_t Session::fresh_ticket() { return ticket_.fetch_add(1, std::memory_order_relaxed) + 1; }

bool Session::ring(Peer& peer, std::uint64_t bell) {
  if (bell >= shm::kBellCount) return true;
  const auto index = static_cast<std::uint32_t>(bell);
  shm::Bell& target = peer.bells().bells[index];
  const std::uint64_t word = Atomics::load<shm::At::kObserve>(target.event);
  if (word == 0) {
    shm::ring<Atomics>(target, SemaphoreSound{});
    return true;
  }
  if (!peer.knows(index, word, resumed())) [[unlikely]]
    return ring_unknown(peer, index, word);
  shm::ring<Atomics>(target, EventSound{peer.event(index)});
  return true;
}

bool Session::ring_unknown(Peer& peer, std::uint32_t bell, std::uint64_t word) {
  shm::Bell& target = peer.bells().bells[bell];
  if (Atomics::load<shm::At::kRingArmed>(target.armed) == 0) return true;
  const KeptSentence kept;
  bool found = false;
  {
    std::unique_lock lock(control_, std::defer_lock);
    found = lock_control_soon(lock, kRingWaitNs) && find_event(peer, bell, word);
  }
  // Perhaps an older one, on which its owner still listens.
  if (peer.event(bell) < 0) return found;
  if (found)
    shm::ring<Atomics>(target, EventSound{peer.event(bell)});
  else
    EventSound{peer.event(bell)}.post(target);
  return found;
}

// False: the broker has still to answer. Else the eventfd is known, or cannot be: there is none, or no broker.
// Requires: control_.
bool Session::find_event(Peer& peer, std::uint32_t bell, std::uint64_t word) {
  (void)connection_.take_late();
  if (peer.knows(bell, word, resumed())) return true;
  if (peer.asked(bell)) return !connection_.up();
  // Its owner still listens on the eventfd of an earlier broker.
  const std::int64_t wait_ns = connection_.awaits_reply() || peer.event(bell) >= 0 ? 0 : kRingWaitNs;
  if (connection_.bring_up(wait_ns, false) != HF_OK) return true;
  Reply reply;
  peer.set_asked(bell, true);
  const auto learn = [known = peer.weak_from_this(), bell, word, resumed = resumed()](Reply& answer) {
    const auto still = known.lock();
    if (still == nullptr) return;
    still->set_asked(bell, false);
    if (!answer.fds.empty()) still->learn_event(bell, word, resumed, std::move(answer.fds.front()));
  };
  const nlohmann::json params{{"session", peer.session()}, {"bell", bell}};
  if (connection_.request("bell.event", params, reply, wait_ns, learn) == HF_TIMEOUT) return false;
  learn(reply);
  return true;
}

}  // namespace holdfast::client
