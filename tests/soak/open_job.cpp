// SPDX-License-Identifier: MIT
//
// A client that opens and closes handles all the time: on the topic of its seat, where others have to notice, and on one of
// its own, where every sample must come. And one that waits for what never comes.
#include <random>

#include "tests/crash/sample.hpp"
#include "tests/soak/jobs.hpp"
#include "tests/soak/ledger.hpp"
#include "tests/soak/worker.hpp"

namespace holdfast::soak {

namespace {

class Opener {
 public:
  Opener(const Board& board, Tally& tally)
      : board_(board),
        tally_(tally),
        topic_(tally.seat().spec.topic),
        random_(tally.seat().spec.seed),
        client_(connect(board, "opener")) {
    tally.running(client_.session());
  }

  // False: it failed.
  bool once() {
    switch (random_() % 4) {
      case 0:
        return look();
      case 1:
        return publish(topic_, nullptr);
      case 2:
        return come_and_go();
      default:
        return to_itself();
    }
  }

 private:
  // Another client, which may find nobody to talk to.
  bool come_and_go() {
    ClientOptions options;
    options.socket = board_->socket;
    options.name = "guest";
    auto guest = Client::connect(options);
    if (!guest) {
      if (guest.error().code == HF_E_NO_BROKER) return true;
      return tally_.failed("client: " + guest.error().sentence), false;
    }
    if (random_() % 2 == 0) return true;
    auto subscriber = guest->subscriber(name_of(Topic::kSide));
    if (!subscriber) return tally_.failed("guest: " + subscriber.error().sentence), false;
    return true;
  }

  // A few samples of the load.
  bool look() {
    SubscriberOptions options;
    options.lossless = random_() % 2 == 0;
    auto subscriber = client_.subscriber(name_of(topic_), options);
    if (!subscriber) return tally_.failed("subscriber: " + subscriber.error().sentence), false;
    Ledger ledger(board_, tally_, topic_, options.lossless);
    View view;
    for (std::uint64_t i = random_() % 8; i > 0; --i) {
      auto taken = subscriber->take(view, kLookAgain);
      if (!taken) return tally_.failed("take: " + taken.error().sentence), false;
      if (*taken == Status::kOk) ledger.sample(view);
      if (*taken == Status::kLapped) ledger.lapped(view);
      if (*taken == Status::kFinished || *taken == Status::kAborted) ledger.ended(view);
    }
    return true;
  }

  bool publish(Topic topic, Subscriber* subscriber) {
    const std::uint32_t writer = board_.new_feed(client_.session(), false, topic);
    auto publisher = client_.publisher(name_of(topic), load_options());
    if (!publisher) return tally_.failed("publisher: " + publisher.error().sentence), false;
    for (std::uint64_t position = 0; position < 3; ++position)
      if (!publish_one(board_, tally_, *publisher, writer, position, position == 1 ? 3000 : crash::kSampleBytesMin))
        return false;
    return subscriber == nullptr || take_all(*subscriber, writer, 3);
  }

  bool to_itself() {
    SubscriberOptions lossless;
    lossless.lossless = true;
    auto subscriber = client_.subscriber(name_of(Topic::kSide), lossless);
    if (!subscriber) return tally_.failed("subscriber: " + subscriber.error().sentence), false;
    return publish(Topic::kSide, &*subscriber);
  }

  bool take_all(Subscriber& subscriber, std::uint32_t writer, std::uint64_t samples) {
    View view;
    for (std::uint64_t position = 0; position < samples;) {
      auto taken = subscriber.take(view, kPatience);
      if (!taken) return tally_.failed("take: " + taken.error().sentence), false;
      // The lane from before, if it was closed while the broker was away: that one ends only now.
      if (*taken == Status::kFinished) continue;
      if (*taken != Status::kOk) {
        tally_.lost(samples - position, "its own sample " + std::to_string(position) + " never came, but " +
                                            hf_result_name(static_cast<int>(*taken)));
        return false;
      }
      crash::SampleHeader header{};
      if (!crash::read_sample(view.data(), view.bytes(), header)) tally_.torn("its own sample is torn");
      if (header.writer != writer || header.position != position) tally_.lost(1, "its own samples came in disorder");
      ++position;
    }
    return true;
  }

  const Board& board_;
  Tally& tally_;
  Topic topic_;
  std::mt19937_64 random_;
  Client client_;
};

}  // namespace

void open_and_close(const Board& board, Tally& tally) {
  Opener opener(board, tally);
  while (running(board)) {
    if (!opener.once()) return;
    tally.seat().samples.fetch_add(1, std::memory_order_relaxed);
  }
}

void idle(const Board& board, Tally& tally) {
  Client client = connect(board, "idle");
  Subscriber subscriber = client.subscriber_or_throw(kIdleTopic);
  tally.running(client.session());
  View view;
  while (board->phase != Phase::kEndAll) {
    auto taken = subscriber.take(view, std::chrono::seconds(2));
    if (!taken) return tally.failed("take: " + taken.error().sentence);
    if (*taken != Status::kTimeout) return tally.failed("something came on a topic without publishers");
  }
}

}  // namespace holdfast::soak
