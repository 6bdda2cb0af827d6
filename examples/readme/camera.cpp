// SPDX-License-Identifier: MIT
#include <cstring>
#include <holdfast/holdfast.hpp>

int main() {
  auto client = holdfast::Client::connect_or_throw();
  auto publisher = client.publisher_or_throw("camera/image");
  publisher.wait_for_subscribers(1).or_throw();
  for (int i = 0; i < 3; ++i) {
    auto loan = publisher.loan_or_throw(1920 * 1080);  // shared memory, yours to write
    std::memset(loan.data(), 'a' + i, loan.bytes());
    loan.publish_or_throw();                           // one cache line moves
  }
  publisher.drain().or_throw();
}
