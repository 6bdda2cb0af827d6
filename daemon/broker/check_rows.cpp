// SPDX-License-Identifier: MIT
//
// Are the rows of a registry ones that a broker could have written? They come from a file, so every number in them is
// looked at before the state machine builds on it.
#include <map>
#include <set>
#include <string>

#include "daemon/broker/limits.hpp"
#include "daemon/broker/names.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

namespace {

// The first thing that is wrong, in words.
struct Wrong {
  std::string text;
};

void need(bool holds, const char* table, std::uint64_t id, const char* what) {
  if (!holds) throw Wrong{std::string(table) + " " + std::to_string(id) + ": " + what};
}

class Checker {
 public:
  explicit Checker(const RegistryRows& rows) : rows_(rows) {}

  void run() {
    for (const SessionFacts& facts : rows_.sessions) index(sessions_, facts.id, facts, "session");
    for (const SegmentFacts& facts : rows_.segments) index(segments_, facts.id, facts, "segment");
    for (const TopicFacts& facts : rows_.topics) index(topics_, facts.id, facts, "topic");
    for (const LaneFacts& facts : rows_.lanes) index(lanes_, facts.id, facts, "lane");
    for (const HandleFacts& facts : rows_.handles) index(handles_, facts.id, facts, "handle");
    segments();
    sessions();
    topics();
    lanes();
    handles();
    readers();
  }

 private:
  template <class Id, class Facts>
  static void index(std::map<Id, const Facts*>& map, Id id, const Facts& facts, const char* table) {
    need(id != 0, table, id, "has no id");
    need(map.emplace(id, &facts).second, table, id, "is there twice");
  }

  template <class Map, class Id>
  static typename Map::mapped_type find(const Map& map, Id id) {
    const auto at = map.find(id);
    return at == map.end() ? nullptr : at->second;
  }

  void segments() {
    for (const SegmentFacts& facts : rows_.segments) {
      const auto ok = [&](bool holds, const char* what) { need(holds, "segment", facts.id, what); };
      ok(facts.bytes >= shm::kPage && facts.bytes % shm::kPage == 0, "is not made of whole pages");
      ok(facts.reserve_bytes >= facts.bytes && facts.reserve_bytes % shm::kPage == 0 &&
             facts.reserve_bytes <= kLaneBytesMax,
         "reserves too little or too much");
      switch (facts.kind) {
        case shm::SegmentKind::kRoster:
          ok(roster_ == nullptr && facts.session == 0 && !facts.sealed, "is a second roster, or somebody's");
          ok(facts.reserve_bytes == shm::kRosterReserve, "is no roster's size");
          roster_ = &facts;
          break;
        case shm::SegmentKind::kSession:
        case shm::SegmentKind::kBells: {
          const bool records = facts.kind == shm::SegmentKind::kSession;
          const SessionFacts* owner = find(sessions_, facts.session);
          ok(owner != nullptr && (records ? owner->records : owner->bells) == facts.id, "belongs to no session");
          ok(facts.reserve_bytes == (records ? kSessionReserve : kBellsReserve) &&
                 facts.bytes >= (records ? kSessionBytesFirst : kBellsBytesFirst),
             "has another size than such segments have");
          break;
        }
        case shm::SegmentKind::kLane: {
          const LaneFacts* lane = find(lanes_, facts.lane);
          ok(lane != nullptr && lane->segment == facts.id && lane->session == facts.session, "belongs to no lane");
          break;
        }
        default:
          ok(false, "is of no known kind");
      }
    }
    need(roster_ != nullptr, "registry", 0, "there is no roster");
    blocks_ = RangeAllocator(sizeof(shm::RosterHeader), roster_->bytes, sizeof(shm::RosterBlock));
  }

  void sessions() {
    for (const SessionFacts& facts : rows_.sessions) {
      const auto ok = [&](bool holds, const char* what) { need(holds, "session", facts.id, what); };
      ok(facts.token_hash.size() == 32, "has no token");
      ok(facts.name.size() <= kProcessNameBytesMax && facts.exe.size() <= kExecutableBytesMax, "has too long a name");
      ok(facts.library.size() <= kLibraryBytesMax, "has too long a library version");
      const SegmentFacts* records = find(segments_, facts.records);
      const SegmentFacts* bells = find(segments_, facts.bells);
      ok(records != nullptr && records->kind == shm::SegmentKind::kSession && records->session == facts.id,
         "has no records");
      ok(bells != nullptr && bells->kind == shm::SegmentKind::kBells && bells->session == facts.id, "has no bells");
      records_.emplace(facts.id, RangeAllocator(shm::kPage, records->bytes, shm::kRecordAlign));
      boards_.emplace(facts.id, RangeAllocator(shm::kBoardsOffset, bells->bytes, sizeof(shm::Board)));
    }
  }

