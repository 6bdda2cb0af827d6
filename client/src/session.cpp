// SPDX-License-Identifier: MIT
#include "client/src/session.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/src/failure.hpp"
#include "client/src/json_fields.hpp"
#include "client/src/policy.hpp"
#include "client/src/sound.hpp"
#include "proto/shm/bell.hpp"

namespace holdfast::client {

namespace {

constexpr std::int64_t kRequestTimeoutNs = 10'000'000'000;
constexpr std::size_t kPeersPerRequest = 16;

// The sessions of this process. A process must not open the session segment of another of its own sessions a second
// time: closing that descriptor would drop the fcntl lock that says that the session lives.
struct OwnSessions {
  std::mutex mutex;
  std::map<std::pair<BrokerId, std::uint32_t>, std::weak_ptr<Session>> sessions;
};
OwnSessions& own_sessions() {
  static auto* own = new OwnSessions;
  return *own;
}

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
  auto opened = std::make_shared<Session>();
  const std::string instance = env_or(options.instance, "HOLDFAST_INSTANCE", "default");
  const std::int64_t timeout_ns = options.timeout_ns > 0 ? options.timeout_ns : kRequestTimeoutNs;
  const auto paths = socket_paths(options.socket != nullptr ? options.socket : "", instance);
  if (const int result = opened->socket_.connect(paths, timeout_ns); result != HF_OK) return result;
  if (const int result = opened->say_hello(options); result != HF_OK) return result;
  {
    OwnSessions& own = own_sessions();
    const std::lock_guard lock(own.mutex);
    std::erase_if(own.sessions, [](const auto& entry) { return entry.second.expired(); });
    own.sessions[{opened->broker_, opened->id_}] = opened;
  }
  session = std::move(opened);
  return HF_OK;
}

int Session::say_hello(const hf_client_options& options) {
  const bool membarrier = shm::register_membarrier();
  Reply reply;
  const nlohmann::json params{
      {"protocol", 1},
      {"layout", shm::kLayoutVersion},
      {"name", options.name != nullptr ? options.name : program_invocation_short_name},
      {"exe", executable()},
      {"membarrier", membarrier},
  };
  if (const int result = socket_.request("hello", params, reply); result != HF_OK) return result;
  id_ = static_cast<std::uint32_t>(number(reply.result, "session"));
  full_fences_ = !membarrier || flag(reply.result, "full_fences");
  return map_own(reply.result, reply.fds);
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
  return lock_session(lock_.get());
}

Session::~Session() {
  if (forks_ != g_fork_count) {
    // The parent's session: its descriptors were closed at fork(), their numbers may be others' by now.
    lock_.release();
    return;
  }
  if (socket_.fd() >= 0) {
    Reply reply;
    (void)socket_.request("bye", nlohmann::json::object(), reply);
  }
  if (lock_) forget_in_child(lock_.get());
}

int Session::request(const char* method, const nlohmann::json& params, Reply& reply) {
  const std::lock_guard lock(mutex_);
  return socket_.request(method, params, reply);
}

int Session::socket_fd() {
  const std::lock_guard lock(mutex_);
  return socket_.fd();
}

int Session::peers(std::span<const std::uint32_t> sessions, std::vector<std::shared_ptr<Peer>>& found) {
  const std::lock_guard lock(mutex_);
  found.assign(sessions.size(), nullptr);
  std::vector<std::uint32_t> unknown;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    auto& known = peers_[sessions[i]];
    found[i] = known.lock();
    if (found[i] == nullptr && std::find(unknown.begin(), unknown.end(), sessions[i]) == unknown.end())
      unknown.push_back(sessions[i]);
  }
  std::erase_if(peers_, [](const auto& entry) { return entry.second.expired(); });
  for (std::size_t i = 0; i < unknown.size(); i += kPeersPerRequest) {
    const auto part = std::span(unknown).subspan(i, std::min(kPeersPerRequest, unknown.size() - i));
    if (const int result = fetch_peers(part); result != HF_OK) return result;
  }
  for (std::size_t i = 0; i < sessions.size(); ++i)
    for (const auto& peer : fresh_peers_)
      if (found[i] == nullptr && peer->session() == sessions[i]) found[i] = peer;
  fresh_peers_.clear();
  return HF_OK;
}

