// SPDX-License-Identifier: MIT
//
// The command `holdfast`: looks at a broker, publishes, subscribes, measures, diagnoses, tidies up. Invariants:
//   (1) what only looks (ls, info, top, holders, stats) asks the control socket and opens no session.
//   (2) whatever ends the command, main() is left by return, so that every handle is closed on the way.
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "client/cli/context.hpp"
#include "client/cli/control.hpp"
#include "client/cli/interrupt.hpp"
#include "client/cli/outcome.hpp"
#include "client/cli/output.hpp"
#include "holdfast/holdfast.h"
#include "proto/control/names.hpp"

namespace holdfast::cli {

namespace {

constexpr const char* kFooter = R"(Exit status: 0 ok, 1 failure, 2 usage, 3 no broker, 4 denied, 5 timed out,
6 not found, 130 Ctrl-C. With --json each line is one object with "schema":1;
failures go to standard error. docs/cli.md has examples.)";

constexpr const char* kGlobal = "Global options";
constexpr std::size_t kHelpColumn = 28;

int print_version(const Context& context) {
  if (context.json)
    print_json({{"version", HOLDFAST_VERSION}, {"library", hf_version()}});
  else
    print("holdfast " HOLDFAST_VERSION "\n");
  return 0;
}

void add_global_flags(CLI::App& app, Context& context, bool& version) {
  app.add_option("--instance", context.instance, "Broker instance [HOLDFAST_INSTANCE, or default]")
      ->type_name("NAME")
      ->group(kGlobal);
  app.add_option("--socket", context.socket, "Control socket [HOLDFAST_SOCKET, or the instance's]")
      ->type_name("PATH")
      ->group(kGlobal);
  app.add_flag("--json", context.json, "One JSON object per line")->group(kGlobal);
  app.add_flag("--version", version, "Print the version");
}

void add_commands(Commands& commands) {
  add_ls(commands);
  add_info(commands);
  add_pub(commands);
  add_sub(commands);
  add_top(commands);
  add_holders(commands);
  add_ping(commands);
  add_stats(commands);
  add_doctor(commands);
  add_gc(commands);
}

// With the flags that may stand before and after every command.
std::string help_of(const CLI::App& app, const CLI::App& command) {
  CLI::Formatter formatter;
  formatter.column_width(kHelpColumn);
  const auto global = app.get_options([](const CLI::Option* option) { return option->get_group() == kGlobal; });
  std::string help = command.help("holdfast");
  const std::size_t footer = help.rfind(std::string("\n") + kFooter);
  return help.insert(std::min(footer, help.size()), formatter.make_group(kGlobal, false, global));
}

int usage(const CLI::App& app, const CLI::ParseError& error, bool json) {
  std::string command = "holdfast";
  for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
  if (error.get_exit_code() == 0) {
    const auto chosen = app.get_subcommands();
    print(chosen.empty() ? app.help() : help_of(app, *chosen.front()));
    return 0;
  }
  print_failure(Failed(Exit::kUsage, "usage", std::string(error.what()) + ". See " + command + " --help"), json);
  return static_cast<int>(Exit::kUsage);
}

int run(int argc, char** argv) {
  Context context;
  bool version = false;
  CLI::App app("Holdfast: data between the processes of one machine, without a copy.", "holdfast");
  app.footer(kFooter);
  app.fallthrough();
  app.get_formatter()->column_width(kHelpColumn);
  add_global_flags(app, context, version);
  Commands commands{app, context, {}};
  add_commands(commands);
  try {
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      // The flags are not set yet where the parser stopped.
      const auto is_json = [](std::string_view argument) { return argument == "--json"; };
      return usage(app, error, std::any_of(argv, argv + argc, is_json));
    }
    // A flag goes before the environment, for the library, too.
    if (!context.instance.empty() && context.socket.empty()) ::unsetenv("HOLDFAST_SOCKET");
    if (version) return print_version(context);
    if (const std::string instance = instance_of(context); !control::is_instance_name(instance))
      throw Failed(Exit::kUsage, "usage", "instance \"" + instance + "\" " + control::kInstanceNameRule);
    if (commands.chosen) return commands.chosen();
    print(app.help());
    return static_cast<int>(Exit::kUsage);
  } catch (const Failed& failure) {
    print_failure(failure, context.json);
    return static_cast<int>(failure.exit());
  }
}

}  // namespace

}  // namespace holdfast::cli

int main(int argc, char** argv) {
  using holdfast::cli::Exit;
  if (!holdfast::cli::keep_standard_descriptors()) {
    holdfast::cli::say(
        "holdfast: standard input, output or error is closed, and there is no /dev/null to take its place");
    return static_cast<int>(Exit::kFailure);
  }
  holdfast::cli::watch_for_interrupts();
  try {
    return holdfast::cli::run(argc, argv);
  } catch (const holdfast::cli::Ended& ended) {
    return ended.status;
  } catch (const std::bad_alloc&) {
    holdfast::cli::say("holdfast: this process has no memory left; raise its limit (ulimit -v), or ask for less");
  } catch (const std::exception& error) {
    holdfast::cli::say(std::string("holdfast: ") + error.what());
  }
  return static_cast<int>(Exit::kFailure);
}
