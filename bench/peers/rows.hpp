// SPDX-License-Identifier: MIT
//
// What is measured of whom: every row of measurements, for Holdfast and for every peer, against the same floor.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/cases.hpp"

namespace holdfast::bench {

struct PeerRow {
  std::string what;  // the same for all that are compared
  std::string peer;
  Case measured;     // named peers_<what>_<peer>; no goal
  std::function<void()> tidy{};  // to be called after it
};

// In order of `what`, Holdfast first. Those of which all `only` is the name or a beginning before an underscore.
std::vector<PeerRow> peer_rows(const std::string& only);

}  // namespace holdfast::bench