// Requires: mutex_ is held.
int Session::fetch_peers(std::span<const std::uint32_t> sessions) {
  std::vector<std::uint32_t> others;
  {
    OwnSessions& own = own_sessions();
    const std::lock_guard lock(own.mutex);
    for (const std::uint32_t id : sessions) {
      const auto at = own.sessions.find({broker_, id});
      const auto session = at != own.sessions.end() ? at->second.lock() : nullptr;
      if (session == nullptr) {
        others.push_back(id);
        continue;
      }
      fresh_peers_.push_back(std::make_shared<Peer>(id, session->records_, session->bells_));
      peers_[id] = fresh_peers_.back();
    }
  }
  if (others.empty()) return HF_OK;
  Reply reply;
  if (const int result = socket_.request("peers", {{"sessions", others}}, reply); result != HF_OK) return result;
  for (const nlohmann::json& peer : list(reply.result, "peers")) {
    if (!flag(peer, "alive")) continue;
    const auto id = static_cast<std::uint32_t>(number(peer, "session"));
    auto records = std::make_shared<Mapping>();
    auto bells = std::make_shared<Mapping>();
    const nlohmann::json& listed = list(reply.result, "fds");
    int code = map_listed(listed, reply.fds, find_fd(listed, "session", id), shm::SegmentKind::kSession,
                          number(peer, "session_reserve_bytes"), false, *records);
    if (code != HF_OK) return code;
    code = map_listed(listed, reply.fds, find_fd(listed, "bells", id), shm::SegmentKind::kBells,
                      number(peer, "bells_reserve_bytes"), true, *bells);
    if (code != HF_OK) return code;
    fresh_peers_.push_back(std::make_shared<Peer>(id, std::move(records), std::move(bells)));
    peers_[id] = fresh_peers_.back();
  }
  return HF_OK;
}

int Session::lease_bell(std::uint32_t& bell) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t free = ~bells_leased_;
  if (free == 0)
    return fail(HF_E_BUSY, std::to_string(shm::kBellCount) +
                               " threads of this process wait already; open a second client for more");
  bell = static_cast<std::uint32_t>(__builtin_ctzll(free));
  bells_leased_ |= std::uint64_t{1} << bell;
  return HF_OK;
}

void Session::return_bell(std::uint32_t bell) {
  const std::lock_guard lock(mutex_);
  bells_leased_ &= ~(std::uint64_t{1} << bell);
}

std::uint64_t Session::fresh_ticket() { return __atomic_add_fetch(&ticket_, 1, __ATOMIC_RELAXED); }

void Session::ring(Peer& peer, std::uint64_t bell) {
  if (bell >= shm::kBellCount) return;
  shm::Bell& target = peer.bells().bells[bell];
  if (Atomics::load<shm::At::kObserve>(target.event) == 0) {
    shm::ring<Atomics>(target, SemaphoreSound{});
    return;
  }
  const std::lock_guard lock(mutex_);
  const int event = event_of(peer, static_cast<std::uint32_t>(bell));
  if (event >= 0) shm::ring<Atomics>(target, EventSound{event});
}

// The eventfd of a peer's bell, or -1. Requires: mutex_ is held.
int Session::event_of(Peer& peer, std::uint32_t bell) {
  Descriptor& known = peer.events[bell];
  if (!known) {
    Reply reply;
    if (socket_.request("bell.event", {{"session", peer.session()}, {"bell", bell}}, reply) != HF_OK) return -1;
    if (!reply.fds.empty()) known = std::move(reply.fds.front());
  }
  return known.get();
}

}  // namespace holdfast::client
