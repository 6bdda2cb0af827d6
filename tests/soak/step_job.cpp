// SPDX-License-Identifier: MIT
//
// A client that carries one operation out between two stops. What comes before runs at full speed, and makes the operation
// take the way that its name says.
#include <csignal>
#include <optional>
#include <vector>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/crash/sample.hpp"
#include "tests/integration/within.hpp"
#include "tests/soak/jobs.hpp"
#include "tests/soak/steps.hpp"
#include "tests/soak/worker.hpp"

namespace holdfast::soak {

namespace {

constexpr std::uint64_t kInlineBytes = crash::kSampleBytesMin;
constexpr std::uint64_t kChunkBytes = 100;
constexpr std::uint32_t kDoze = 1'000;  // microseconds, in which subscribers have taken all, and sleep
constexpr std::uint64_t kRing = 64;  // slots, and chunks, of a lane with the options of the load

template <class Call>
void between_stops(Call&& call) {
  const int process = ::getpid();
  ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  ::syscall(SYS_tgkill, process, process, SIGSTOP);
  call();
  ::syscall(SYS_tgkill, process, process, SIGSTOP);
}

struct Publishing {
  Publishing(const Board& at, Tally& counts) : board(at), tally(counts), client(connect(at, "publisher")) {
    tally.running(client.session());
    writer = board.new_feed(client.session(), true, Topic::kLoad);
  }

  void open() { publisher.emplace(client.publisher_or_throw(name_of(Topic::kLoad), load_options())); }
  Loan loan(std::uint64_t bytes) { return publisher->loan_or_throw(bytes, 0, kPatience); }
  void publish(std::uint64_t count, std::uint64_t bytes) {
    for (; count > 0; --count)
      if (!publish_one(board, tally, *publisher, writer, position++, bytes)) throw integration::Broken("publish");
  }
  // Everybody who was asleep has been rung: what that takes for the first time is there.
  void greet(std::uint64_t bytes) {
    for (int i = 0; i < 8; ++i) {
      publish(1, bytes);
      pause(kDoze);
    }
  }
  // Every slot and, where these samples have chunks, every chunk that its lane may have is in use; all is taken.
  void use_up(std::uint64_t bytes) {
    {
      std::vector<Loan> all;
      for (std::uint64_t i = 0; i < kRing; ++i) all.push_back(loan(kChunkBytes));
    }
    publish(kRing, bytes);
    if (publisher->drain(kPatience).or_throw() != Status::kOk) throw integration::Broken("nobody takes");
  }

  const Board& board;
  Tally& tally;
  Client client;
  std::uint32_t writer = 0;
  std::uint64_t position = 0;
  std::optional<Publisher> publisher;
};

void step_publish(Publishing& here, std::uint64_t bytes) {
  Loan loan = here.loan(bytes);
  crash::write_sample(loan.data(), loan.bytes(), here.writer, here.position);
  Feed* const feed = here.board.feed(here.writer);
  feed->intended = here.position + 1;
  between_stops([&] { loan.publish_or_throw(kPatience); });
  feed->published = here.position + 1;
}

void publish_inline(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  here.greet(kInlineBytes);
  step_publish(here, kInlineBytes);
}

void publish_chunk(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  here.greet(kChunkBytes);
  step_publish(here, kChunkBytes);
}

void publish_raising_floor(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  here.greet(kInlineBytes);
  here.use_up(kInlineBytes);
  pause(kDoze);
  step_publish(here, kInlineBytes);
}

void publish_ringing(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  pause(kDoze);
  step_publish(here, kInlineBytes);
}

void loan_chunk(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  here.publish(2, kChunkBytes);
  between_stops([&] { here.loan(kChunkBytes); });
}

void loan_reclaiming(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  here.use_up(kChunkBytes);
  between_stops([&] { here.loan(kChunkBytes); });
}

void release_loan(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  Loan loan = here.loan(kChunkBytes);
  between_stops([&] { loan = Loan(); });
}

void open_publisher(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  between_stops([&] { here.open(); });
}

void close_publisher(const Board& board, Tally& tally) {
  Publishing here(board, tally);
  here.open();
  here.publish(2, kInlineBytes);
  here.publish(2, kChunkBytes);
  between_stops([&] { here.publisher.reset(); });
}

struct Subscribing {
  Subscribing(const Board& board, Tally& tally) : client(connect(board, "subscriber")) {
    tally.running(client.session());
  }

  void open(bool lossless) {
    SubscriberOptions options;
    options.lossless = lossless;
    subscriber.emplace(client.subscriber_or_throw(name_of(Topic::kLoad), options));
  }
  // The publisher that stays alternates, so that the next one is of the other kind.
  void take_until(bool is_inline) {
    while (subscriber->take(view, kPatience).or_throw() != Status::kOk || (view.bytes() == kInlineBytes) != is_inline) {
    }
  }

  Client client;
  std::optional<Subscriber> subscriber;
  View view;
};

template <bool kLossless, bool kInline>
void take(const Board& board, Tally& tally) {
  Subscribing here(board, tally);
  here.open(kLossless);
  here.take_until(!kInline);
  here.view.release();
  wait({&*here.subscriber}, kPatience).or_throw();
  between_stops([&] { here.subscriber->take(here.view).or_throw(); });
}

template <bool kLossless>
void release_view(const Board& board, Tally& tally) {
  Subscribing here(board, tally);
  here.open(kLossless);
  here.take_until(false);
  between_stops([&] { here.view.release(); });
}

void open_subscriber(const Board& board, Tally& tally) {
  Subscribing here(board, tally);
  between_stops([&] { here.open(true); });
}

// The view is what it held on to; the broker hears of its end when that is given back.
void close_subscriber(const Board& board, Tally& tally) {
  Subscribing here(board, tally);
  here.open(true);
  here.take_until(false);
  between_stops([&] {
    here.subscriber.reset();
    here.view.release();
  });
}

void open_client(const Board& board, Tally&) {
  std::optional<Client> client;
  between_stops([&] { client.emplace(connect(board, "client")); });
}

void close_client(const Board& board, Tally& tally) {
  Client client = connect(board, "client");
  tally.running(client.session());
  between_stops([&] { client.close(); });
}

constexpr Operation kOperations[] = {
    {"publish (inline)", publish_inline},
    {"publish (chunk)", publish_chunk},
    {"publish that raises the floor", publish_raising_floor},
    {"publish that rings for the first time", publish_ringing},
    {"loan", loan_chunk},
    {"loan that reclaims", loan_reclaiming},
    {"release of a loan", release_loan},
    {"take (lossless, inline)", take<true, true>},
    {"take (lossless, chunk)", take<true, false>},
    {"take (drop-oldest, inline)", take<false, true>},
    {"take (drop-oldest, chunk)", take<false, false>},
    {"release of a view (lossless)", release_view<true>},
    {"release of a view (drop-oldest)", release_view<false>},
    {"open of a publisher", open_publisher},
    {"close of a publisher", close_publisher},
    {"open of a subscriber", open_subscriber},
    {"close of a subscriber", close_subscriber},
    {"open of a client", open_client},
    {"close of a client", close_client},
};

}  // namespace

std::span<const Operation> operations() { return kOperations; }

void step(const Board& board, Tally& tally) { operations()[tally.seat().spec.operation].run(board, tally); }

}  // namespace holdfast::soak
