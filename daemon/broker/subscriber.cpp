// SPDX-License-Identifier: MIT
//
// Subscribers and the lanes that they read.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/names.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

void State::subscriber_open(Call call, Params& params) {
  const std::string name = params.required_text("topic", kTopicNameBytesMax);
  const auto delivery = params.choice("delivery", {"drop_oldest", "lossless"}).value_or(0);
  const auto start = params.choice("start", {"next", "latest", "oldest"}).value_or(0);
  AskedOptions asked;
  if (auto options = params.object("options")) asked = read_options(*options);
  if (auto type = read_type(params)) asked.type = std::move(type);
  const std::uint64_t key = params.number("key", 1, INT64_MAX).value_or(0);
  if (params.ok() && !is_topic_name(name))
    params.refuse("topic", "must be 1 to 255 bytes: words of A-Z a-z 0-9 _ . - separated by /");
  params.finish();
  if (!params.ok()) return;
  const Session& session = session_of(call);
  if (const HandleId known = known_key(session, key); known != 0) {
    const auto subscriber = tables_.subscribers.find(known);
    if (subscriber == tables_.subscribers.end() || tables_.topics.at(subscriber->second.facts.topic).facts.name != name)
      return refuse(call, key_of_another(key, known));
    Operation again(Kind::kOpenSubscriber, call);
    again.session = session.facts.id;
    again.topic = subscriber->second.facts.topic;
    again.handle = known;
    return reply_subscriber(again);
  }
  if (session.publishers.size() + session.subscribers.size() >= kHandlesPerSessionMax)
    return refuse(call, Refusal(control::Failure::kBusy,
                                "a session may have " + std::to_string(kHandlesPerSessionMax) + " handles: close some",
                                {{"limit", kHandlesPerSessionMax}}));
  Operation operation(Kind::kOpenSubscriber, call);
  operation.session = session.facts.id;
  operation.handle = next_id();
  Subscriber& subscriber = tables_.subscribers[operation.handle];
  subscriber.facts = {operation.handle,
                      session.facts.id,
                      0,
                      Role::kSubscriber,
                      static_cast<Delivery>(delivery),
                      static_cast<StartAt>(start),
                      key};
  auto refusal = enter_topic(operation, name, asked, asked.names_any());
  subscriber.facts.topic = operation.topic;
  if (!refusal) refusal = plan_lanes(operation);
  if (refusal) return abandon(std::move(operation), *refusal);
  begin(std::move(operation));
}

// A record for each lane that there is. Of ended lanes there is no next sample.
std::optional<Refusal> State::plan_lanes(Operation& operation) {
  const Topic& topic = tables_.topics.at(operation.topic);
  if (topic.subscribers.size() >= kSubscribersPerTopicMax)
    return Refusal(control::Failure::kBusy,
                   "a topic may have " + std::to_string(kSubscribersPerTopicMax) + " subscribers: close some",
                   {{"limit", kSubscribersPerTopicMax}});
  const StartAt start = tables_.subscribers.at(operation.handle).facts.start;
  for (const LaneId id : topic.lanes) {
    Lane& lane = tables_.lanes.at(id);
    if (lane.ended() && (start == StartAt::kNext || tables_.lost.contains(lane.facts.segment))) continue;
    // A lane that is not shown yet has no sample yet.
    if (auto refusal = reserve_reader(operation, operation.handle, lane, !lane.facts.shown)) return refusal;
  }
  return std::nullopt;
}

void State::commit_subscriber(const Operation& operation) {
  commit_topic(operation);
  Topic& topic = tables_.topics.at(operation.topic);
  topic.subscribers.insert(operation.handle);
  Session& session = tables_.sessions.at(operation.session);
  const HandleFacts& facts = tables_.subscribers.at(operation.handle).facts;
  session.subscribers.insert(operation.handle);
  if (facts.key != 0) session.keys[facts.key] = operation.handle;
  put(tables_.subscribers.at(operation.handle).facts);
  commit_readers(operation);
  reply_subscriber(operation);
}

void State::reply_subscriber(const Operation& operation) {
  nlohmann::json result = nlohmann::json::object();
  result["handle"] = operation.handle;
  result["topic_block"] = tables_.topics.at(operation.topic).facts.block;
  reply_lanes(operation, std::move(result), true);
}

Subscriber* State::subscriber_of(const Call& call, HandleId handle) {
  const Session& session = session_of(call);
  if (session.subscribers.contains(handle)) return &tables_.subscribers.at(handle);
  refuse(call, Refusal(control::Failure::kNotFound,
                       "session " + std::to_string(session.facts.id) + " has no subscriber " + std::to_string(handle)));
  return nullptr;
}

