// SPDX-License-Identifier: MIT
#include "client/cli/control.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <variant>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client/cli/interrupt.hpp"
#include "client/cli/outcome.hpp"

namespace holdfast::cli {

namespace {

constexpr std::int64_t kRequestNs = 10'000'000'000;

std::string environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr ? value : "";
}

// 0, or the errno that says why not.
int connect_to(const std::string& path, File& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  socket = File(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return errno;
  while (::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno != EINTR) return errno;
    end_if_interrupted();
  }
  return 0;
}

[[noreturn]] void refused(const nlohmann::json& error) {
  const auto code = error.find("code");
  const auto* row = code != error.end() && code->is_number_integer() ? control::find_error(code->get<int>()) : nullptr;
  std::string sentence = text(error, "message");
  if (sentence.empty()) sentence = "the broker refused and gave no reason";
  if (row == nullptr) throw Failed(Exit::kFailure, "protocol", sentence);
  throw Failed(exit_of(row->c_abi), std::string(row->name), sentence);
}

}  // namespace

std::string instance_of(const Context& context) {
  if (!context.instance.empty()) return context.instance;
  const std::string given = environment("HOLDFAST_INSTANCE");
  return given.empty() ? "default" : given;
}

std::vector<std::string> socket_paths(const Context& context) {
  if (!context.socket.empty()) return {context.socket};
  const std::string given = environment("HOLDFAST_SOCKET");
  if (!given.empty()) return {given};
  std::vector<std::string> paths;
  const std::string runtime = environment("XDG_RUNTIME_DIR");
  if (!runtime.empty()) paths.push_back(runtime + "/holdfast/" + instance_of(context) + ".sock");
  paths.push_back("/run/holdfast/" + instance_of(context) + ".sock");
  return paths;
}

Control::Control(const Context& context) {
  std::string tried;
  bool denied = false;
  for (const std::string& path : socket_paths(context)) {
    const int error = connect_to(path, socket_);
    if (error == 0) {
      path_ = path;
      return;
    }
    denied = denied || error == EACCES || error == EPERM;
    tried += (tried.empty() ? "" : ", ") + path + " (" + std::strerror(error) + ")";
  }
  if (denied)
    throw Failed(Exit::kDenied, "denied",
                 "no permission to talk to the broker; tried " + tried +
                     ". Join the socket's group, or run as its owner (ls -l shows both)");
  throw Failed(Exit::kNoBroker, "no_broker",
               "no broker answers; tried " + tried +
                   ". Start holdfastd, or set --instance, --socket, HOLDFAST_INSTANCE or HOLDFAST_SOCKET");
}

nlohmann::json Control::request(std::string_view method, const nlohmann::json& params) {
  const Deadline deadline(kRequestNs);
  const std::uint64_t id = next_id_++;
  send(control::request_line(id, method, params), deadline);
  auto parsed = control::parse_line(receive(deadline));
  auto* reply = std::get_if<nlohmann::json>(&parsed);
  if (reply == nullptr || !reply->is_object()) lost("it answered with something that is no reply");
  if (const auto error = reply->find("error"); error != reply->end() && error->is_object()) refused(*error);
  const auto result = reply->find("result");
  if (result == reply->end() || !result->is_object() || number(*reply, "id") != id) lost("it answered something else");
  return std::move(*result);
}

void Control::send(const std::string& line, const Deadline& deadline) {
  std::size_t sent = 0;
  while (sent < line.size()) {
    end_if_interrupted();
    const ssize_t count = ::send(socket_.fd(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN && !deadline.expired()) {
      pollfd writable{socket_.fd(), POLLOUT, 0};
      ::poll(&writable, 1, static_cast<int>(kLookNs / 1'000'000));
    } else if (errno != EINTR) {
      lost(errno == EAGAIN ? "it does not read requests" : std::strerror(errno));
    }
  }
}

std::string Control::receive(const Deadline& deadline) {
  while (true) {
    if (auto line = received_.next()) return std::move(*line);
    if (!wait_readable(socket_.fd(), deadline.left_ns(kRequestNs)))
      throw Failed(Exit::kTimedOut, "timed_out",
                   "the broker at " + path_ + " did not answer within 10 s; see its log, or restart it");
    char bytes[16384];
    const ssize_t count = ::recv(socket_.fd(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) lost(count == 0 ? "it closed the connection" : std::strerror(errno));
    if (!received_.append({bytes, static_cast<std::size_t>(count)})) lost("its answer is longer than a line may be");
  }
}

void Control::lost(const std::string& why) const {
  throw Failed(Exit::kNoBroker, "no_broker",
               "lost the broker at " + path_ + ": " + why + ". Look at its log, and start it again if it is gone");
}

void Control::each(std::string_view method, const std::function<void(const nlohmann::json&)>& visit) {
  nlohmann::json params{{"limit", 500}};
  while (true) {
    const nlohmann::json page = request(method, params);
    for (const nlohmann::json& element : list(page, std::string(method).c_str())) visit(element);
    const std::string next = text(page, "next");
    if (next.empty()) return;
    params["after"] = next;
  }
}

std::vector<nlohmann::json> Control::all(std::string_view method) {
  std::vector<nlohmann::json> elements;
  each(method, [&](const nlohmann::json& element) { elements.push_back(element); });
  return elements;
}

std::uint64_t number(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return 0;
  const auto at = object.find(key);
  return at != object.end() && at->is_number_unsigned() ? at->get<std::uint64_t>() : 0;
}

std::string text(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

const nlohmann::json& list(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kNone = nlohmann::json::array();
  if (!object.is_object()) return kNone;
  const auto at = object.find(key);
  return at != object.end() && at->is_array() ? *at : kNone;
}

}  // namespace holdfast::cli
