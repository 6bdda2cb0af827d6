// SPDX-License-Identifier: MIT
//
// Publishers and their lanes.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/names.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

void State::publisher_open(Call call, Params& params) {
  const std::string name = params.required_text("topic", kTopicNameBytesMax);
  AskedOptions asked;
  if (auto options = params.object("options")) asked = read_options(*options);
  const std::uint64_t key = params.number("key", 1, INT64_MAX).value_or(0);
  if (params.ok() && !is_topic_name(name))
    params.refuse("topic", "must be 1 to 255 bytes: words of A-Z a-z 0-9 _ . - separated by /");
  params.finish();
  if (!params.ok()) return;
  Session& session = session_of(call);
  if (const HandleId known = known_key(session, key); known != 0) {
    const auto publisher = tables_.publishers.find(known);
    if (publisher == tables_.publishers.end() || tables_.topics.at(publisher->second.facts.topic).facts.name != name)
      return refuse(call, key_of_another(key, known));
    return reply_publisher(call, publisher->second);
  }
  Operation operation(Kind::kOpenPublisher, call);
  operation.session = session.facts.id;
  operation.key = key;
  make_place_for_lane(name);
  auto refusal = enter_topic(operation, name, asked, true);
  if (!refusal) refusal = may_publish(session, tables_.topics.at(operation.topic));
  if (!refusal) refusal = plan_lane(operation, asked);
  if (refusal) return abandon(std::move(operation), *refusal);
  begin(std::move(operation));
}

std::optional<Refusal> State::may_publish(const Session& session, const Topic& topic) const {
  const auto busy = [](const char* what, std::size_t limit) {
    return Refusal(control::Failure::kBusy,
                   std::string(what) + " " + std::to_string(limit) + ", and has as many: close some",
                   {{"limit", limit}});
  };
  if (topic.facts.options.exclusive && !topic.publishers.empty()) {
    const Session& holder = tables_.sessions.at(tables_.publishers.at(*topic.publishers.begin()).facts.session);
    return Refusal(
        control::Failure::kExists,
        "topic \"" + topic.facts.name + "\" has an exclusive publisher: \"" + holder.facts.name + "\", pid " +
            std::to_string(holder.facts.pid) + ", session " + std::to_string(holder.facts.id) +
            "; wait until it has closed it",
        {{"holder", {{"session", holder.facts.id}, {"pid", holder.facts.pid}, {"name", holder.facts.name}}}});
  }
  if (session.publishers.size() + session.subscribers.size() >= kHandlesPerSessionMax)
    return busy("a session may have so many handles:", kHandlesPerSessionMax);
  if (topic.lanes.size() >= kLanesPerTopicMax) return busy("a topic may have so many lanes:", kLanesPerTopicMax);
  if (tables_.lanes.size() >= kLanesMax) return busy("the broker may have so many lanes:", kLanesMax);
  return std::nullopt;
}

