// SPDX-License-Identifier: MIT
//
// A subscriber of the load: takes all, keeps the last few views and looks at them again before it gives them back.
#include <deque>

#include <poll.h>

#include "tests/crash/sample.hpp"
#include "tests/soak/jobs.hpp"
#include "tests/soak/ledger.hpp"
#include "tests/soak/worker.hpp"

namespace holdfast::soak {

namespace {

// The next sample, or what else there is; kEmpty when there was nothing for kLookAgain. `fd`: -1 where it takes by waiting.
Result<Status> take(Subscriber& subscriber, int fd, View& view) {
  if (fd < 0) {
    auto taken = subscriber.take(view, kLookAgain);
    if (taken && *taken == Status::kTimeout) return Status::kEmpty;
    return taken;
  }
  auto taken = subscriber.take(view);
  if (!taken || *taken != Status::kEmpty) return taken;
  pollfd readable{fd, POLLIN, 0};
  ::poll(&readable, 1, static_cast<int>(kLookAgain.count()));
  return subscriber.take(view);
}

class Held {
 public:
  Held(std::size_t views_max, Tally& tally) : views_max_(views_max), tally_(tally) {}
  ~Held() { release(0); }

  void keep(View view) {
    views_.push_back(std::move(view));
    release(views_max_);
  }
  void release(std::size_t keep) {
    for (; views_.size() > keep; views_.pop_front()) {
      crash::SampleHeader header{};
      const View& view = views_.front();
      if (!crash::read_sample(view.data(), view.bytes(), header) || header.position != view.position())
        tally_.torn("a view changed while it was held");
    }
  }

 private:
  std::size_t views_max_;
  Tally& tally_;
  std::deque<View> views_;
};

}  // namespace

void subscribe(const Board& board, Tally& tally) {
  const Spec spec = tally.seat().spec;
  Client client = connect(board, "subscriber");
  SubscriberOptions options;
  options.lossless = spec.lossless != 0;
  Subscriber subscriber = client.subscriber_or_throw(name_of(spec.topic), options);
  Ledger ledger(board, tally, spec.topic, options.lossless);
  const int fd = spec.event_loop != 0 ? subscriber.fd().or_throw() : -1;
  tally.running(client.session());
  Held held(spec.views_held, tally);
  std::uint64_t end_ns = 0;  // when it stops to wait for the last samples
  while (true) {
    View view;
    auto taken = take(subscriber, fd, view);
    if (!taken && taken.error().code == HF_E_CORRUPT) {
      tally.torn(taken.error().sentence);
      continue;
    }
    if (!taken) return tally.failed("take: " + taken.error().sentence);
    switch (*taken) {
      case Status::kOk:
        ledger.sample(view);
        held.keep(std::move(view));
        break;
      case Status::kLapped:
        ledger.lapped(view);
        break;
      case Status::kFinished:
      case Status::kAborted:
        ledger.ended(view);
        break;
      default:
        if (board->phase != Phase::kEndAll) break;
        if (end_ns == 0) end_ns = now_ns() + 10'000'000'000;
        if (ledger.complete(now_ns() > end_ns) || now_ns() > end_ns) return;
    }
  }
}

}  // namespace holdfast::soak
