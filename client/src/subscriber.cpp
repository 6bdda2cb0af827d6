// SPDX-License-Identifier: MIT
#include "client/src/subscriber.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/src/failure.hpp"
#include "client/src/json_fields.hpp"
#include "client/src/options.hpp"
#include "client/src/sound.hpp"
#include "proto/shm/bell.hpp"
#include "proto/shm/roster.hpp"

namespace holdfast::client {

using shm::At;

// ---- Subscription -------------------------------------------------------------------------------------------------

Subscription::~Subscription() {
  if (forks_ == g_fork_count) session_->close_handle(handle_);
}

// ---- LaneView -----------------------------------------------------------------------------------------------------

int LaneView::attach(const std::shared_ptr<Subscription>& subscription, const nlohmann::json& described,
                     const nlohmann::json& topic, int fd, int delivery, int start, const Session::Patience& patience,
                     LaneView** lane) {
  Session& session = subscription->session();
  const auto ring = static_cast<std::uint32_t>(number(topic, "ring"));
  const auto chunks = static_cast<std::uint32_t>(number(topic, "chunks_max"));
  const std::uint64_t record = number(described, "record");
  const std::uint64_t bytes = number(described, "bytes");
  const shm::RosterBlock* block = shm::roster_block<Atomics>(session.roster(), number(described, "block"));
  if (!shm::is_power_of_two(ring) || ring > shm::kRingSlotsMax || chunks == 0 || chunks > shm::kChunksMax ||
      chunks % 64 != 0 || block == nullptr || bytes < shm::chunks_offset(ring) || record < shm::kPage ||
      record % shm::kRecordAlign != 0 || record + shm::record_bytes(chunks) > session.records().reserve_bytes())
    return fail(HF_E_PROTOCOL, "the broker's description of a lane makes no sense");
  const auto entry_index = static_cast<std::uint32_t>(number(described, "entry"));
  const std::uint64_t* entry = shm::roster_entry<Atomics>(session.roster(), *block, entry_index);
  if (entry == nullptr) return fail(HF_E_PROTOCOL, "the broker names a place that the roster does not have");

  auto made = std::unique_ptr<LaneView, void (*)(LaneView*)>(new LaneView, [](LaneView* view) { delete view; });
  const int mapped = made->mapping_.map(fd, shm::SegmentKind::kLane, number(described, "segment"), bytes,
                                        number(described, "reserve_bytes"), false);
  if (mapped != HF_OK) return mapped;
  made->id_ = number(described, "lane");
  made->publisher_ = static_cast<std::uint32_t>(number(described, "publisher"));
  made->entry_index_ = entry_index;
  made->held_max_ = chunks / 4 * 3;
  made->uses_.assign(chunks, 0);
  made->record_ = &session.records().as<shm::ReaderRecord>(record);
  made->reader_.emplace(shm::LaneReaderMemory{
      .header = &made->mapping_.as<const shm::LaneHeader>(),
      .ring = &made->mapping_.as<const shm::Slot>(shm::kRingOffset),
      .ring_slots = ring,
      .chunks_max = chunks,
      .record = made->record_,
      .block = block,
      .entry = entry,
      .uses = made->uses_,
      .lossless = delivery == HF_LOSSLESS,
      .full_fences = session.full_fences(),
  });
  // The publisher's bells: gone with it, then nobody waits or sleeps there any more.
  std::vector<std::shared_ptr<Peer>> peers;
  const std::uint32_t publisher[] = {made->publisher_};
  const int known = session.peers(publisher, peers, patience);
  if (known == HF_E_NO_BROKER) return known;  // the broker has gone, or does not answer: once more when it does
  if (known == HF_OK && peers.front() != nullptr) {
    const std::uint64_t board = number(described, "board");
    made->publisher_peer_ = std::move(peers.front());
    const Mapping& bells = *made->publisher_peer_->bells_mapping();
    if (board >= shm::kBoardsOffset && board % sizeof(shm::Board) == 0 &&
        board + sizeof(shm::Board) <= bells.reserve_bytes())
      made->board_ = &bells.as<shm::Board>(board);
  }
  made->subscription_ = subscription;
  made->populate();
  if (flag(described, "fresh"))
    made->reader_->join_fresh();
  else
    made->reader_->join(start == HF_START_LATEST   ? shm::Start::kLatest
                        : start == HF_START_OLDEST ? shm::Start::kOldest
                                                   : shm::Start::kNext);
  // It may wait for subscribers.
  made->made_room();
  *lane = made.release();
  return HF_OK;
}

LaneView::~LaneView() {
  if (subscription_ == nullptr || inherited() || subscription_->closing()) return;
  subscription_->session().tell_surely("subscriber.release", {{"handle", subscription_->handle()}, {"lane", id_}});
}

void LaneView::let_go() {
  if (!inherited()) {
    reader_->leave();
    made_room();
  }
  if (views_.end()) delete this;
}

void LaneView::populate() {
  mapping_.populate(populated_, reader_->valid_bytes());
  populated_ = reader_->valid_bytes();
}

void LaneView::ring_writer(std::uint64_t waits) {
  if (publisher_peer_ != nullptr) subscription_->session().ring(*publisher_peer_, waits - 1);
}

}  // namespace holdfast::client