std::optional<Refusal> State::plan_lane(Operation& operation, const AskedOptions& asked) {
  Session& session = tables_.sessions.at(operation.session);
  Topic& topic = tables_.topics.at(operation.topic);
  const TopicOptions& options = topic.facts.options;
  const std::uint64_t bytes = shm::chunks_offset(options.ring);
  const std::uint64_t bytes_max = asked.bytes_max.value_or(std::max(kLaneBytesDefault, 2 * bytes));
  if (bytes_max < bytes)
    return Refusal(control::Failure::kInvalid,
                   "parameter \"options.bytes_max\" must be at least " + std::to_string(bytes) + " for a ring of " +
                       std::to_string(options.ring),
                   {{"parameter", "options.bytes_max"}});
  operation.handle = next_id();
  operation.lane = next_id();
  Lane& lane = tables_.lanes[operation.lane];
  lane.facts.id = operation.lane;
  lane.facts.topic = operation.topic;
  lane.facts.session = operation.session;
  lane.facts.pid = session.facts.pid;
  lane.facts.process = session.facts.name;
  lane.facts.publisher = operation.handle;
  lane.facts.segment = next_id();
  lane.facts.bytes_max = shm::round_up(bytes_max, shm::kPage);
  topic.lanes.insert(operation.lane);
  const auto board = session.boards.allocate(sizeof(shm::Board));
  if (!board)
    return Refusal(control::Failure::kBusy, "this session has no room for another board: use a second session",
                   {{"limit", kBellsReserve}});
  lane.facts.board = *board;
  if (auto refusal = reach(operation, session.facts.bells, *board + sizeof(shm::Board))) return refusal;
  if (auto refusal = add_block(operation, lane)) return refusal;
  CreateSegment create;
  create.facts.id = lane.facts.segment;
  create.facts.kind = shm::SegmentKind::kLane;
  create.facts.sealed =
      options.backing == Backing::kSealed || (options.backing == Backing::kAuto && session.facts.uid != setup_.uid);
  create.facts.bytes = bytes;
  create.facts.reserve_bytes = lane.facts.bytes_max;
  create.facts.session = operation.session;
  create.facts.lane = operation.lane;
  create.pid = session.facts.pid;
  create.topic = operation.topic;
  create.ring = options.ring;
  create.chunks_max = options.chunks_max;
  if (auto refusal = add_segment(operation, std::move(create))) return refusal;
  plan_readers(operation, lane);
  return std::nullopt;
}

// Everybody who subscribes gets a record before the publisher hears of its lane, so that nothing is lost to them. Who
// has no room for one learns it when it asks for its lanes: that is its own doing, not the publisher's.
void State::plan_readers(Operation& operation, Lane& lane) {
  const Topic& topic = tables_.topics.at(operation.topic);
  for (const HandleId handle : topic.subscribers)
    if (reserve_reader(operation, handle, lane, true)) tables_.subscribers.at(handle).unattached.insert(lane.facts.id);
}

void State::commit_lane(const Operation& operation) {
  commit_topic(operation);
  Session& session = tables_.sessions.at(operation.session);
  Topic& topic = tables_.topics.at(operation.topic);
  Lane& lane = tables_.lanes.at(operation.lane);
  const SegmentFacts& segment = tables_.segments.at(lane.facts.segment);
  put_added(operation);
  link_blocks(lane, 1);
  actions_.emplace_back(StoreSize{lane.blocks.front(), segment.bytes});
  if (!session.facts.membarrier) lane.flags |= shm::kRosterFullFences;
  actions_.emplace_back(StoreFlags{lane.blocks.front(), lane.flags});
  actions_.emplace_back(ClearBoard{session.facts.bells, lane.facts.board});
  Publisher& publisher = tables_.publishers[operation.handle];
  publisher.facts = {
      .id = operation.handle, .session = operation.session, .topic = operation.topic, .key = operation.key};
  if (operation.key != 0) session.keys[operation.key] = operation.handle;
  publisher.lane = operation.lane;
  session.publishers.insert(operation.handle);
  topic.publishers.insert(operation.handle);
  put(publisher.facts);
  commit_readers(operation);
  if (segment.sealed)
    put(lane.facts);
  else
    show_lane(lane);
  reply_publisher(operation.call, publisher);
}

void State::reply_publisher(const Call& call, const Publisher& publisher) {
  const Session& session = tables_.sessions.at(publisher.facts.session);
  const Topic& topic = tables_.topics.at(publisher.facts.topic);
  const Lane& lane = tables_.lanes.at(publisher.lane);
  const SegmentFacts& segment = tables_.segments.at(lane.facts.segment);
  nlohmann::json result = nlohmann::json::object();
  result["handle"] = publisher.facts.id;
  result["lane"] = {{"lane", lane.facts.id},        {"segment", segment.id},
                    {"bytes", segment.bytes},       {"reserve_bytes", segment.reserve_bytes},
                    {"block", lane.blocks.front()}, {"board", lane.facts.board},
                    {"sealed", segment.sealed}};
  result["topic"] = options_json(topic.facts.options, topic.facts.type);
  result["bells_bytes"] = tables_.segments.at(session.facts.bells).bytes;
  result["fds"] = nlohmann::json::array({{{"segment", segment.id},
                                          {"kind", "lane"},
                                          {"access", "rw"},
                                          {"bytes", segment.bytes},
                                          {"keep", to_be_kept(segment)},
                                          {"lane", lane.facts.id}}});
  reply(call, std::move(result), {{segment.id, true}}, session.facts.id, publisher.facts.id);
}

