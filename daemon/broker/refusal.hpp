// SPDX-License-Identifier: MIT
//
// A failure on its way to a client: its kind, a sentence that says what to do, and the numbers.
#pragma once

#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "proto/control/errors.hpp"

namespace holdfast::broker {

struct Refusal {
  control::Failure failure;
  std::string sentence;
  nlohmann::json numbers;

  Refusal(control::Failure why, std::string what, nlohmann::json with = nullptr)
      : failure(why),
        sentence(std::move(what)),
        numbers(std::move(with)) {}
};

}  // namespace holdfast::broker