using namespace holdfast::client;
using holdfast::Descriptor;
namespace shm = holdfast::shm;
using shm::At;

namespace {
constexpr std::uint32_t kHungUp = 1;  // the control socket, among the events of fd()
// Eventfds of earlier brokers that a publisher may still ring: it learns of a new one when it rings the next time.
constexpr int kEventsBeforeMax = 4;
// Without a broker a publisher that never rang an eventfd cannot get its descriptor: then the loop looks this often.
constexpr std::int64_t kLookAgainNs = 100'000'000;
// And this often with one, as every sleep is bounded: a publisher does not wait for a busy broker to name the eventfd.
constexpr std::int64_t kLookAgainMostNs = 1'000'000'000;

epoll_event hang_up_event() {
  epoll_event event{};
  event.events = EPOLLRDHUP | EPOLLET;
  event.data.u32 = kHungUp;
  return event;
}

// Who spins on the only CPU keeps the publisher from it. A thread that is bound to one of several is another matter:
// that is how people spin on purpose.
bool one_cpu() {
  static const bool one = ::sysconf(_SC_NPROCESSORS_ONLN) == 1;  // a file of the kernel: read once per process
  return one;
}
}  // namespace

// ---- opening ------------------------------------------------------------------------------------------------------

int hf_subscriber::open(const std::shared_ptr<Session>& session, const char* topic,
                        const hf_subscriber_options& options, hf_subscriber** subscriber) {
  nlohmann::json params{{"topic", topic}};
  if (const int result = encode_options(options, params); result != HF_OK) return result;
  Reply reply;
  std::shared_ptr<HeldHandle> handle;
  if (const int result = session->open_handle("subscriber.open", std::move(params), reply, handle); result != HF_OK)
    return result;
  auto* opened = new hf_subscriber;
  opened->subscription_ = std::make_shared<Subscription>(session, handle->id);
  opened->topic_ = topic;
  opened->delivery_ = options.delivery;
  opened->start_ = options.start;
  opened->spin_ns_ = one_cpu() ? 0 : options.spin_ns;
  opened->topic_block_ = shm::roster_block<Atomics>(session->roster(), number(reply.result, "topic_block"));
  int result = opened->topic_block_ != nullptr ? opened->attach_listed(reply.result, reply.fds, Session::kAsRequest)
                                               : fail(HF_E_PROTOCOL, "the broker names a place outside its roster");
  // What was listed may be another broker's by now, which has yet to get the memory of those lanes back.
  if (result == HF_E_NO_BROKER || (result == HF_OK && flag(reply.result, "more")))
    result = opened->attach_lanes(Session::kAsRequest);
  if (result != HF_OK) {
    const std::string sentence = last_failure();
    opened->close(true);
    return fail(result, sentence);
  }
  *subscriber = opened;
  return HF_OK;
}

bool hf_subscriber::attach_due() const {
  return lanes_changed() && (attach_again_ns_ == 0 || monotonic_ns() >= attach_again_ns_);
}

// Lanes have come or ended, or a broker was restarted.
int hf_subscriber::attach_lanes(const Patience& patience) {
  const int result = ask_for_lanes(patience);
  // Also where nobody answers. What the answer counts as known was on the roster before it.
  see_ends();
  return result;
}

// A lane ends by itself, unless it is sealed and the broker that saw its publisher die is not the one that made it.
void hf_subscriber::see_ends() {
  for (LaneView* lane : lanes_) lane->reader().see_end();
}

bool hf_subscriber::changes_due() const { return attach_due() || (no_more_ != HF_OK && lanes_changed()); }

void hf_subscriber::see_changes() {
  if (attach_due()) {
    (void)attach_lanes(Session::kSoon);
  } else if (no_more_ != HF_OK) {
    changes_ = Atomics::load<At::kSleepTopic>(topic_block_->changes);
    see_ends();
  }
}

