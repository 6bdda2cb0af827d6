// SPDX-License-Identifier: MIT
#include "daemon/reporter.hpp"

#include <algorithm>

#include <unistd.h>

#include "daemon/broker/limits.hpp"
#include "daemon/broker/versions.hpp"
#include "daemon/free_memory.hpp"
#include "proto/control/message.hpp"
#include "proto/control/versions.hpp"

namespace holdfast::daemon {

using shm::At;
using shm::NativeAtomics;

namespace {

// A line, less the envelope around the result.
constexpr std::size_t kResultBytesMax = control::kLineBytesMax - 2048;

// How many of a ring's newest slots are looked at for the sizes of pinned chunks.
constexpr std::uint64_t kSlotsSearchedMax = 4096;

const char* state_name(shm::LaneState state) {
  switch (state) {
    case shm::LaneState::kOpen:
      return "open";
    case shm::LaneState::kFinished:
      return "finished";
    case shm::LaneState::kAborted:
      return "aborted";
  }
  return "unknown";
}

std::size_t dumped_bytes(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).size() + 1;
}

// A page: rows until there are no more, or the line is full. At least one row.
template <class List, class Turn, class Key>
nlohmann::json page(const char* name, const List& list, Turn&& turn, Key&& key) {
  nlohmann::json rows = nlohmann::json::array();
  nlohmann::json next = nullptr;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < list.rows.size(); ++i) {
    nlohmann::json row = turn(list.rows[i]);
    bytes += dumped_bytes(row);
    if (!rows.empty() && bytes > kResultBytesMax) {
      next = key(list.rows[i - 1]);
      break;
    }
    rows.push_back(std::move(row));
    if (i + 1 == list.rows.size() && list.more) next = key(list.rows[i]);
  }
  nlohmann::json result = nlohmann::json::object();
  result[name] = std::move(rows);
  result["next"] = std::move(next);
  return result;
}

}  // namespace

void Reporter::forget(broker::SegmentId records) {
  const auto begin = pinned_since_.lower_bound({records, 0});
  auto end = begin;
  while (end != pinned_since_.end() && end->first.first == records) ++end;
  pinned_since_.erase(begin, end);
}

nlohmann::json Reporter::result(const broker::Report& report, const About& about, broker::TimeMs now) {
  if (const auto* rows = std::get_if<broker::Topics>(&report))
    return page(
        "topics", *rows, [&](const auto& row) { return topic(row, now); },
        [](const auto& row) { return row.facts.name; });
  if (const auto* rows = std::get_if<broker::Sessions>(&report))
    return page(
        "sessions", *rows, [&](const auto& row) { return session(row, now); },
        [](const auto& row) { return std::to_string(row.facts.id); });
  if (const auto* rows = std::get_if<broker::SegmentList>(&report))
    return page(
        "segments", *rows, [&](const auto& row) { return segment(row, now); },
        [](const auto& row) { return std::to_string(row.facts.id); });
  if (const auto* sums = std::get_if<broker::Stats>(&report)) return stats(*sums, about, now);
  return {{"epoch", about.epoch},
          {"instance", about.instance},
          {"uptime_ms", now - about.started_ms},
          {"version", about.version}};
}

nlohmann::json Reporter::stats(const broker::Stats& stats, const About& about, broker::TimeMs now) {
  Totals totals = segments_.totals();
  for (const broker::SegmentId id : stats.lane_segments) {
    const shm::LaneHeader* header = segments_.lane(id);
    if (header == nullptr) continue;
    totals.samples += NativeAtomics::load<At::kObserve>(header->head);
    totals.payload_bytes += NativeAtomics::load<At::kObserve>(header->payload_bytes);
  }
  for (const auto& at : stats.readers)
    if (const shm::ReaderRecord* record = segments_.record(at.records, at.record))
      totals.missed += NativeAtomics::load<At::kObserve>(record->missed);
  const FreeMemory memory = free_memory();
  return {{"version", about.version},
          {"protocol", broker::spoken().newest},
          {"protocol_min", broker::spoken().oldest},
          {"layout", broker::spoken().layout},
          {"instance", about.instance},
          {"epoch", about.epoch},
          {"pid", ::getpid()},
          {"uptime_ms", now - about.started_ms},
          {"sessions", stats.sessions},
          {"topics", stats.topics},
          {"lanes", stats.lanes},
          {"publishers", stats.publishers},
          {"subscribers", stats.subscribers},
          {"segments", stats.segments},
          {"segment_bytes", stats.segment_bytes},
          {"quota_bytes_max", stats.quota_bytes_max},
          {"shm_total_bytes", memory.shm_total_bytes},
          {"shm_free_bytes", memory.shm_free_bytes},
          {"requests", about.requests},
          {"replies_failed", about.replies_failed},
          {"samples", totals.samples},
          {"payload_bytes", totals.payload_bytes},
          {"missed", totals.missed},
          {"swept_segments", about.swept_segments},
          {"limits",
           {{"connections", stats.connections_max},
            {"connections_per_uid", stats.connections_per_uid},
            {"sessions", stats.sessions_max},
            {"topics", broker::kTopicsMax},
            {"lanes", broker::kLanesMax},
            {"lanes_per_topic", broker::kLanesPerTopicMax},
            {"subscribers_per_topic", broker::kSubscribersPerTopicMax},
            {"handles_per_session", broker::kHandlesPerSessionMax},
            {"session_reserve_bytes", broker::kSessionReserve},
            {"bells_reserve_bytes", broker::kBellsReserve},
            {"lane_bytes_default", broker::kLaneBytesDefault},
            {"lane_bytes", broker::kLaneBytesMax},
            {"events", broker::kEventsMax},
            {"lanes_per_reply", broker::kLanesPerReply},
            {"peers_per_request", broker::kPeersPerRequest},
            {"page", broker::kPageMax},
            {"line_bytes", control::kLineBytesMax},
            {"depth", control::kDepthMax},
            {"topic_name_bytes", broker::kTopicNameBytesMax},
            {"process_name_bytes", broker::kProcessNameBytesMax},
            {"first_line_deadline_ms", broker::kFirstLineDeadlineMs}}}};
}

