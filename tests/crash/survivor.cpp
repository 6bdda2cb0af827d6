// SPDX-License-Identifier: MIT
#include "tests/crash/survivor.hpp"

#include <gtest/gtest.h>

namespace holdfast::crash {

using integration::kSoon;

namespace {

constexpr std::size_t kKept = 3;  // views of one survivor
constexpr std::size_t kBatch = 4;
constexpr std::size_t kWrongsMax = 20;
constexpr std::int64_t kSleepNs = 5'000'000'000;  // only a survivor that is told to give up waits for it

Subscriber open(Client& client, const std::string& topic, bool lossless) {
  SubscriberOptions options;
  options.lossless = lossless;
  return client.subscriber_or_throw(topic, options);
}

}  // namespace

Survivor::Survivor(const integration::PrivateBroker& broker, const std::string& topic, bool lossless)
    : lossless_(lossless),
      client_(broker.client(lossless ? "lossless survivor" : "drop-oldest survivor")),
      subscriber_(open(client_, topic, lossless)) {}

Survivor::~Survivor() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    quit_ = true;
    holds_ = false;
  }
  changed_.notify_all();
  thread_.join();
}

void Survivor::start() {
  thread_ = std::thread([this] { run(); });
}

void Survivor::quit_after(std::uint32_t session) {
  const std::lock_guard lock(mutex_);
  last_session_ = session;
}

void Survivor::quit_after_first() {
  const std::lock_guard lock(mutex_);
  first_is_last_ = true;
}

void Survivor::go() {
  const std::lock_guard lock(mutex_);
  // A lossless survivor gets every sample that tells it to hold, so each go has its hold, even if it comes first. One
  // that drops may not get it: then there is nothing to end.
  if (lossless_ || held_) ++goes_;
  changed_.notify_all();
}

void Survivor::never_hold() {
  const std::lock_guard lock(mutex_);
  holds_ = false;
  changed_.notify_all();
}

bool Survivor::wait_for(std::uint32_t session, std::uint64_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kSoon, [&] {
    const Tally& tally = tallies_[session];
    return tally.taken + tally.missed >= count;
  });
}

std::map<std::uint32_t, Survivor::Tally> Survivor::join() {
  {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kSoon, [&] { return ended_; })) {
      ADD_FAILURE() << (lossless_ ? "the lossless" : "the drop-oldest") << " survivor does not get to its end";
      quit_ = true;
      holds_ = false;
      changed_.notify_all();
    }
  }
  thread_.join();
  subscriber_.close();
  client_.close();
  for (const std::string& what : wrongs_)
    ADD_FAILURE() << (lossless_ ? "the lossless" : "the drop-oldest") << " survivor: " << what;
  return tallies_;
}

void Survivor::run() {
  while (step()) {
  }
  give_back(0);
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

// One take, single or batched in turn. False: the end.
bool Survivor::step() {
  hf_view views[kBatch]{};
  std::size_t taken = 0;
  int result = HF_EMPTY;
  batch_ = !batch_;
  if (batch_) {
    result = hf_take_batch(subscriber_.c(), views, kBatch, &taken);
  } else {
    result = hf_take(subscriber_.c(), &views[0]);
    taken = result == HF_OK ? 1 : 0;
  }
  for (std::size_t i = 0; i < taken; ++i) sample(views[i]);
  const std::uint32_t session = views[0].publisher;
  std::unique_lock lock(mutex_);
  switch (result) {
    case HF_OK:
      changed_.notify_all();
      return true;
    case HF_LAPPED:
      tallies_[session].missed += views[0].missed;
      changed_.notify_all();
      if (lossless_) wrongs_.push_back("was turned or lapped");
      return true;
    case HF_FINISHED:
      ++tallies_[session].finished;
      quit_ = quit_ || is_last(session);
      return true;
    case HF_ABORTED:
      ++tallies_[session].aborted;
      quit_ = quit_ || is_last(session);
      return true;
    case HF_EMPTY: {
      if (quit_) return false;
      lock.unlock();
      hf_subscriber* handle = subscriber_.c();
      (void)hf_wait(&handle, 1, kSleepNs, nullptr);
      return true;
    }
    default:
      wrongs_.push_back(std::string("take failed: ") + hf_result_name(result) + ": " + hf_last_error());
      return wrongs_.size() < kWrongsMax;
  }
}

void Survivor::sample(hf_view& view) {
  SampleHeader header{};
  if (!read_sample(hf_view_data(&view), view.bytes, header)) {
    wrong("torn: position " + std::to_string(view.position) + ", " + std::to_string(view.bytes) + " bytes");
  } else {
    std::uint64_t& next = next_[header.writer];
    if (header.position != view.position)
      wrong("the payload of position " + std::to_string(header.position) + " came as position " +
            std::to_string(view.position));
    if (lossless_ ? header.position != next : header.position < next)
      wrong("writer " + std::to_string(header.writer) + ": position " + std::to_string(header.position) +
            " came where " + std::to_string(next) + " was next");
    next = header.position + 1;
  }
  {
    const std::lock_guard lock(mutex_);
    ++tallies_[view.publisher].taken;
  }
  const bool told_to_hold = header.command == (lossless_ ? Command::kHoldLossless : Command::kHoldDropOldest);
  keep(view);
  if (told_to_hold) hold();
}

void Survivor::keep(const hf_view& view) {
  kept_.push_back(view);
  give_back(kKept);
}

// Gives the oldest views back until `keep` are left. What was whole must be whole still.
void Survivor::give_back(std::size_t keep) {
  while (kept_.size() > keep) {
    SampleHeader header{};
    if (!read_sample(hf_view_data(&kept_.front()), kept_.front().bytes, header))
      wrong("a view of position " + std::to_string(kept_.front().position) + " has changed while it was held");
    hf_view_release(&kept_.front());
    kept_.pop_front();
  }
}

void Survivor::hold() {
  std::unique_lock lock(mutex_);
  held_ = true;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !holds_ || goes_ > goes_used_; });
  held_ = false;
  ++goes_used_;
}

void Survivor::wrong(const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (wrongs_.size() < kWrongsMax) wrongs_.push_back(what);
}

}  // namespace holdfast::crash
