// SPDX-License-Identifier: MIT
//
// The scenarios by name, smallest first of each kind, with the deaths and stops that each allows.
#pragma once

#include <span>
#include <string>

#include "tests/model/run.hpp"

namespace holdfast::model {

struct Case {
  const char* name;
  Make make;
  std::uint32_t deaths = 0;  // and stops, per run
};

std::span<const Case> cases();
const Case* find_case(const std::string& name);
const char* name_of(Memory memory);

}  // namespace holdfast::model