nlohmann::json Reporter::topic(const broker::TopicReport& report, broker::TimeMs now) {
  nlohmann::json json = broker::options_json(report.facts.options, report.facts.type);
  json["name"] = report.facts.name;
  json["publishers"] = report.publishers;
  json["subscribers"] = report.subscribers;
  json["lanes_count"] = report.lanes_count;
  json["subscriptions_count"] = report.subscriptions_count;
  std::size_t bytes = dumped_bytes(json) + 64;
  nlohmann::json lanes = nlohmann::json::array();
  for (const broker::LaneReport& row : report.lanes) {
    nlohmann::json one = lane(row);
    bytes += dumped_bytes(one);
    if (bytes > kResultBytesMax / 2) break;
    lanes.push_back(std::move(one));
  }
  nlohmann::json subscriptions = nlohmann::json::array();
  for (const broker::SubscriptionReport& row : report.subscriptions) {
    nlohmann::json one = subscription(row, now);
    bytes += dumped_bytes(one);
    if (bytes > kResultBytesMax) break;
    subscriptions.push_back(std::move(one));
  }
  json["lanes"] = std::move(lanes);
  json["subscriptions"] = std::move(subscriptions);
  return json;
}

nlohmann::json Reporter::lane(const broker::LaneReport& report) {
  nlohmann::json json{{"lane", report.facts.id},
                      {"session", report.facts.session},
                      {"pid", report.facts.pid},
                      {"process", report.facts.process},
                      {"state", state_name(report.facts.state)},
                      {"bytes", report.bytes},
                      {"segment", report.facts.segment},
                      {"backing", report.sealed ? "sealed" : "named"},
                      {"readers", report.readers}};
  const shm::LaneHeader* header = segments_.lane(report.facts.segment);
  const auto load = [header](const std::uint64_t shm::LaneHeader::* word) {
    return header == nullptr ? 0 : NativeAtomics::load<At::kObserve>(header->*word);
  };
  json["head"] = load(&shm::LaneHeader::head);
  json["floor"] = load(&shm::LaneHeader::floor);
  json["payload_bytes"] = load(&shm::LaneHeader::payload_bytes);
  json["exhausted"] = load(&shm::LaneHeader::exhausted);
  json["full"] = load(&shm::LaneHeader::full);
  return json;
}

nlohmann::json Reporter::subscription(const broker::SubscriptionReport& report, broker::TimeMs now) {
  nlohmann::json lanes = nlohmann::json::array();
  std::size_t bytes = 0;
  for (const broker::ReaderReport& row : report.readers) {
    nlohmann::json one = reader(row, now);
    bytes += dumped_bytes(one);
    if (bytes > kResultBytesMax / 4) break;
    lanes.push_back(std::move(one));
  }
  nlohmann::json json{{"handle", report.handle},     {"session", report.session},
                      {"pid", report.pid},           {"process", report.process},
                      {"delivery", report.delivery}, {"lanes_count", report.readers_count}};
  json["lanes"] = std::move(lanes);
  return json;
}

