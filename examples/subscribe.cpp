// SPDX-License-Identifier: MIT
//
// Reads every sample where it lies, until its publisher is gone: subscribe [TOPIC]
#include <cinttypes>
#include <cstdio>
#include <exception>

#include <holdfast/holdfast.hpp>

int main(int argc, char** argv) try {
  auto client = holdfast::Client::connect_or_throw();
  auto subscriber = client.subscriber_or_throw(argc > 1 ? argv[1] : "example/blocks", {.lossless = true});
  holdfast::View view;
  auto status = holdfast::Status::kOk;
  while ((status = subscriber.take(view, holdfast::kForever).or_throw()) == holdfast::Status::kOk)
    std::printf("sample %" PRIu64 ": %" PRIu64 " bytes of '%c'\n", view.position(), view.bytes(), view.as<char>());
  std::printf("%s\n", hf_result_name(static_cast<int>(status)));
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
