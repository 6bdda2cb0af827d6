// SPDX-License-Identifier: MIT
//
// What this broker speaks. A function, so that only versions.cpp depends on the numbers.
#pragma once

#include "proto/control/spoken.hpp"

namespace holdfast::broker {

control::Spoken spoken();

}  // namespace holdfast::broker
