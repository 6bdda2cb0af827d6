// SPDX-License-Identifier: MIT
//
// A subscriber among other descriptors: poll() on fd(), take until there is nothing, poll again: event_loop [TOPIC]
#include <poll.h>

#include <cinttypes>
#include <cstdio>
#include <exception>

#include <holdfast/holdfast.hpp>

using holdfast::Status;

int main(int argc, char** argv) try {
  auto client = holdfast::Client::connect_or_throw();
  auto subscriber = client.subscriber_or_throw(argc > 1 ? argv[1] : "example/blocks", {.lossless = true});
  pollfd ready{subscriber.fd().or_throw(), POLLIN, 0};
  holdfast::View view;
  while (true) {
    auto status = Status::kOk;
    while ((status = subscriber.take(view).or_throw()) == Status::kOk)
      std::printf("sample %" PRIu64 ": %" PRIu64 " bytes\n", view.position(), view.bytes());
    if (status == Status::kFinished || status == Status::kAborted) break;
    if (status == Status::kEmpty && poll(&ready, 1, -1) < 0) std::perror("poll");
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
