// SPDX-License-Identifier: MIT
#include "tests/crash/feed.hpp"

#include "tests/crash/sample.hpp"

namespace holdfast::crash {

using integration::kSoon;

namespace {

// One try. A publisher that waits looks at what it was asked for now and then.
constexpr std::int64_t kTryNs = 1'000'000'000;
constexpr std::uint64_t kEndless = std::uint64_t{1} << 40;

std::uint64_t bytes_of(Feed::Kind kind, std::uint64_t position) {
  constexpr std::uint64_t kMixed[] = {24, 40, 32, 5000, 27, 900, 70000, 30, 2000, 24};
  constexpr std::uint64_t kChunk[] = {900, 3000, 900, 5000};
  switch (kind) {
    case Feed::Kind::kInline:
      return kSampleBytesMin + position % 9;
    case Feed::Kind::kMixed:
      return kMixed[position % 10];
    case Feed::Kind::kChunk:
      return kChunk[position % 4];
  }
  return kSampleBytesMin;
}

}  // namespace

Feed::Feed(const integration::PrivateBroker& broker, const std::string& topic, const PublisherOptions& options,
           std::uint32_t writer)
    : client_(broker.client("feed")),
      publisher_(client_.publisher_or_throw(topic, options)),
      writer_(writer),
      thread_([this] { run(); }) {}

Feed::~Feed() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    asked_ = published_;
    changed_.notify_all();
  }
  thread_.join();
}

void Feed::add(std::uint64_t samples, Kind kind) {
  const std::lock_guard lock(mutex_);
  asked_ += samples;
  kind_ = kind;
  changed_.notify_all();
}

void Feed::fill() { add(kEndless, Kind::kInline); }

void Feed::stop() {
  const std::lock_guard lock(mutex_);
  asked_ = published_;
  changed_.notify_all();
}

bool Feed::wait_idle() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kSoon, [&] { return idle() || !failure_.empty(); }) && failure_.empty();
}

std::uint64_t Feed::published() {
  const std::lock_guard lock(mutex_);
  return published_;
}

std::string Feed::failure() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Feed::close() {
  publisher_.close();
  client_.close();
}

void Feed::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closing_ || published_ < asked_; });
    if (closing_) return;
    const Kind kind = kind_;
    const std::uint64_t position = published_;
    busy_ = true;
    lock.unlock();
    const int result = publish_one(kind, position);
    lock.lock();
    busy_ = false;
    if (result == HF_OK) {
      ++published_;
    } else if (result != HF_TIMEOUT) {
      failure_ = std::string(hf_result_name(result)) + ": " + hf_last_error();
      asked_ = published_;
    }
    changed_.notify_all();
  }
}

int Feed::publish_one(Kind kind, std::uint64_t position) {
  const std::uint64_t bytes = bytes_of(kind, position);
  hf_loan loan;
  const int loaned = hf_publisher_loan(publisher_.c(), bytes, 0, kTryNs, &loan);
  if (loaned != HF_OK) return loaned;
  write_sample(hf_loan_data(&loan), bytes, writer_, position);
  const int result = hf_loan_publish(&loan, kTryNs);
  if (result != HF_OK) hf_loan_drop(&loan);
  return result;
}

}  // namespace holdfast::crash
