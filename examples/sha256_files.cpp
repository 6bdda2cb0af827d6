// SPDX-License-Identifier: MIT
//
// SHA-256 of every sample, straight from the publisher's memory, in the form of `sha256sum -z`: sha256_files TOPIC
// Outlives publishers that die; ends when one finishes.
#include <openssl/sha.h>

#include <cstdio>
#include <map>
#include <string>

#include <holdfast/holdfast.hpp>

int main(int argc, char** argv) try {
  using holdfast::Status;
  auto client = holdfast::Client::connect_or_throw();
  auto subscriber = client.subscriber_or_throw(argc > 1 ? argv[1] : "example/files", {.lossless = true});
  std::map<std::uint32_t, unsigned long> samples;  // of each publisher
  holdfast::View view;
  for (auto status = Status::kOk; status != Status::kFinished;) {
    status = subscriber.take(view, holdfast::kForever).or_throw();
    unsigned char digest[SHA256_DIGEST_LENGTH];
    if (status == Status::kOk) {
      SHA256(static_cast<const unsigned char*>(view.data()), view.bytes(), digest);
      for (const unsigned char byte : digest) std::printf("%02x", byte);
      const std::string path(view.attributes().get_string("path").value_or("-"));
      std::printf("  %s%c", path.c_str(), '\0');
      ++samples[view.publisher()];
      std::fflush(stdout);
    } else if (status == Status::kLapped) {
      std::fprintf(stderr, "missed: %lu samples\n", static_cast<unsigned long>(view.missed()));
    } else {
      const char* end = status == Status::kAborted ? "aborted: a publisher died" : "finished: a publisher ended";
      std::fprintf(stderr, "%s after %lu samples\n", end, samples[view.publisher()]);
    }
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