int hf_subscriber::list_lanes(const Patience& patience, Reply& reply) {
  const nlohmann::json params{{"handle", subscription_->handle()}, {"after", newest_lane_}};
  return patience.look ? session().request_soon("subscriber.lanes", params, reply, late_lanes_)
                       : session().request_within("subscriber.lanes", params, reply, patience);
}

int hf_subscriber::ask_for_lanes(const Patience& patience) {
  bool more = true;
  while (more) {
    Reply reply;
    int result = list_lanes(patience, reply);
    if (result == HF_E_NOT_FOUND || (result != HF_OK && session().lost())) {
      attach_no_more(result);
      return result;
    }
    if (result == HF_OK) result = attach_listed(reply.result, reply.fds, patience);
    if (result != HF_OK) {
      attach_again_ns_ = monotonic_ns() + back_off_.next_ns();
      return result;
    }
    more = flag(reply.result, "more");
  }
  attach_again_ns_ = 0;
  back_off_.reset();
  return HF_OK;
}

// The broker does not know the session or this handle any more. What is attached goes on, and then it is over.
void hf_subscriber::attach_no_more(int why) {
  no_more_ = why == HF_E_NOT_FOUND ? HF_E_CLOSED : why;
  no_more_sentence_ = "the subscriber of topic " + topic_ + " gets no lane any more: " + last_failure();
  attach_again_ns_ = INT64_MAX;
  changes_ = Atomics::load<At::kSleepTopic>(topic_block_->changes);
}

int hf_subscriber::attach_listed(const nlohmann::json& result, std::vector<Descriptor>& fds, const Patience& patience) {
  // Settled by who opens first with options: perhaps a publisher that came after us.
  if (const auto topic = result.find("topic"); topic != result.end()) topic_options_ = *topic;
  const nlohmann::json& listed = list(result, "fds");
  for (const nlohmann::json& described : list(result, "lanes")) {
    const std::uint64_t id = number(described, "lane");
    if (id <= newest_lane_) continue;
    int fd = -1;
    for (std::size_t i = 0; i < listed.size() && i < fds.size(); ++i)
      if (number(listed[i], "lane") == id) fd = fds[i].get();
    LaneView* lane = nullptr;
    const int attached =
        LaneView::attach(subscription_, described, topic_options_, fd, delivery_, start_, patience, &lane);
    if (attached != HF_OK) return attached;
    lanes_.push_back(lane);
    note_only();
    newest_lane_ = id;
  }
  changes_ = number(result, "changes");
  return HF_OK;
}

// ---- taking -------------------------------------------------------------------------------------------------------

int hf_subscriber::take(hf_view& view) {
  view.holder = nullptr;
  if (unusable()) return why_unusable();
  int result = take_any(view);
  while (result == HF_EMPTY && epoll_ && arm_event()) result = take_any(view);
  return result;
}

int hf_subscriber::take_any(hf_view& view) {
  if (lanes_changed()) [[unlikely]]
    see_changes();
  const LaneView* limited = nullptr;
  for (std::size_t tried = lanes_.size(); tried > 0; --tried) {
    if (next_ >= lanes_.size()) next_ = 0;
    LaneView& lane = *lanes_[next_];
    if (lane.held() >= lane.held_max() && lane.reader().next_pins()) [[unlikely]] {
      limited = &lane;
      ++next_;
      continue;
    }
    shm::Taken taken;
    const shm::Take result = lane.reader().take(taken);
    if (result == shm::Take::kSample) [[likely]] {
      ++next_;
      return deliver(lane, taken, view);
    }
    if (result == shm::Take::kEmpty) {
      ++next_;
      continue;
    }
    return not_taken(result, lane.reader().told(), view);
  }
  // Only if no other lane has anything.
  if (limited != nullptr) return too_many_views(*limited);
  if (no_more_ != HF_OK && lanes_.empty()) [[unlikely]]
    return fail(no_more_, no_more_sentence_);
  return HF_EMPTY;
}

int hf_subscriber::deliver(LaneView& lane, const shm::Taken& taken, hf_view& view) {
  fill_view(lane, taken, view);
  if (lane.reader().lossless()) lane.made_room();
  return HF_OK;
}

// What the lane at next_ gave instead of a sample.
int hf_subscriber::not_taken(shm::Take result, shm::Told told, hf_view& view) {
  view.publisher = lanes_[next_]->publisher();
  view.lane = lanes_[next_]->lane_number();
  // Row 14: a take that came to nothing has cleared its pin again.
  lanes_[next_]->made_room();
  if (result == shm::Take::kFinished || result == shm::Take::kAborted)
    drop_lane(next_);
  else
    ++next_;
  return not_a_sample(result, told, view);
}

