// SPDX-License-Identifier: MIT
//
// What tools ask for: lists in pages, and sums. Facts only; the shell adds what is in shared memory.
#include <algorithm>
#include <charconv>

#include "daemon/broker/state.hpp"

namespace holdfast::broker {

namespace {

const char* name_of(const Reader& reader) {
  if (reader.facts.turned) return "turned";
  return reader.facts.lossless ? "lossless" : "drop_oldest";
}

// `after` of lists that go by number.
std::uint64_t after_number(Params& params) {
  const std::string text = params.text("after", kTopicNameBytesMax).value_or("0");
  std::uint64_t after = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), after);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
    params.refuse("after", "must be the `next` of the page before");
  return after;
}

std::uint64_t page_limit(Params& params) { return params.number("limit", 1, kPageMax).value_or(kPageDefault); }

}  // namespace

void State::ping(Call call, Params& params) {
  params.finish();
  if (params.ok()) actions_.emplace_back(ReplyReport{call.connection, call.id, Ping{}});
}

void State::stats(Call call, Params& params) {
  params.finish();
  if (!params.ok()) return;
  Stats stats{};
  stats.sessions = tables_.sessions.size();
  stats.topics = tables_.topics.size();
  stats.lanes = tables_.lanes.size();
  stats.publishers = tables_.publishers.size();
  stats.subscribers = tables_.subscribers.size();
  stats.segments = tables_.segments.size();
  for (const auto& [id, segment] : tables_.segments) stats.segment_bytes += segment.bytes;
  stats.quota_bytes_max = setup_.session_bytes_max;
  stats.connections_max = setup_.connections_max;
  stats.connections_per_uid = setup_.connections_per_uid;
  stats.sessions_max = setup_.sessions_max;
  for (const auto& [id, lane] : tables_.lanes) {
    stats.lane_segments.push_back(lane.facts.segment);
    for (const auto& [handle, reader] : lane.readers)
      stats.readers.push_back({tables_.sessions.at(reader.session).facts.records, reader.facts.record});
  }
  actions_.emplace_back(ReplyReport{call.connection, call.id, std::move(stats)});
}

void State::topics(Call call, Params& params) {
  const std::string after = params.text("after", kTopicNameBytesMax).value_or("");
  const std::uint64_t limit = page_limit(params);
  const auto name = params.text("name", kTopicNameBytesMax);
  params.finish();
  if (!params.ok()) return;
  Topics list{{}, false};
  auto at = name ? tables_.topic_ids.find(*name) : tables_.topic_ids.upper_bound(after);
  for (; at != tables_.topic_ids.end() && list.rows.size() < limit; ++at) {
    list.rows.push_back(report_topic(tables_.topics.at(at->second)));
    if (name) break;
  }
  list.more = !name && at != tables_.topic_ids.end();
  actions_.emplace_back(ReplyReport{call.connection, call.id, std::move(list)});
}

TopicReport State::report_topic(const Topic& topic) const {
  TopicReport report{topic.facts, topic.publishers.size(), topic.subscribers.size(), {}, topic.lanes.size(),
                     {},          topic.subscribers.size()};
  for (const LaneId id : topic.lanes) {
    if (report.lanes.size() == kListedPerTopic) break;
    const Lane& lane = tables_.lanes.at(id);
    const SegmentFacts& segment = tables_.segments.at(lane.facts.segment);
    report.lanes.push_back({lane.facts, segment.bytes, segment.sealed, lane.readers.size()});
  }
  for (const HandleId handle : topic.subscribers) {
    if (report.subscriptions.size() == kListedPerTopic) break;
    report.subscriptions.push_back(report_subscription(topic, tables_.subscribers.at(handle)));
  }
  return report;
}

SubscriptionReport State::report_subscription(const Topic& topic, const Subscriber& subscriber) const {
  const Session& session = tables_.sessions.at(subscriber.facts.session);
  SubscriptionReport report{subscriber.facts.id,
                            session.facts.id,
                            session.facts.pid,
                            session.facts.name,
                            subscriber.facts.delivery == Delivery::kLossless ? "lossless" : "drop_oldest",
                            {},
                            subscriber.lanes.size()};
  for (const LaneId id : subscriber.lanes) {
    const Lane& lane = tables_.lanes.at(id);
    const Reader& reader = lane.readers.at(subscriber.facts.id);
    if (reader.facts.turned) report.delivery = name_of(reader);
    if (report.readers.size() == kListedPerTopic) continue;
    report.readers.push_back({id, lane.facts.segment, session.facts.records, reader.facts.record,
                              topic.facts.options.ring, topic.facts.options.chunks_max});
  }
  return report;
}

void State::sessions(Call call, Params& params) {
  const std::uint64_t after = after_number(params);
  const std::uint64_t limit = page_limit(params);
  params.finish();
  if (!params.ok()) return;
  Sessions list{{}, false};
  auto at = after > UINT32_MAX ? tables_.sessions.end() : tables_.sessions.upper_bound(static_cast<SessionId>(after));
  for (; at != tables_.sessions.end() && list.rows.size() < limit; ++at) {
    const Session& session = at->second;
    list.rows.push_back({session.facts, session.connection != 0, session.publishers.size(), session.subscribers.size(),
                         used_bytes(session, nullptr), setup_.session_bytes_max});
  }
  list.more = at != tables_.sessions.end();
  actions_.emplace_back(ReplyReport{call.connection, call.id, std::move(list)});
}

void State::segments(Call call, Params& params) {
  const std::uint64_t after = after_number(params);
  const std::uint64_t limit = page_limit(params);
  params.finish();
  if (!params.ok()) return;
  SegmentList list{{}, false};
  auto at = tables_.segments.upper_bound(after);
  for (; at != tables_.segments.end() && list.rows.size() < limit; ++at) {
    SegmentReport report{at->second, 0, "", ""};
    if (const auto session = tables_.sessions.find(at->second.session); session != tables_.sessions.end()) {
      report.pid = session->second.facts.pid;
      report.process = session->second.facts.name;
    }
    if (const auto lane = tables_.lanes.find(at->second.lane); lane != tables_.lanes.end()) {
      report.pid = lane->second.facts.pid;
      report.process = lane->second.facts.process;
      report.topic = tables_.topics.at(lane->second.facts.topic).facts.name;
    }
    list.rows.push_back(std::move(report));
  }
  list.more = at != tables_.segments.end();
  actions_.emplace_back(ReplyReport{call.connection, call.id, std::move(list)});
}

}  // namespace holdfast::broker
