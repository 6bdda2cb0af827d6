// SPDX-License-Identifier: MIT
//
// The table of mutants: every fence and every order of proto/shm/sites.hpp done wrongly, and the order of the steps.
//
// A mutant names the weakest machine that must catch it and a scenario that does. Where no machine can, `reason` says
// why in words that can be checked against the code; such a mutant is run through every scenario that comes by its
// site, and it is an error if one notices.
#pragma once

#include <span>
#include <string>

#include "tests/model/run.hpp"

namespace holdfast::model {

struct Entry {
  Mutant mutant;
  Memory memory = Memory::kViews;
  const char* scenario = nullptr;
  const char* reason = nullptr;  // why nothing can notice, or nullptr
};

std::span<const Entry> mutants();
std::string name_of(const Mutant& mutant);  // "take.pin/late until take.floor"
const Entry* find_mutant(const std::string& name);

bool has_entry(shm::At at, Change change);

}  // namespace holdfast::model