int hf_subscriber::not_a_sample(shm::Take result, const shm::Told& told, hf_view& view) {
  view.position = told.position;
  view.missed = 0;
  view.turned = 0;
  switch (result) {
    case shm::Take::kLapped:
      view.missed = told.missed;
      view.turned = told.turned ? 1 : 0;
      return HF_LAPPED;
    case shm::Take::kFinished:
      return HF_FINISHED;
    case shm::Take::kAborted:
      return HF_ABORTED;
    case shm::Take::kSample:
    case shm::Take::kEmpty:
    case shm::Take::kCorrupt:
      break;
  }
  return fail(HF_E_CORRUPT, "topic " + topic_ + ": the publisher of session " + std::to_string(view.publisher) +
                                " wrote a slot that makes no sense, at position " + std::to_string(told.position) +
                                "; the sample is skipped");
}

int hf_subscriber::too_many_views(const LaneView& lane) const {
  return fail(HF_E_QUOTA, "topic " + topic_ + ": this subscriber holds " + std::to_string(lane.held()) +
                              " views of one lane, the limit is " + std::to_string(lane.held_max()) +
                              " (3/4 of its chunks_max); release some, or open the topic with a larger chunks_max");
}

int hf_subscriber::take_batch(hf_view* views, std::size_t count, std::size_t& taken) {
  taken = 0;
  constexpr std::size_t kBatchMax = 64;
  if (count == 0) return fail(HF_E_INVALID, "a batch of 0 views");
  if (unusable()) [[unlikely]]
    return why_unusable();
  for (std::size_t tried = lanes_.size(); tried > 0 && !lanes_changed(); --tried) {
    if (next_ >= lanes_.size()) next_ = 0;
    LaneView& lane = *lanes_[next_];
    const std::uint64_t room = lane.held_max() - std::min(lane.held_max(), lane.held());
    if (room < 2) break;
    shm::Taken samples[kBatchMax];
    std::size_t found = 0;
    const std::size_t most = std::min<std::size_t>({count, kBatchMax, room});
    const shm::Take result = lane.reader().take_batch(std::span(samples, most), found);
    if (result == shm::Take::kEmpty) {
      ++next_;
      continue;
    }
    views[0].holder = nullptr;
    if (result != shm::Take::kSample) return not_taken(result, lane.reader().told(), views[0]);
    ++next_;
    for (std::size_t i = 0; i < found; ++i) fill_view(lane, samples[i], views[i]);
    if (lane.reader().lossless()) lane.made_room();
    taken = found;
    return HF_OK;
  }
  const int result = take(views[0]);
  taken = result == HF_OK ? 1 : 0;
  return result;
}

// The lane has ended: views of it stay.
void hf_subscriber::drop_lane(std::size_t index) {
  LaneView* lane = lanes_[index];
  lanes_.erase(lanes_.begin() + static_cast<std::ptrdiff_t>(index));
  note_only();
  lane->let_go();
}

// ---- waiting ------------------------------------------------------------------------------------------------------

void hf_subscriber::announce(std::uint32_t bell) {
  for (LaneView* lane : lanes_)
    if (lane->board() != nullptr)
      shm::announce_sleep<Atomics>(*lane->board(), lane->record_bell(), lane->entry_index(), bell);
}

bool hf_subscriber::ready() const {
  if (no_more_ != HF_OK && lanes_.empty()) return true;
  return std::any_of(lanes_.begin(), lanes_.end(), [](LaneView* lane) { return lane->reader().ready(); });
}

std::int64_t hf_subscriber::sleep_ns(std::int64_t most_ns) const {
  if (!lanes_changed() || attach_again_ns_ == 0) return most_ns;
  return std::clamp<std::int64_t>(attach_again_ns_ - monotonic_ns(), 1, most_ns);
}

void hf_subscriber::look_for_broker() {
  see_ends();
  if (no_more_ != HF_OK) return;
  session().look_for_broker();
  if (!session().lost()) return;
  const KeptSentence kept;
  Reply reply;
  attach_no_more(session().request("ping", nlohmann::json::object(), reply));  // which says why
}