nlohmann::json Reporter::reader(const broker::ReaderReport& report, broker::TimeMs now) {
  nlohmann::json json{{"lane", report.lane}, {"cursor", nullptr}, {"lag", nullptr},    {"missed", 0},
                      {"taken", 0},          {"pins", 0},         {"pinned_bytes", 0}, {"oldest_pin_ms", nullptr}};
  const shm::LaneHeader* lane = segments_.lane(report.lane_segment);
  const shm::ReaderRecord* record = segments_.record(report.records, report.record);
  if (lane == nullptr || record == nullptr) return json;
  const std::uint64_t cursor = NativeAtomics::load<At::kObserve>(record->cursor);
  const std::uint64_t joined = NativeAtomics::load<At::kObserve>(record->joined);
  const std::uint64_t missed = NativeAtomics::load<At::kObserve>(record->missed);
  const std::uint64_t head = NativeAtomics::load<At::kObserve>(lane->head);
  json["missed"] = missed;
  if (cursor != shm::kCursorNone) {
    json["cursor"] = cursor;
    json["lag"] = cursor < head ? head - cursor : 0;
    if (cursor >= joined && cursor - joined >= missed) json["taken"] = cursor - joined - missed;
  }
  const auto& before = pinned_since_[{report.records, report.record}];
  std::map<std::uint32_t, broker::TimeMs> pinned;
  for (std::uint32_t chunk = 0; chunk < report.chunks_max; ++chunk) {
    if (NativeAtomics::load<At::kObserve>(record->pins[chunk]) == 0) continue;
    const auto seen = before.find(chunk);
    pinned.emplace(chunk, seen == before.end() ? now : seen->second);
  }
  json["pins"] = pinned.size();
  if (!pinned.empty()) {
    const auto oldest = std::min_element(pinned.begin(), pinned.end(),
                                         [](const auto& a, const auto& b) { return a.second < b.second; });
    json["oldest_pin_ms"] = now - oldest->second;
    json["pinned_bytes"] = pinned_bytes(report, *lane, pinned);
    pinned_since_[{report.records, report.record}] = std::move(pinned);
  } else {
    pinned_since_.erase({report.records, report.record});
  }
  return json;
}

// The payload of what is pinned, as far as the ring still says. The newest slot that names a chunk counts.
std::uint64_t Reporter::pinned_bytes(const broker::ReaderReport& report, const shm::LaneHeader& lane,
                                     const std::map<std::uint32_t, broker::TimeMs>& pinned) {
  const auto memory = segments_.map_ring(report.lane_segment, report.ring);
  if (memory.get_address() == nullptr) return 0;
  const auto* ring = static_cast<const shm::Slot*>(memory.get_address());
  const std::uint64_t head = NativeAtomics::load<At::kObserve>(lane.head);
  const std::uint64_t count = std::min({head, std::uint64_t{report.ring}, kSlotsSearchedMax});
  std::map<std::uint32_t, std::uint64_t> bytes;
  for (std::uint64_t i = 1; i <= count && bytes.size() < pinned.size(); ++i) {
    const shm::Slot& slot = ring[(head - i) & (report.ring - 1)];
    const std::uint64_t size = NativeAtomics::load<At::kObserve>(slot.size);
    if ((size & shm::kFlagInline) != 0) continue;
    const std::uint64_t chunk = NativeAtomics::load<At::kObserve>(slot.words[0]);
    if (chunk >= report.chunks_max || !pinned.contains(static_cast<std::uint32_t>(chunk))) continue;
    bytes.emplace(static_cast<std::uint32_t>(chunk), size & shm::kSizeMask);
  }
  std::uint64_t sum = 0;
  for (const auto& [chunk, each] : bytes) sum += each;
  return sum;
}

nlohmann::json Reporter::session(const broker::SessionReport& report, broker::TimeMs now) {
  nlohmann::json json{{"session", report.facts.id},
                      {"pid", report.facts.pid},
                      {"uid", report.facts.uid},
                      {"gid", report.facts.gid},
                      {"name", report.facts.name},
                      {"exe", report.facts.exe},
                      {"age_ms", now - report.facts.created_ms},
                      {"connected", report.connected},
                      {"publishers", report.publishers},
                      {"subscribers", report.subscribers},
                      {"bytes", report.bytes},
                      {"quota_bytes_max", report.quota_bytes_max}};
  if (control::kNext) json["library"] = report.facts.library;
  return json;
}

nlohmann::json Reporter::segment(const broker::SegmentReport& report, broker::TimeMs now) {
  nlohmann::json json{{"segment", report.facts.id},
                      {"kind", kind_name(report.facts.kind)},
                      {"bytes", report.facts.bytes},
                      {"backing", report.facts.sealed ? "sealed" : "named"},
                      {"session", report.facts.session},
                      {"pid", report.pid},
                      {"process", report.process},
                      {"topic", nullptr},
                      {"age_ms", now - report.facts.created_ms}};
  const std::string& name = segments_.name(report.facts.id);
  json["name"] = name.empty() ? nlohmann::json(nullptr) : nlohmann::json("/" + name);
  if (!report.topic.empty()) json["topic"] = report.topic;
  return json;
}

}  // namespace holdfast::daemon
