// SPDX-License-Identifier: MIT
#include "tests/simulation/world.hpp"

#include <algorithm>
#include <exception>
#include <utility>

namespace holdfast::simulation {

using broker::Answer;
using broker::ConnectionId;
using broker::Died;
using broker::FakeShell;
using broker::HandleId;
using broker::LaneId;
using broker::SessionId;
using nlohmann::json;

namespace {

struct Wrong {
  std::string what;
};

bool is_stored(std::uint64_t seed) { return seed % 3 != 0; }

broker::BrokerSetup setup_of(std::uint64_t seed) {
  broker::BrokerSetup setup;
  setup.uid = 1000;
  setup.session_bytes_max = seed % 4 == 0 ? 200'000 : 0;
  setup.sessions_max = 8;
  setup.stored = is_stored(seed);
  return setup;
}

}  // namespace

World::World(std::uint64_t seed)
    : random_(seed),
      stored_(is_stored(seed)),
      topics_(seed % 5 == 0 ? 1 : 4),
      shell_(std::make_unique<FakeShell>(setup_of(seed))) {}

void World::need(bool holds, const char* what) {
  if (!holds) throw Wrong{what};
}

std::string World::run(int events) {
  try {
    for (int i = 0; i < events; ++i) {
      // The broker dies after some action of what comes now, or does not.
      shell_->die_at = chance(25) ? static_cast<int>(1 + pick(15)) : 0;
      broker_died_ = false;
      try {
        step();
      } catch (const Died&) {
        broker_died_ = true;
      }
      if (broker_died_) {
        check_memory();
        restart();
      }
      check_memory();
      if (testing::Test::HasFailure()) return "the shell found something wrong, see above";
    }
    shell_->die_at = 0;
    shell_->fail_at = 0;
    while (!clients_.empty()) die(0);
    for (const SessionId session : std::set(dead_)) shell_->end(session);
    for (int i = 0; i < 10; ++i) shell_->pass(40'000);
    need(shell_->rows.sessions.empty() && shell_->rows.handles.empty() && shell_->rows.readers.empty(),
         "when everybody is dead nothing of them is left");
    need(shell_->segments.size() == 1 && shell_->tables().lanes.empty() && shell_->tables().topics.empty(),
         "lanes linger as long as they were to, and go");
  } catch (const Wrong& wrong) {
    return wrong.what;
  } catch (const std::exception& error) {
    return std::string("something was thrown: ") + error.what();
  }
  return testing::Test::HasFailure() ? "the shell found something wrong, see above" : "";
}

// ---- what happens ---------------------------------------------------------------------------------------------------

void World::step() {
  shell_->failure.failure = chance(2) ? control::Failure::kNoMemory : control::Failure::kSystem;
  shell_->failure.call = "posix_fallocate";
  shell_->fail_at = chance(8) ? static_cast<int>(1 + pick(4)) : 0;
  shell_->fail_count = 1 + static_cast<int>(pick(3));
  shell_->cursor = pick(3);
  if (clients_.size() < 2 || (clients_.size() < 7 && chance(15))) {
    clients_.push_back(std::make_unique<Client>());
    clients_.back()->uid = chance(5) ? 0 : 1000;
  }
  if (!dead_.empty() && chance(4)) {
    const SessionId session = *dead_.begin();
    shell_->end(session);
    need(!shell_->tables().sessions.contains(session), "a session ends with its process");
    dead_.erase(session);
    return;
  }
  switch (pick(40)) {
    case 0:
      return die(pick(clients_.size()));
    case 1:
      return restart();
    case 2:
    case 3:
      return pass(static_cast<broker::TimeMs>(pick(chance(2) ? 20'000 : 2'000)));
    default:
      break;
  }
  Client& client = *clients_[pick(clients_.size())];
  if (chance(20)) client.stopped = !client.stopped;
  if (!client.stopped) act(client);
}

void World::act(Client& client) {
  if (client.lost) return;
  if (client.forgotten != 0 && client.connection != 0 && chance(3)) return forget(client);
  if (client.connection == 0) return connect(client);
  if (topics_ == 1 && chance(2)) return open_subscriber(client);
  switch (pick(14)) {
    case 12:
      return repeat(client);
    case 13:
      if (!chance(3)) return repeat(client);
      return close(client);
    case 0:
    case 1:
      return open_publisher(client);
    case 2:
    case 3:
      return open_subscriber(client);
    case 4:
    case 5:
      return ask_for_lanes(client);
    case 6:
      return release(client);
    case 7:
      return grow(client);
    case 8:
      return give_back(client);
    case 9:
      return turn(client);
    case 10:
      return hang_up(client);
    default:
      (void)ask(client, "peers", {{"sessions", {1 + pick(10), 1 + pick(10)}}});
  }
}

// The answer to a request may be lost with the connection: the broker has carried it out, the client does not know.
std::optional<Answer> World::ask(Client& client, const std::string& method, json params) {
  if (client.connection == 0) return std::nullopt;
  const bool lose = chance(12);
  const ConnectionId connection = client.connection;
  Answer answer;
  try {
    answer = shell_->call(connection, method, std::move(params));
  } catch (const Died&) {
    broker_died_ = true;
    client.connection = 0;
    return lose ? std::nullopt : shell_->last_answer(connection);
  }
  if (!lose) return answer;
  hang_up(client);
  return std::nullopt;
}

void World::connect(Client& client) {
  client.connection = shell_->connect(client.uid);
  tokens_[client.connection] = "token-" + std::to_string(client.connection);
  if (client.session == 0)
    greet(client);
  else
    resume(client);
}

void World::greet(Client& client) {
  const ConnectionId connection = client.connection;
  const auto answer = ask(client, "hello", {{"protocol", 1}, {"layout", 1}, {"membarrier", !chance(4)}});
  if (!answer) {
    // It never learns of this session, and so nobody holds its lock.
    if (broker_died_) return;
    for (const auto& [id, session] : shell_->tables().sessions)
      if (session.facts.token_hash == broker::hash_token(tokens_.at(connection))) let_go(id);
    return;
  }
  if (!answer->ok()) return;
  client.session = answer->result["session"];
  client.token = answer->result["token"];
  for (const json& fd : answer->result["fds"])
    if (fd["kind"] != "roster") client.segments.insert(fd["segment"].get<broker::SegmentId>());
}

void World::resume(Client& client) {
  const auto begun = ask(client, "resume.begin",
                         {{"protocol", 1}, {"layout", 1}, {"session", client.session}, {"token", client.token}});
  if (!begun) return;
  need(begun->ok(), "the session of a living process is known: " + begun->sentence);
  if (!give_memory(client, begun->result["lost"])) return;
  json held = json::array();
  for (const auto& [id, handle] : client.handles) held.push_back(id);
  json what{{"handles", held}};
  if (client.pending) what["keys"] = {client.pending->key};
  const auto listed = ask(client, "resume.handles", what);
  if (!listed) return;
  need(listed->ok() && listed->result["unknown"].empty(), "what a living process holds is known: " + listed->sentence);
  const auto done = ask(client, "resume.end", json::object());
  if (!done) return;
  need(done->ok(), "a session resumes: " + done->sentence);
  if (broker_died_) return;
  check_client(client);
  if (client.pending) ask_again(client);
}

// What the broker has lost and this client has kept; false: the answer was lost.
bool World::give_memory(Client& client, json lost) {
  while (!lost.empty()) {
    if (client.connection == 0) return false;  // the broker died when it had answered
    for (const json& id : lost) {
      const auto segment = id.get<broker::SegmentId>();
      if (!client.segments.contains(segment)) continue;
      need(shell_->gives_back(client.connection, segment), "what a client is asked for it may give back");
    }
    const auto answer = ask(client, "resume.memory", json::object());
    if (!answer) return false;
    need(answer->ok(), "memory is taken back: " + answer->sentence);
    lost = answer->result["lost"];
  }
  return true;
}

std::set<broker::SegmentId> World::sealed_segments() const {
  std::set<broker::SegmentId> sealed;
  for (const auto& [id, facts] : shell_->rows.segments)
    if (facts.sealed) sealed.insert(id);
  return sealed;
}

void World::open_publisher(Client& client) {
  Handle handle;
  handle.publisher = true;
  handle.topic = some_topic();
  handle.key = ++client.last_key;
  json options = json::object();
  if (chance(3)) options["linger_ms"] = static_cast<int>(pick(3)) * 1000;
  const json params{{"topic", handle.topic}, {"key", handle.key}, {"options", options}};
  const auto answer = ask(client, "publisher.open", params);
  if (!answer) client.pending = handle;
  if (!answer || !answer->ok()) return;
  if (chance(5)) {
    const auto again = ask(client, "publisher.open", params);
    need(!again || (again->ok() && again->result["handle"] == answer->result["handle"] &&
                    again->result["lane"] == answer->result["lane"]),
         "a key finds the publisher that it made");
  }
  keep_publisher(client, std::move(handle), *answer);
}

void World::keep_publisher(Client& client, Handle handle, const Answer& answer) {
  const json& lane = answer.result["lane"];
  handle.lane = lane["lane"];
  handle.block = lane["block"];
  handle.bytes = lane["bytes"];
  client.segments.insert(lane["segment"].get<broker::SegmentId>());
  const HandleId id = answer.result["handle"];
  need(!client.handles.contains(id), "a handle is given once");
  client.handles[id] = std::move(handle);
  if (lane["sealed"].get<bool>() && client.connection != 0) (void)ask(client, "publisher.mapped", {{"handle", id}});
}

void World::open_subscriber(Client& client) {
  Handle handle;
  handle.topic = some_topic();
  handle.key = ++client.last_key;
  const json params{{"topic", handle.topic},
                    {"key", handle.key},
                    {"delivery", chance(2) ? "lossless" : "drop_oldest"},
                    {"start", chance(2) ? "next" : "oldest"}};
  const auto answer = ask(client, "subscriber.open", params);
  if (!answer) client.pending = handle;
  if (!answer || !answer->ok()) return;
  keep_subscriber(client, std::move(handle), *answer);
  if (!chance(5)) return;
  const auto again = ask(client, "subscriber.open", params);
  need(!again || (again->ok() && again->result["handle"] == answer->result["handle"]),
       "a key finds the subscriber that it made");
}

void World::keep_subscriber(Client& client, Handle handle, const Answer& answer) {
  const HandleId id = answer.result["handle"];
  need(!client.handles.contains(id), "a handle is given once");
  learn_lanes(handle, answer.result);
  client.handles[id] = std::move(handle);
}

// After a resumption that listed its key the request comes again. What it made the first time, if it did, is still there:
// nobody sees a lane end that nobody has closed.
void World::ask_again(Client& client) {
  Handle handle = *client.pending;
  const auto& keys = shell_->tables().sessions.at(client.session).keys;
  const auto made = keys.find(handle.key);
  const HandleId expected = made == keys.end() ? 0 : made->second;
  const auto answer = ask(client, handle.publisher ? "publisher.open" : "subscriber.open",
                          {{"topic", handle.topic}, {"key", handle.key}});
  if (!answer) return;
  client.pending.reset();
  if (!answer->ok()) return need(expected == 0, "what a key made is found: " + answer->sentence);
  need(expected == 0 || answer->result["handle"] == expected, "a key makes one handle");
  if (handle.publisher)
    keep_publisher(client, std::move(handle), *answer);
  else
    keep_subscriber(client, std::move(handle), *answer);
}

// The request that made a handle comes once more, perhaps to another broker than the first time.
void World::repeat(Client& client) {
  const HandleId id = some_handle(client, chance(2));
  if (id == 0) return;
  const Handle& handle = client.handles[id];
  const auto answer = ask(client, handle.publisher ? "publisher.open" : "subscriber.open",
                          {{"topic", handle.topic}, {"key", handle.key}});
  need(!answer || (answer->ok() && answer->result["handle"] == id), "a key finds what it made, as long as it is there");
}

void World::learn_lanes(Handle& handle, const json& result) {
  for (const json& lane : result["lanes"]) {
    const Reader reader{lane["block"], lane["entry"], lane["record"]};
    const auto known = handle.readers.find(lane["lane"].get<LaneId>());
    if (known == handle.readers.end()) {
      handle.readers[lane["lane"].get<LaneId>()] = reader;
      continue;
    }
    need(known->second.entry == reader.entry && known->second.record == reader.record,
         "a reader keeps its place and its record");
  }
}

HandleId World::some_handle(Client& client, bool publisher) {
  std::vector<HandleId> found;
  for (const auto& [id, handle] : client.handles)
    if (handle.publisher == publisher) found.push_back(id);
  return found.empty() ? 0 : found[pick(found.size())];
}

void World::ask_for_lanes(Client& client) {
  const HandleId id = some_handle(client, false);
  if (id == 0) return;
  const LaneId after = client.handles[id].readers.empty() ? 0 : client.handles[id].readers.rbegin()->first;
  const auto answer = ask(client, "subscriber.lanes", {{"handle", id}, {"after", after}});
  if (answer && answer->ok()) learn_lanes(client.handles[id], answer->result);
  if (answer && !answer->ok())
    need(answer->error != "not_found" && answer->error != "hello", "its subscriber is there: " + answer->sentence);
}

// The client has forgotten the lane before it says so.
void World::release(Client& client) {
  const HandleId id = some_handle(client, false);
  if (id == 0 || client.handles[id].readers.empty()) return;
  auto& readers = client.handles[id].readers;
  const auto at = std::next(readers.begin(), static_cast<std::ptrdiff_t>(pick(readers.size())));
  const LaneId lane = at->first;
  readers.erase(at);
  const auto answer = ask(client, "subscriber.release", {{"handle", id}, {"lane", lane}});
  need(!answer || answer->ok() || answer->error == "not_found", "a lane is given back");
}

void World::grow(Client& client) {
  const HandleId id = some_handle(client, true);
  if (id == 0) return;
  const std::uint64_t bytes = 4096 * (1 + pick(20));
  const std::uint64_t known = client.handles[id].bytes;
  const auto answer = ask(client, "lane.grow", {{"handle", id}, {"bytes", bytes}, {"size", known}});
  if (!answer || !answer->ok()) return;
  const std::uint64_t size = answer->result["size"];
  need(size >= known + bytes, "a lane has what it was said to have");
  client.handles[id].bytes = size;
  if (!chance(4) || client.connection == 0) return;
  const auto again = ask(client, "lane.grow", {{"handle", id}, {"bytes", bytes}, {"size", known}});
  need(!again || (again->ok() && again->result["size"] == size), "a growth that is repeated has happened once");
}

void World::give_back(Client& client) {
  const HandleId id = some_handle(client, chance(2));
  if (id == 0) return;
  client.handles.erase(id);
  const auto answer = ask(client, "close", {{"handle", id}});
  need(!answer || answer->ok(), "what is held can be closed: " + (answer ? answer->sentence : ""));
}

void World::turn(Client& client) {
  const HandleId id = some_handle(client, true);
  if (id == 0) return;
  (void)ask(client, "lane.turn", {{"handle", id}, {"entry", pick(14)}, {"cursor", pick(3)}});
}

void World::hang_up(Client& client) {
  // The broker may hear of it later than of the next connection.
  forget(client);
  client.forgotten = std::exchange(client.connection, 0);
  if (client.forgotten != 0 && chance(2)) forget(client);
}

// The process lives on, and lets go of the session whether the broker has heard its `bye` or not. Some say none: they
// become another program, or gave the broker up.
void World::close(Client& client) {
  if (client.session == 0) return;
  Client closing;
  closing.uid = client.uid;
  std::swap(client, closing);
  let_go(closing.session);
  if (!chance(4)) {
    const auto answer = ask(closing, "bye", json::object());
    need(!answer || answer->ok(), "a session ends when its client says so");
  }
  if (broker_died_) return;
  hang_up(closing);
  forget(closing);
}

void World::let_go(SessionId session) { shell_->let_go.insert(session); }

void World::pass(broker::TimeMs ms) {
  shell_->pass(ms);
  if (ms < broker::kAskLocksMs) return;
  const auto& tables = shell_->tables();
  for (const auto& [id, session] : tables.sessions)
    need(session.connection != 0 || has_client(id) || dead_.contains(id) || tables.lost.contains(session.facts.records),
         "session " + std::to_string(id) + " is somebody's");
}

bool World::has_client(SessionId session) const {
  return std::any_of(clients_.begin(), clients_.end(), [&](const auto& client) { return client->session == session; });
}

void World::forget(Client& client) {
  const ConnectionId connection = std::exchange(client.forgotten, 0);
  if (connection != 0) shell_->feed(broker::Disconnected{connection});
}

void World::die(std::size_t index) {
  Client& client = *clients_[index];
  const SessionId session = client.session;
  const ConnectionId connections[] = {client.forgotten, client.connection};
  clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(index));
  if (session != 0) dead_.insert(session);
  // The kernel may let go of the lock before the socket, or behind it.
  if (session != 0 && chance(2)) let_go(session);
  for (const ConnectionId connection : connections)
    if (connection != 0) shell_->feed(broker::Disconnected{connection});
}

// The next broker, which may die, too, before it has adopted everything. It asks the locks who lives; where the memory is
// lost, it looks whether the process is there.
void World::restart() {
  const std::set<broker::SegmentId> lost = stored_ ? std::set<broker::SegmentId>() : sealed_segments();
  std::set<SessionId> gone;
  std::set<SessionId> kept;
  for (const auto& [id, facts] : shell_->rows.sessions) {
    if (has_client(id)) continue;
    (lost.contains(facts.records) && !dead_.contains(id) ? kept : gone).insert(id);
  }
  for (int tries = 0;; ++tries) {
    shell_ = std::make_unique<FakeShell>(*shell_, gone, lost);
    try {
      shell_->adopt(tries < 4 ? static_cast<int>(pick(30)) : 0);
      break;
    } catch (const Died&) {
      check_memory();
    }
  }
  dead_ = std::move(kept);
  for (const auto& client : clients_) client->connection = client->forgotten = 0;
}

// ---- what must be true ----------------------------------------------------------------------------------------------

void World::check_memory() {
  for (const auto& client : clients_) {
    for (const auto segment : client->segments) {
      const bool own_lane = std::any_of(client->handles.begin(), client->handles.end(), [&](const auto& entry) {
        return entry.second.publisher && shell_->rows.lanes.contains(entry.second.lane) &&
               shell_->rows.lanes.at(entry.second.lane).segment == segment;
      });
      const bool session =
          shell_->rows.segments.contains(segment) && shell_->rows.segments.at(segment).kind != shm::SegmentKind::kLane;
      if (own_lane || session) need(shell_->segments.contains(segment), "a file of a living client is there");
    }
    for (const auto& [id, handle] : client->handles) {
      // After every event: words are made when they are needed.
      const auto wrong = [&](const std::string& what) {
        need(false, "handle " + std::to_string(id) + " of session " + std::to_string(client->session) + what);
      };
      if (handle.publisher) {
        if (shell_->roster_size(handle.block) < handle.bytes) wrong(": the roster has the size that it was told");
        continue;
      }
      for (const auto& [lane, reader] : handle.readers) {
        const std::uint64_t entry = shell_->roster_entry(reader.block, reader.entry);
        if (shm::entry_session(entry) != client->session || shm::entry_record(entry) != reader.record)
          wrong(": its reader of lane " + std::to_string(lane) + " is on the roster");
      }
    }
  }
}

void World::check_client(const Client& client) {
  const auto& tables = shell_->tables();
  const auto session = tables.sessions.find(client.session);
  need(session != tables.sessions.end(), "the session of a living process is there");
  const std::size_t pending = client.pending && session->second.keys.contains(client.pending->key) ? 1 : 0;
  need(session->second.publishers.size() + session->second.subscribers.size() == client.handles.size() + pending,
       "after a resume the broker has what the client holds, and no more");
  for (const auto& [id, handle] : client.handles) {
    const std::string who = "handle " + std::to_string(id);
    if (handle.publisher) {
      const auto at = tables.publishers.find(id);
      need(at != tables.publishers.end() && at->second.lane == handle.lane, who + ": a publisher keeps its lane");
      const auto& lane = tables.lanes.at(handle.lane);
      need(!lane.ended(), who + ": the lane of a living publisher is open");
      need(tables.topics.at(lane.facts.topic).facts.name == handle.topic, who + ": a topic keeps its name");
      continue;
    }
    const auto at = tables.subscribers.find(id);
    need(at != tables.subscribers.end(), who + ": a subscriber is known");
    for (const auto& [lane, reader] : handle.readers)
      need(at->second.lanes.contains(lane), who + ": a subscriber keeps its lanes");
  }
}

}  // namespace holdfast::simulation
