// SPDX-License-Identifier: MIT
#pragma once

namespace holdfast::bench {

// What one idle topic costs, with one publisher and one subscriber that have seen a sample of 32 bytes. The mean of many
// topics of two clients; what the clients cost by themselves is not in it.
struct Footprint {
  double bytes;  // of shared memory of the broker's instance, all of its segments
  double files;  // below /dev/shm
  double mappings_per_process;  // of the publisher's and of the subscriber's process
  double descriptors;  // of both
};

// Asks the broker that HOLDFAST_INSTANCE names. Throws std::runtime_error where it cannot be measured.
Footprint footprint_of_topic();

}  // namespace holdfast::bench
