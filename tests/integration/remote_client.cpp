// SPDX-License-Identifier: MIT
#include "tests/integration/remote_client.hpp"

#include <sys/wait.h>

namespace holdfast::integration {

namespace {

Seen seen_of(const nlohmann::json& answer) {
  Seen seen;
  seen.samples = answer.at("samples");
  seen.bytes = answer.at("bytes");
  seen.torn = answer.at("torn");
  seen.disorder = answer.at("disorder");
  seen.missed = answer.at("missed");
  seen.turned = answer.at("turned");
  seen.finished = answer.at("finished");
  seen.aborted = answer.at("aborted");
  seen.corrupt = answer.at("corrupt");
  seen.first = answer.at("first");
  seen.last = answer.at("last");
  return seen;
}

}  // namespace

RemoteClient::RemoteClient(const PrivateBroker& broker, const char* name, bool own_pids, uid_t user)
    : process_("client", {broker.socket(), name, std::to_string(user)}, own_pids) {
  session_ = call("session").at("session");
}

nlohmann::json RemoteClient::call(const char* what, nlohmann::json arguments) {
  arguments["do"] = what;
  nlohmann::json answer = process_.call(arguments);
  if (answer.contains("broken")) throw Broken(std::string(what) + ": " + answer["broken"].get<std::string>());
  return answer;
}

void RemoteClient::pause() {
  process_.kill(SIGSTOP);
  siginfo_t stopped{};
  ::waitid(P_PID, static_cast<id_t>(process_.pid()), &stopped, WSTOPPED);
}

nlohmann::json RemoteClient::subscribe(const std::string& topic, bool lossless, int start) {
  return call("subscribe", {{"topic", topic}, {"lossless", lossless}, {"start", start}});
}

nlohmann::json RemoteClient::open_publisher(const std::string& topic, const nlohmann::json& options) {
  return call("open_publisher", {{"topic", topic}, {"options", options}});
}

Seen RemoteClient::take(std::uint64_t samples) { return seen_of(call("take", {{"samples", samples}})); }

Seen RemoteClient::take_until_ended(std::uint64_t ends) { return seen_of(call("take_until_ended", {{"ends", ends}})); }

void RemoteClient::begin_taking_until_ended(std::uint64_t ends) {
  process_.channel().send({{"do", "take_until_ended"}, {"ends", ends}});
}

Seen RemoteClient::finish_taking() {
  const nlohmann::json answer = process_.channel().receive(2 * kSoon);
  if (answer.is_null() || answer.contains("broken")) throw Broken("taking failed: " + answer.dump());
  return seen_of(answer);
}

Seen RemoteClient::hold(std::uint64_t samples) { return seen_of(call("hold", {{"samples", samples}})); }

std::uint64_t RemoteClient::spoilt_views() { return call("check_views").at("spoilt"); }

void RemoteClient::release_views() { call("release_views"); }

void RemoteClient::publish(std::uint64_t samples, std::uint64_t bytes, std::uint32_t seed) {
  call("publish", {{"samples", samples}, {"bytes", bytes}, {"seed", seed}});
}

void RemoteClient::loan(std::uint64_t bytes) { call("loan", {{"bytes", bytes}}); }

void RemoteClient::drain() { call("drain"); }

}  // namespace holdfast::integration
