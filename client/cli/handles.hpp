// SPDX-License-Identifier: MIT
//
// Handles of the C ABI that close themselves, and its failures as exceptions. Threads as holdfast.h says.
#pragma once

#include <memory>
#include <string>

#include "client/cli/context.hpp"
#include "client/cli/outcome.hpp"
#include "holdfast/holdfast.h"

namespace holdfast::cli {

struct Close {
  void operator()(hf_client* client) const { hf_client_close(client); }
  void operator()(hf_publisher* publisher) const { hf_publisher_close(publisher); }
  void operator()(hf_subscriber* subscriber) const { hf_subscriber_close(subscriber); }
};
using Client = std::unique_ptr<hf_client, Close>;
using Publisher = std::unique_ptr<hf_publisher, Close>;
using Subscriber = std::unique_ptr<hf_subscriber, Close>;

// A view that is released, a loan that is dropped unless it was published.
struct View {
  hf_view view{};
  View() = default;
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  ~View() { hf_view_release(&view); }
};
struct Loan {
  hf_loan loan{};
  Loan() = default;
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  ~Loan() { hf_loan_drop(&loan); }
};

// The library's failure of this thread. "HF_E_NO_BROKER" is named "no_broker".
[[noreturn]] inline void library_failed(int result) {
  std::string name;
  for (const char* at = hf_result_name(result); *at != '\0'; ++at)
    name += *at >= 'A' && *at <= 'Z' ? static_cast<char>(*at - 'A' + 'a') : *at;
  for (const char* prefix : {"hf_e_", "hf_"})
    if (name.rfind(prefix, 0) == 0) name.erase(0, std::string(prefix).size());
  throw Failed(exit_of(result), name, hf_last_error());
}

inline int checked(int result) {
  if (result < 0) library_failed(result);
  return result;
}

// `name`: what holders and ls show.
inline Client open_client(const Context& context, const char* name) {
  hf_client_options options{};
  options.struct_size = sizeof options;
  options.socket = context.socket.empty() ? nullptr : context.socket.c_str();
  options.instance = context.instance.empty() ? nullptr : context.instance.c_str();
  options.name = name;
  hf_client* client = nullptr;
  checked(hf_client_open(&options, &client));
  return Client(client);
}

inline Publisher open_publisher(const Client& client, const std::string& topic, const hf_publisher_options& options) {
  hf_publisher* publisher = nullptr;
  checked(hf_publisher_open(client.get(), topic.c_str(), &options, &publisher));
  return Publisher(publisher);
}

inline Subscriber open_subscriber(const Client& client, const std::string& topic,
                                  const hf_subscriber_options& options) {
  hf_subscriber* subscriber = nullptr;
  checked(hf_subscriber_open(client.get(), topic.c_str(), &options, &subscriber));
  return Subscriber(subscriber);
}

}  // namespace holdfast::cli
