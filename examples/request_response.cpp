// SPDX-License-Identifier: MIT
//
// Request and response are two topics; a tag pairs them: request_response serve, then request_response WORD...
#include <algorithm>
#include <cstdio>
#include <string>

#include <holdfast/holdfast.hpp>

int main(int argc, char** argv) try {
  const bool serves = argc > 1 && std::string(argv[1]) == "serve";
  auto client = holdfast::Client::connect_or_throw();
  auto in = client.subscriber_or_throw(serves ? "example/request" : "example/response", {.lossless = true});
  auto out = client.publisher_or_throw(serves ? "example/response" : "example/request");
  if (serves) {  // answers the requests of one client, backwards
    holdfast::View request;
    while (in.take(request, holdfast::kForever).or_throw() == holdfast::Status::kOk) {
      auto loan = out.loan_or_throw(request.bytes());
      const auto* text = static_cast<const char*>(request.data());
      std::reverse_copy(text, text + request.bytes(), static_cast<char*>(loan.data()));
      loan.set_type(request.type());
      loan.publish_or_throw();
    }
    return 0;
  }
  out.wait_for_subscribers(1).or_throw();
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    auto loan = out.loan_or_throw(word.size());
    word.copy(static_cast<char*>(loan.data()), word.size());
    loan.set_type(static_cast<std::uint32_t>(i));
    loan.publish_or_throw();
    auto answer = in.next().or_throw();
    std::printf("%u: %.*s\n", answer.type(), static_cast<int>(answer.bytes()), static_cast<const char*>(answer.data()));
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
