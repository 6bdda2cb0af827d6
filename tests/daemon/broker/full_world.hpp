// SPDX-License-Identifier: MIT
//
// What the tests that mutate a registry begin with.
#pragma once

#include <cstdint>
#include <cstdlib>

#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {

// A world with everything in it: lanes open, hidden, ended and with many readers, sessions with and without membarrier.
class FullWorld {
 public:
  FullWorld()
      : shell_([] {
          BrokerSetup setup;
          setup.uid = 1000;
          return setup;
        }()) {
    const ConnectionId first = shell_.client(1000);
    const ConnectionId second = shell_.connect(1000);
    shell_.hello(second, false);
    const ConnectionId third = shell_.client(1000);
    const HandleId ended = shell_.publish(first, "a/b");
    shell_.publish(first, "a/b");
    shell_.publish(second, "c", {{"ring", 128}, {"chunks_max", 128}, {"clock", "exact"}, {"linger_ms", -1}});
    shell_.publish(second, "sealed", {{"backing", "sealed"}});
    for (int i = 0; i < 15; ++i)
      shell_.subscribe(i % 2 == 0 ? second : third, "a/b", i % 3 == 0 ? "lossless" : "drop_oldest", "oldest");
    shell_.subscribe(third, "c", "lossless");
    shell_.subscribe(third, "nobody");
    EXPECT_TRUE(shell_.call(first, "close", {{"handle", ended}}).ok());
    // A session that has ended, and a lane of its that lingers.
    const ConnectionId last = shell_.client(1000);
    shell_.publish(last, "d");
    shell_.end(shell_.session_of(last));
  }

  const FakeShell& shell() const { return shell_; }
  RegistryRows rows() const { return shell_.rows.all(); }

 private:
  FakeShell shell_;
};

// Of a campaign: how many, and from which seed on.
inline std::uint64_t campaign_number(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

}  // namespace holdfast::broker
