// SPDX-License-Identifier: MIT
#include "daemon/broker/envelope.hpp"

#include <cstddef>
#include <utility>

namespace holdfast::broker {

namespace {

constexpr std::size_t kIdBytesMax = 256;

bool is_id(const nlohmann::json& id) {
  return id.is_number_integer() || (id.is_string() && id.get_ref<const std::string&>().size() <= kIdBytesMax);
}

BadEnvelope bad(nlohmann::json id, std::string why) {
  return {std::move(id), Refusal(control::Failure::kRequest, std::move(why))};
}

}  // namespace

std::variant<Envelope, BadEnvelope> open_envelope(nlohmann::json document) {
  if (document.is_array()) return bad(nullptr, "batches are not taken: send one request per line");
  if (!document.is_object()) return bad(nullptr, "a request is a JSON object");
  const auto id = document.find("id");
  if (id == document.end() || !is_id(*id))
    return bad(nullptr, "a request needs an \"id\": an integer, or a string of at most 256 bytes");
  const auto version = document.find("jsonrpc");
  if (version == document.end() || *version != "2.0") return bad(*id, "a request needs \"jsonrpc\": \"2.0\"");
  const auto method = document.find("method");
  if (method == document.end() || !method->is_string()) return bad(*id, "a request needs a \"method\", a string");
  Envelope envelope;
  envelope.id = *id;
  envelope.method = method->get<std::string>();
  const auto params = document.find("params");
  if (params == document.end() || params->is_null())
    envelope.params = nlohmann::json::object();
  else if (params->is_object())
    envelope.params = std::move(*params);
  else
    return bad(envelope.id, "\"params\" must be an object");
  return envelope;
}

}  // namespace holdfast::broker
