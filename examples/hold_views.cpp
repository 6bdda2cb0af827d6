// SPDX-License-Identifier: MIT
//
// Keeps the first eight samples for itself and gives every later one back at once, until it is killed: hold_views [TOPIC]
#include <array>
#include <cstdio>
#include <exception>

#include <holdfast/holdfast.hpp>

int main(int argc, char** argv) try {
  auto client = holdfast::Client::connect_or_throw();
  auto subscriber = client.subscriber_or_throw(argc > 1 ? argv[1] : "example/files", {.lossless = true});
  std::array<holdfast::View, 8> held;
  for (auto& view : held) view = subscriber.next().or_throw();
  std::fprintf(stderr, "holding %zu views\n", held.size());
  while (true) subscriber.next().or_throw();
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
