// SPDX-License-Identifier: MIT
//
// From a parsed document to a request: the JSON-RPC 2.0 envelope, checked.
#pragma once

#include <string>
#include <variant>

#include <nlohmann/json.hpp>

#include "daemon/broker/refusal.hpp"

namespace holdfast::broker {

struct Envelope {
  nlohmann::json id;
  std::string method;
  nlohmann::json params;  // an object
};

struct BadEnvelope {
  nlohmann::json id;  // null where there is none to answer to
  Refusal refusal;
};

std::variant<Envelope, BadEnvelope> open_envelope(nlohmann::json document);

}  // namespace holdfast::broker
