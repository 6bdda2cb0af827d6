// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

namespace holdfast::bench {

// The q-quantile, 0 <= q <= 1, interpolated between neighbours. Requires: at least one value.
double quantile(std::vector<double> values, double q);

inline double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

}  // namespace holdfast::bench
