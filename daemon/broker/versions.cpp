// SPDX-License-Identifier: MIT
//
// Which protocol the broker speaks with a client. The first that both say about themselves, in `hello` or `resume.begin`:
// so nothing else of a client that does not fit is ever looked at.
#include "daemon/broker/versions.hpp"

#include "daemon/broker/state.hpp"
#include "proto/control/versions.hpp"

namespace holdfast::broker {

namespace {

nlohmann::json numbers(const control::Spoken& spoken) {
  return {{"protocol", spoken.newest}, {"protocol_min", spoken.oldest}, {"layout", spoken.layout}};
}

}  // namespace

control::Spoken spoken() { return {control::kProtocolOldest, control::kProtocolVersion, shm::kLayoutVersion}; }

// False: it was refused, or its numbers make no sense.
bool State::agree(const Call& call, Params& params) {
  control::Spoken client;
  client.newest = params.required_number("protocol", 0, UINT32_MAX);
  client.oldest = params.number("protocol_min", 0, client.newest).value_or(client.newest);
  client.layout = params.required_number("layout", 0, UINT32_MAX);
  if (!params.ok()) return false;
  const auto protocol = control::agreed(client, spoken());
  if (!protocol) {
    refuse(call, Refusal(control::Failure::kVersion,
                         "the client speaks " + control::in_words(client) + ", this broker (holdfastd " +
                             setup_.version + ") " + control::in_words(spoken()) + ": update the older of the two",
                         {{"client", numbers(client)}, {"broker", numbers(spoken())}}));
    return false;
  }
  Connection& connection = tables_.connections.at(call.connection);
  connection.protocol = *protocol;
  connection.newer = client.newest > spoken().newest;
  if (connection.newer) params.tolerate();
  return true;
}

}  // namespace holdfast::broker