// One descriptor for ever: an epoll over an eventfd, which publishers ring, the control socket, so that a broker that
// went away wakes the loop once, and a timer, since a ring may be lost.
int hf_subscriber::fd() {
  if (unusable()) return why_unusable();
  if (epoll_) return epoll_.get();
  Session& own = session();
  if (const int leased = own.lease_bell(event_bell_); leased != HF_OK) return leased;
  event_resumed_ = own.resumed();
  Reply reply;
  int result = own.request("bell.open", {{"bell", event_bell_}}, reply);
  if (result == HF_OK && reply.fds.empty()) result = fail(HF_E_PROTOCOL, "the broker sent no eventfd");
  Descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (result == HF_OK && !epoll) result = fail_errno("epoll_create1");
  Descriptor look_again(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (result == HF_OK && !look_again) result = fail_errno("timerfd_create");
  if (result != HF_OK) {
    own.return_bell(event_bell_);
    return result;
  }
  event_ = std::move(reply.fds.front());
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event_.get(), &event);
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, look_again.get(), &event);
  look_again_ = std::move(look_again);
  epoll_event hang_up = hang_up_event();
  broker_gone_ = !own.watch_broker(epoll.get(), hang_up);
  Atomics::store<At::kTakeCounter>(own.bell(event_bell_).event, number(reply.result, "event", 1));
  epoll_ = std::move(epoll);
  note_only();
  arm_event();
  return epoll_.get();
}

// The broker has gone, or was resumed by another thread: once there is one, its connection is watched, and the bell gets
// an eventfd that it knows. What fails here is tried again, after kLookAgainNs.
void hf_subscriber::rejoin_event() {
  const KeptSentence kept;
  Session& own = session();
  look_for_broker();
  const std::uint32_t resumed = own.resumed();
  if (own.broker_away() || own.lost()) return;
  epoll_event hang_up = hang_up_event();
  if (!own.watch_broker(epoll_.get(), hang_up)) return;
  if (resumed != event_resumed_) {
    Reply reply;
    const nlohmann::json params{{"bell", event_bell_}};
    if (own.request_soon("bell.open", params, reply, late_event_) != HF_OK || reply.fds.empty()) return;
    events_before_.push_back(std::exchange(event_, std::move(reply.fds.front())));
    if (events_before_.size() > std::size_t{kEventsBeforeMax}) {
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, events_before_.front().get(), nullptr);
      events_before_.pop_front();
    }
    epoll_event event{};
    event.events = EPOLLIN;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, event_.get(), &event);
    Atomics::store<At::kTakeCounter>(own.bell(event_bell_).event, number(reply.result, "event", 1));
    event_resumed_ = resumed;
  }
  broker_gone_ = false;
}

// Before the caller sleeps on the descriptor. Returns true if there is something to take after all.
bool hf_subscriber::arm_event() {
  constexpr int kEventsMax = kEventsBeforeMax + 3;
  epoll_event events[kEventsMax];
  const int found =
      ::epoll_wait(epoll_.get(), events, kEventsMax, 0);  // takes the edge of a hang-up, which would stay readable
  for (int i = 0; i < found; ++i)
    if (events[i].data.u32 == kHungUp) broker_gone_ = true;
  if (session().broker_away()) broker_gone_ = true;  // a request has found out, and closed the socket with its edge
  if (broker_gone_ || session().resumed() != event_resumed_) [[unlikely]]
    rejoin_event();
  const std::int64_t sleep = sleep_ns(broker_gone_ ? kLookAgainNs : kLookAgainMostNs);
  const itimerspec next{{}, {sleep / 1'000'000'000, static_cast<long>(sleep % 1'000'000'000)}};
  ::timerfd_settime(look_again_.get(), 0, &next, nullptr);  // which also makes it unreadable
  shm::Bell& bell = session().bell(event_bell_);
  event_ticket_ = session().fresh_ticket();
  for (const Descriptor& before : events_before_) EventSound{before.get()}.drain(bell);
  shm::arm<Atomics, At::kSleepArm>(bell, event_ticket_, EventSound{event_.get()});
  announce(event_bell_);
  Atomics::heavy_fence<At::kSleepFence>();
  if (!ready() && !changes_due()) return false;
  shm::disarm<Atomics, At::kSleepDisarm>(bell, event_ticket_);
  return true;
}

// ---- the end ------------------------------------------------------------------------------------------------------

int hf_subscriber::why_unusable() const {
  if (forks_ != g_fork_count)
    return fail(HF_E_FORKED, "the subscriber of topic " + topic_ + " belongs to the parent process; open one here");
  return fail(HF_E_CLOSED, "the subscriber of topic " + topic_ + " is closed");
}

void hf_subscriber::close(bool handle_gone) {
  if (!closed_) {
    closed_ = true;
    if (epoll_ && forks_ == g_fork_count) {
      Atomics::store<At::kTakeCounter>(session().bell(event_bell_).event, std::uint64_t{0});
      session().return_bell(event_bell_);
    }
    subscription_->set_closing();
    for (LaneView* lane : lanes_) lane->let_go();
    lanes_.clear();
    note_only();
    subscription_.reset();
  }
  handle_gone_ = handle_gone_ || handle_gone;
  if (handle_gone_) delete this;
}
