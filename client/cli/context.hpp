// SPDX-License-Identifier: MIT
//
// What every command is told: the global flags. And how a command is added to the parser: its add_…() registers its
// options and leaves in `chosen` what main() calls when the command was given.
#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace holdfast::cli {

struct Context {
  std::string instance;  // empty: HOLDFAST_INSTANCE, else "default"
  std::string socket;    // empty: HOLDFAST_SOCKET, else the instance's
  bool json = false;
};

struct Commands {
  CLI::App& app;
  const Context& context;
  std::function<int()> chosen;
};

void add_ls(Commands& commands);
void add_info(Commands& commands);
void add_pub(Commands& commands);
void add_sub(Commands& commands);
void add_top(Commands& commands);
void add_holders(Commands& commands);
void add_ping(Commands& commands);
void add_stats(Commands& commands);
void add_doctor(Commands& commands);
void add_gc(Commands& commands);

}  // namespace holdfast::cli