Publisher* State::publisher_of(const Call& call, HandleId handle) {
  const Session& session = session_of(call);
  if (session.publishers.contains(handle)) return &tables_.publishers.at(handle);
  refuse(call, Refusal(control::Failure::kNotFound,
                       "session " + std::to_string(session.facts.id) + " has no publisher " + std::to_string(handle)));
  return nullptr;
}

void State::publisher_mapped(Call call, Params& params) {
  const HandleId handle = params.required_number("handle", 0, UINT64_MAX);
  params.finish();
  if (!params.ok()) return;
  const Publisher* publisher = publisher_of(call, handle);
  if (publisher == nullptr) return;
  const Lane& lane = tables_.lanes.at(publisher->lane);
  Operation operation(Kind::kMapped, call);
  operation.session = publisher->facts.session;
  operation.topic = publisher->facts.topic;
  operation.lane = publisher->lane;
  if (!lane.facts.shown) operation.needs.emplace_back(SealSegment{0, lane.facts.segment});
  begin(std::move(operation));
}

void State::commit_mapped(const Operation& operation) {
  Lane& lane = tables_.lanes.at(operation.lane);
  if (!lane.facts.shown) show_lane(lane);
  reply(operation.call, nlohmann::json::object());
}

void State::lane_grow(Call call, Params& params) {
  const HandleId handle = params.required_number("handle", 0, UINT64_MAX);
  const std::uint64_t asked = params.required_number("bytes", shm::kPage, kLaneBytesMax);
  const auto known = params.number("size", 0, kLaneBytesMax);
  if (params.ok() && asked % shm::kPage != 0) params.refuse("bytes", "must be a multiple of 4096");
  params.finish();
  if (!params.ok()) return;
  const Publisher* publisher = publisher_of(call, handle);
  if (publisher == nullptr) return;
  Lane& lane = tables_.lanes.at(publisher->lane);
  const SegmentFacts& segment = tables_.segments.at(lane.facts.segment);
  // Asked before, and the answer was lost.
  if (known && segment.bytes >= *known + asked) return reply(call, {{"size", segment.bytes}});
  if (lane.growing_to != 0)
    return refuse(
        call, Refusal(control::Failure::kBusy, "this lane is growing already: wait for the answer", {{"limit", 1}}));
  if (asked > segment.reserve_bytes - segment.bytes)
    return refuse(
        call, Refusal(control::Failure::kQuota,
                      "this lane may grow to " + std::to_string(segment.reserve_bytes) + " bytes and has " +
                          std::to_string(segment.bytes) + ", " + std::to_string(asked) +
                          " more do not fit: open the publisher with a larger bytes_max",
                      {{"asked_bytes", asked}, {"used_bytes", segment.bytes}, {"limit_bytes", segment.reserve_bytes}}));
  Operation operation(Kind::kGrowLane, call);
  operation.session = publisher->facts.session;
  operation.lane = publisher->lane;
  lane.growing_to = segment.bytes + asked;
  if (auto refusal = over_quota(operation, operation.session, asked)) return abandon(std::move(operation), *refusal);
  operation.needs.emplace_back(GrowSegment{0, segment.id, lane.growing_to});
  begin(std::move(operation));
}

// Row 16: the memory is there; its size, then the reply.
void State::commit_grow(const Operation& operation) {
  const auto at = tables_.lanes.find(operation.lane);
  if (at == tables_.lanes.end())
    return refuse(operation.call, Refusal(control::Failure::kNotFound, "the lane ended while it grew"));
  Lane& lane = at->second;
  lane.growing_to = 0;
  const std::uint64_t bytes = tables_.segments.at(lane.facts.segment).bytes;
  actions_.emplace_back(StoreSize{lane.blocks.front(), bytes});
  reply(operation.call, {{"size", bytes}});
}