  void topics() {
    std::set<std::string> names;
    for (const TopicFacts& facts : rows_.topics) {
      const auto ok = [&](bool holds, const char* what) { need(holds, "topic", facts.id, what); };
      const TopicOptions& options = facts.options;
      ok(is_topic_name(facts.name) && facts.name.size() <= kTopicNameBytesMax, "has no good name");
      ok(names.insert(facts.name).second, "has the name of another");
      ok(blocks_.take(facts.block, sizeof(shm::RosterBlock)), "has a block that is not free");
      ok(shm::is_power_of_two(options.ring) && options.ring >= shm::kRingSlotsMin && options.ring <= shm::kRingSlotsMax,
         "has no possible ring");
      ok(options.chunks_max >= 64 && options.chunks_max % 64 == 0 && options.chunks_max <= shm::kChunksMax,
         "has no possible number of chunks");
      ok(options.depth <= options.ring / 4 * 3, "has no possible depth");
      ok(options.clock <= Clock::kExact && options.backing <= Backing::kSealed, "has no known clock or backing");
      ok(options.linger_ms >= -1 && options.linger_ms <= kTimeoutMsMax && options.stall_timeout_ms >= -1 &&
             options.stall_timeout_ms <= kTimeoutMsMax,
         "has no possible times");
      ok(facts.type.name.size() <= kTypeNameBytesMax && facts.type.hash.size() <= 16, "has too long a type");
    }
  }

  void lanes() {
    std::set<SegmentId> segments;
    for (const LaneFacts& facts : rows_.lanes) {
      const auto ok = [&](bool holds, const char* what) { need(holds, "lane", facts.id, what); };
      const TopicFacts* topic = find(topics_, facts.topic);
      const SegmentFacts* segment = find(segments_, facts.segment);
      const SessionFacts* session = find(sessions_, facts.session);
      ok(topic != nullptr, "has no topic");
      ok(segment != nullptr && segment->kind == shm::SegmentKind::kLane && segment->lane == facts.id &&
             segments.insert(facts.segment).second,
         "has no segment");
      ok(segment->bytes >= shm::chunks_offset(topic->options.ring) && segment->reserve_bytes == facts.bytes_max,
         "has a segment of another size");
      ok(facts.process.size() <= kProcessNameBytesMax, "has too long a name");
      ok(!facts.blocks.empty() && facts.blocks.size() <= shm::kReadersMax / shm::kRosterEntries + 1,
         "has no possible number of blocks");
      for (const std::uint64_t block : facts.blocks)
        ok(blocks_.take(block, sizeof(shm::RosterBlock)), "has a block that is not free");
      places_[facts.id].resize(facts.blocks.size() * shm::kRosterEntries);
      if (session != nullptr)
        ok(boards_.at(facts.session).take(facts.board, sizeof(shm::Board)), "has a board that is not free");
      if (facts.state == shm::LaneState::kOpen) {
        const HandleFacts* publisher = find(handles_, facts.publisher);
        ok(session != nullptr && publisher != nullptr && publisher->role == Role::kPublisher &&
               publisher->session == facts.session && publisher->topic == facts.topic &&
               open_.insert(facts.publisher).second,
           "is open without a publisher");
      } else {
        ok(facts.state == shm::LaneState::kFinished || facts.state == shm::LaneState::kAborted, "is in no known state");
        ok(facts.shown, "has ended before anybody saw it");
      }
    }
  }

  void handles() {
    std::set<std::pair<SessionId, std::uint64_t>> keys;
    for (const HandleFacts& facts : rows_.handles) {
      const auto ok = [&](bool holds, const char* what) { need(holds, "handle", facts.id, what); };
      ok(sessions_.contains(facts.session) && topics_.contains(facts.topic), "has no session or topic");
      ok(facts.role == Role::kPublisher || facts.role == Role::kSubscriber, "has no known role");
      ok((facts.role == Role::kPublisher) == open_.contains(facts.id), "is a publisher without a lane");
      ok(facts.delivery <= Delivery::kLossless && facts.start <= StartAt::kOldest, "has no known delivery or start");
      ok(facts.key == 0 || keys.emplace(facts.session, facts.key).second, "has the key of another");
    }
  }

  void readers() {
    std::set<std::pair<HandleId, LaneId>> seen;
    for (const ReaderFacts& facts : rows_.readers) {
      const auto ok = [&](bool holds, const char* what) { need(holds, "reader of lane", facts.lane, what); };
      const HandleFacts* handle = find(handles_, facts.handle);
      const LaneFacts* lane = find(lanes_, facts.lane);
      ok(handle != nullptr && handle->role == Role::kSubscriber, "is no subscriber's");
      ok(lane != nullptr && lane->topic == handle->topic, "reads another topic");
      ok(seen.emplace(facts.handle, facts.lane).second, "is there twice");
      auto& places = places_.at(facts.lane);
      ok(facts.entry < places.size() && !places[facts.entry], "has a place that is not free");
      places[facts.entry] = true;
      const std::uint64_t bytes = shm::record_bytes(topics_.at(lane->topic)->options.chunks_max);
      ok(records_.at(handle->session).take(facts.record, bytes), "has a record that is not free");
    }
  }

  const RegistryRows& rows_;
  std::map<SessionId, const SessionFacts*> sessions_;
  std::map<SegmentId, const SegmentFacts*> segments_;
  std::map<TopicId, const TopicFacts*> topics_;
  std::map<LaneId, const LaneFacts*> lanes_;
  std::map<HandleId, const HandleFacts*> handles_;
  std::map<SessionId, RangeAllocator> records_;
  std::map<SessionId, RangeAllocator> boards_;
  std::map<LaneId, std::vector<bool>> places_;
  std::set<HandleId> open_;  // publishers of open lanes
  const SegmentFacts* roster_ = nullptr;
  RangeAllocator blocks_{0, 0, 1};
};

}  // namespace

std::string check_rows(const RegistryRows& rows) {
  try {
    Checker(rows).run();
  } catch (const Wrong& wrong) {
    return wrong.text;
  }
  return "";
}

}  // namespace holdfast::broker
