// SPDX-License-Identifier: MIT
//
// Writes ten samples of 1 MiB in place and publishes them, once somebody listens: publish [TOPIC]
#include <cstdio>
#include <cstring>
#include <exception>

#include <holdfast/holdfast.hpp>

int main(int argc, char** argv) try {
  auto client = holdfast::Client::connect_or_throw();
  auto publisher = client.publisher_or_throw(argc > 1 ? argv[1] : "example/blocks");
  publisher.wait_for_subscribers(1).or_throw();
  for (int i = 0; i < 10; ++i) {
    auto loan = publisher.loan_or_throw(1 << 20);
    std::memset(loan.data(), 'a' + i, loan.bytes());
    loan.publish_or_throw();
  }
  publisher.drain().or_throw();
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