// Lists lanes; those that there was no room for are tried again.
void State::subscriber_lanes(Call call, Params& params) {
  const HandleId handle = params.required_number("handle", 0, UINT64_MAX);
  const LaneId after = params.number("after", 0, UINT64_MAX).value_or(0);
  params.finish();
  if (!params.ok()) return;
  Subscriber* subscriber = subscriber_of(call, handle);
  if (subscriber == nullptr) return;
  Operation operation(Kind::kListLanes, call);
  operation.session = subscriber->facts.session;
  operation.topic = subscriber->facts.topic;
  operation.topic_before = tables_.topics.at(operation.topic).facts;
  operation.handle = handle;
  operation.lane = after;
  for (const LaneId id : subscriber->unattached)
    if (auto refusal = reserve_reader(operation, handle, tables_.lanes.at(id), !tables_.lanes.at(id).facts.shown))
      return abandon(std::move(operation), *refusal);
  begin(std::move(operation));
}

void State::commit_list(const Operation& operation) {
  commit_readers(operation);
  tables_.subscribers.at(operation.handle).unattached.clear();
  reply_lanes(operation, nlohmann::json::object(), false);
}

void State::reply_lanes(const Operation& operation, nlohmann::json result, bool undo) {
  const Subscriber& subscriber = tables_.subscribers.at(operation.handle);
  const Session& session = tables_.sessions.at(operation.session);
  nlohmann::json list = nlohmann::json::array();
  nlohmann::json fds = nlohmann::json::array();
  std::vector<DescriptorRequest> descriptors;
  auto at = subscriber.lanes.upper_bound(operation.lane);
  for (; at != subscriber.lanes.end() && list.size() < kLanesPerReply; ++at) {
    const Lane& lane = tables_.lanes.at(*at);
    if (!lane.facts.shown || (lane.ended() && tables_.lost.contains(lane.facts.segment))) continue;
    // It is listed when its client has given it back, and those behind it, too: ids only ascend.
    if (away(lane)) {
      at = subscriber.lanes.end();
      break;
    }
    const SegmentFacts& segment = tables_.segments.at(lane.facts.segment);
    list.push_back(lane_json(lane, operation.handle));
    fds.push_back({{"segment", segment.id},
                   {"kind", "lane"},
                   {"access", "ro"},
                   {"bytes", segment.bytes},
                   {"lane", lane.facts.id}});
    descriptors.push_back({segment.id, false});
  }
  const auto shown = [this](LaneId id) { return tables_.lanes.at(id).facts.shown; };
  const TopicFacts& topic = tables_.topics.at(operation.topic).facts;
  // The options may have been settled after this subscriber was opened: a lane is read with those of now.
  result["topic"] = options_json(topic.options, topic.type);
  result["changes"] = changes(topic.block);
  result["more"] = std::any_of(at, subscriber.lanes.end(), shown);
  result["lanes"] = std::move(list);
  result["session_bytes"] = tables_.segments.at(session.facts.records).bytes;
  result["fds"] = std::move(fds);
  reply(operation.call, std::move(result), std::move(descriptors), undo ? operation.session : 0,
        undo ? operation.handle : 0);
}

nlohmann::json State::lane_json(const Lane& lane, HandleId subscriber) const {
  const Reader& reader = lane.readers.at(subscriber);
  const SegmentFacts& segment = tables_.segments.at(lane.facts.segment);
  return {{"lane", lane.facts.id},
          {"segment", segment.id},
          {"bytes", segment.bytes},
          {"reserve_bytes", segment.reserve_bytes},
          {"block", lane.blocks.front()},
          {"record", reader.facts.record},
          {"entry", reader.facts.entry},
          {"publisher", lane.facts.session},
          {"publisher_name", lane.facts.process},
          {"publisher_pid", lane.facts.pid},
          {"board", lane.facts.board},
          {"fresh", reader.facts.fresh},
          {"bells_reserve_bytes", kBellsReserve}};
}

void State::subscriber_release(Call call, Params& params) {
  const HandleId handle = params.required_number("handle", 0, UINT64_MAX);
  const LaneId lane = params.required_number("lane", 0, UINT64_MAX);
  params.finish();
  if (!params.ok()) return;
  const Subscriber* subscriber = subscriber_of(call, handle);
  if (subscriber == nullptr) return;
  if (!subscriber->lanes.contains(lane))
    return refuse(call, Refusal(control::Failure::kNotFound, "subscriber " + std::to_string(handle) +
                                                                 " does not read lane " + std::to_string(lane)));
  detach(handle, lane);
  reply(call, nlohmann::json::object());
}

void State::close_subscriber(HandleId handle) {
  const auto at = tables_.subscribers.find(handle);
  const auto lanes = at->second.lanes;
  for (const LaneId lane : lanes) detach(handle, lane);
  const HandleFacts facts = at->second.facts;
  tables_.subscribers.erase(at);
  actions_.emplace_back(DeleteRow{Table::kHandles, handle});
  Session& session = tables_.sessions.at(facts.session);
  session.subscribers.erase(handle);
  session.keys.erase(facts.key);
  tables_.topics.at(facts.topic).subscribers.erase(handle);
  vanish_if_unused(facts.topic);
}

}  // namespace holdfast::broker