void State::lane_turn(Call call, Params& params) {
  const HandleId handle = params.required_number("handle", 0, UINT64_MAX);
  const std::uint64_t entry = params.required_number("entry", 0, shm::kReadersMax + shm::kRosterEntries);
  const std::uint64_t cursor = params.required_number("cursor", 0, UINT64_MAX);
  params.finish();
  if (!params.ok()) return;
  const Publisher* publisher = publisher_of(call, handle);
  if (publisher == nullptr) return;
  const Lane& lane = tables_.lanes.at(publisher->lane);
  const HandleId subscriber = entry < lane.places.size() ? lane.places[entry] : 0;
  if (subscriber == 0) return reply(call, {{"turned", false}});
  const Reader& reader = lane.readers.at(subscriber);
  if (!reader.facts.lossless || reader.facts.turned) return reply(call, {{"turned", false}});
  const SegmentId records = tables_.sessions.at(reader.session).facts.records;
  Operation operation(Kind::kTurn, call);
  operation.session = publisher->facts.session;
  operation.lane = publisher->lane;
  operation.reader = subscriber;
  operation.value = cursor;
  // Of a lost one nobody can tell whether it moves.
  if (tables_.lost.contains(records))
    operation.outcome.value = cursor;
  else
    operation.needs.emplace_back(ReadCursor{0, records, reader.facts.record});
  begin(std::move(operation));
}

// Row 14b: the mode, then the writer's bell.
void State::commit_turn(const Operation& operation) {
  const bool turned = operation.outcome.value == operation.value;
  if (turned) {
    Lane& lane = tables_.lanes.at(operation.lane);
    Reader& reader = lane.readers.at(operation.reader);
    reader.facts.turned = true;
    store_entry(lane, reader);
    bump(lane.blocks.front());
    put(reader.facts);
    ring_session(operation.session);
    ring_session(reader.session);
  }
  reply(operation.call, {{"turned", turned}});
}

// The end of a lane that the broker cannot write: its readers look there when the topic has changed. They are rung later.
void State::end_on_roster(Lane& lane) {
  lane.flags |= shm::roster_end(lane.facts.state);
  actions_.emplace_back(StoreFlags{lane.blocks.front(), lane.flags});
  if (lane.facts.shown) bump(tables_.topics.at(lane.facts.topic).facts.block);
}

// The client has stored the state already, if it closes; the compare-and-swap does it where it has not.
void State::close_publisher(HandleId handle, shm::LaneState state) {
  const auto at = tables_.publishers.find(handle);
  const Publisher publisher = at->second;
  Lane& lane = tables_.lanes.at(publisher.lane);
  actions_.emplace_back(EndLane{lane.facts.segment, state});
  lane.facts.state = state;
  lane.idle_since = now_;
  if (lane.ends_on_roster) end_on_roster(lane);
  put(lane.facts);
  for (const auto& [reader, row] : lane.readers) ring_session(row.session);
  actions_.emplace_back(DeleteRow{Table::kHandles, handle});
  Session& session = tables_.sessions.at(publisher.facts.session);
  session.publishers.erase(handle);
  session.keys.erase(publisher.facts.key);
  tables_.topics.at(publisher.facts.topic).publishers.erase(handle);
  tables_.publishers.erase(at);
  if (lane.facts.shown) return consider(publisher.lane);
  // Nobody was told of it.
  std::vector<HandleId> readers;
  for (const auto& [reader, row] : lane.readers) readers.push_back(reader);
  for (const HandleId reader : readers) {
    detach(reader, publisher.lane);
    if (!tables_.lanes.contains(publisher.lane)) return;
  }
  remove_lane(publisher.lane);
}

}  // namespace holdfast::broker
