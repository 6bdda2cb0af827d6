// SPDX-License-Identifier: MIT
//
// The one table that scripts/soak prints.
#pragma once

#include <vector>

#include "tests/soak/campaign.hpp"

namespace holdfast::soak {

void print_scorecard(const std::vector<Score>& scores);

}  // namespace holdfast::soak
