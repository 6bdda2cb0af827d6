// SPDX-License-Identifier: MIT
//
// `holdfast doctor`: PASS, WARN or FAIL for everything that Holdfast needs, each with its fix. The status is that of the
// worst: 3 or 4 if the broker cannot be reached, 1 if something else fails, 0 otherwise.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include "client/cli/context.hpp"
#include "client/cli/control.hpp"
#include "client/cli/environment.hpp"
#include "client/cli/files.hpp"
#include "client/cli/interrupt.hpp"
#include "client/cli/leftovers.hpp"
#include "client/cli/output.hpp"
#include "client/cli/text.hpp"
#include "holdfast/holdfast.h"
#include "proto/control/spoken.hpp"
#include "proto/control/versions.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::cli {

namespace {

using Json = nlohmann::json;

const char* label(Verdict verdict) {
  return verdict == Verdict::kPass ? "PASS" : verdict == Verdict::kWarn ? "WARN" : "FAIL";
}

void print_check(const Check& check, bool json, bool terminal) {
  if (json) {
    std::string verdict = label(check.verdict);
    std::transform(verdict.begin(), verdict.end(), verdict.begin(), [](char c) { return static_cast<char>(c | 0x20); });
    print_json({{"check", check.name},
                {"status", verdict},
                {"found", check.found},
                {"fix", check.fix.empty() ? Json() : Json(check.fix)}});
    return;
  }
  constexpr std::size_t kIndent = 28;
  const std::size_t columns = terminal ? screen().columns : 0;
  const char* shade = check.verdict == Verdict::kPass   ? "\x1b[32m"
                      : check.verdict == Verdict::kWarn ? "\x1b[33m"
                                                        : "\x1b[31m";
  const std::string name = check.name;
  std::string text = terminal ? shade + std::string(label(check.verdict)) + "\x1b[0m" : label(check.verdict);
  text += "  " + name + std::string(kIndent - 6 - name.size(), ' ') +
          wrapped(printable(check.found), kIndent, columns) + "\n";
  if (!check.fix.empty())
    text += std::string(kIndent, ' ') + wrapped("Fix: " + printable(check.fix), kIndent, columns) + "\n";
  print(text);
}

// Everything below this runs only with a broker.
class Examination {
 public:
  Examination(const Context& context, const std::optional<Json>& stats, std::string socket)
      : context_(context),
        stats_(stats),
        socket_(std::move(socket)) {}

  std::vector<Check> run() {
    if (stats_) {
      check_versions();
      check_instance();
      check_socket();
      check_broker_descriptors();
      check_room();
    }
    check_leftovers();
    return std::move(checks_);
  }

 private:
  void add(const char* name, Verdict verdict, std::string found, std::string fix = {}) {
    checks_.push_back({name, verdict, std::move(found), verdict == Verdict::kPass ? std::string() : std::move(fix)});
  }

  void check_versions() {
    const std::string broker = text(*stats_, "version");
    const std::string library = hf_version();
    const std::string found = "broker " + broker + ", library " + library + ", holdfast " + HOLDFAST_VERSION;
    const bool same = broker == library && library == HOLDFAST_VERSION;
    add("versions", same ? Verdict::kPass : Verdict::kWarn, found,
        "They fit as long as protocol and layout do; install one version everywhere, then restart the broker.");
    const control::Spoken theirs{number(*stats_, "protocol_min"), number(*stats_, "protocol"),
                                 number(*stats_, "layout")};
    const control::Spoken ours{control::kProtocolOldest, control::kProtocolVersion, shm::kLayoutVersion};
    add("protocol, layout", control::agreed(theirs, ours) ? Verdict::kPass : Verdict::kFail,
        "broker: " + control::in_words(theirs) + "; ours: " + control::in_words(ours),
        "Install a library and a broker that fit: docs/compatibility.md.");
  }

  void check_instance() {
    const std::string found = text(*stats_, "instance");
    const std::string wanted = instance_of(context_);
    add("instance", found == wanted ? Verdict::kPass : Verdict::kWarn,
        found == wanted ? found : "the broker is " + found + ", asked for was " + wanted,
        "HOLDFAST_SOCKET or --socket names the socket of another instance; unset one of them.");
  }

  void check_socket() {
    struct stat socket{};
    struct stat folder{};
    const std::string directory = socket_.substr(0, std::max<std::size_t>(socket_.rfind('/'), 1));
    if (::stat(socket_.c_str(), &socket) != 0 || ::stat(directory.c_str(), &folder) != 0) return;
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", socket.st_mode & 07777u);
    const std::string found = socket_ + ", mode " + mode + ", uid " + std::to_string(socket.st_uid) + ", gid " +
                              std::to_string(socket.st_gid);
    if ((folder.st_mode & S_IWOTH) != 0 && (folder.st_mode & S_ISVTX) == 0)
      add("socket", Verdict::kFail, found + "; everybody may replace it",
          "Take the right away: chmod o-w " + directory);
    else if ((socket.st_mode & S_IWOTH) != 0)
      add("socket", Verdict::kWarn, found + "; everybody may connect",
          "Unless that is wanted: chmod o-w " + socket_ + ", and let users join its group");
    else
      add("socket", Verdict::kPass, found);
  }

  void check_broker_descriptors() {
    const std::string limits = read_proc("/proc/" + std::to_string(number(*stats_, "pid")) + "/limits");
    const std::size_t at = limits.find("Max open files");
    if (at == std::string::npos) return;  // another user's, or in another pid namespace
    const std::uint64_t soft = std::strtoull(limits.c_str() + at + std::string("Max open files").size(), nullptr, 10);
    const std::uint64_t sessions = number(*stats_, "sessions");
    const bool enough = soft >= 1024 && sessions * 2 < soft;
    add("broker's open files", enough ? Verdict::kPass : Verdict::kWarn,
        "limit " + std::to_string(soft) + ", " + counted(sessions, "session"),
        "Each session takes one or two: raise LimitNOFILE= in the unit, or ulimit -n before holdfastd.");
  }

  void check_room() {
    const std::uint64_t failed = number(*stats_, "replies_failed");
    const std::uint64_t shared = number(*stats_, "segment_bytes");
    const std::uint64_t free = number(*stats_, "shm_free_bytes");
    add("broker's memory", free > shared / 10 ? Verdict::kPass : Verdict::kWarn,
        human_bytes(shared) + " shared, " + human_bytes(free) + " left",
        "See who holds it: holdfast holders. Or enlarge /dev/shm.");
    add("refused requests", Verdict::kPass,
        std::to_string(failed) + " of " + std::to_string(number(*stats_, "requests")));
  }

  void check_leftovers() {
    for (const std::string& instance : instances_with_files()) {
      if (stats_ && instance == text(*stats_, "instance")) continue;
      std::uint64_t unused = 0;
      std::uint64_t bytes = 0;
      for (const Leftover& file : look_at_files(instance)) {
        if (!file.used_by.empty() || !file.unreadable.empty()) continue;
        ++unused;
        bytes += file.bytes;
      }
      if (unused == 0) continue;
      add("leftover files", Verdict::kWarn,
          "instance " + instance + ": " + counted(unused, "file") + ", " + human_bytes(bytes) + ", used by nobody",
          "Start its broker, which sweeps them, or: holdfast gc --instance " + instance);
      return;
    }
    add("leftover files", Verdict::kPass, "none");
  }

  const Context& context_;
  const std::optional<Json>& stats_;
  std::string socket_;
  std::vector<Check> checks_;
};

Check check_broker(const Context& context, std::optional<Json>& stats, std::string& socket, Exit& exit) {
  try {
    const std::int64_t began = now_ns();
    Control control(context);
    socket = control.path();
    stats = control.request("stats");
    return {"broker",
            Verdict::kPass,
            "answers at " + socket + " within " + human_ns(now_ns() - began) + ", pid " +
                std::to_string(number(*stats, "pid")) + ", up " + human_age(number(*stats, "uptime_ms")),
            {}};
  } catch (const Failed& failure) {
    exit = failure.exit();
    return {"broker", Verdict::kFail, failure.what(),
            exit == Exit::kDenied ? "Join the socket's group, or run as the broker's user."
                                  : "Start it: systemctl start holdfastd, or holdfastd in a terminal."};
  }
}

int examine(const Context& context) {
  std::optional<Json> stats;
  std::string socket;
  Exit exit = Exit::kOk;
  std::vector<Check> checks{check_broker(context, stats, socket, exit)};
  for (Check& check : Examination(context, stats, socket).run()) checks.push_back(std::move(check));
  for (Check& check : check_environment()) checks.push_back(std::move(check));
  std::uint64_t warnings = 0;
  std::uint64_t failures = 0;
  for (const Check& check : checks) {
    print_check(check, context.json, is_terminal(STDOUT_FILENO));
    warnings += check.verdict == Verdict::kWarn ? 1 : 0;
    failures += check.verdict == Verdict::kFail ? 1 : 0;
  }
  if (!context.json)
    print("\n" + counted(checks.size(), "check") + ": " + counted(failures, "failure") + ", " +
          counted(warnings, "warning") + "\n");
  if (exit != Exit::kOk) return static_cast<int>(exit);
  return failures == 0 ? 0 : static_cast<int>(Exit::kFailure);
}

}  // namespace

void add_doctor(Commands& commands) {
  CLI::App* doctor = commands.app.add_subcommand("doctor", "Check everything that Holdfast needs, with fixes");
  doctor->final_callback([&commands] { commands.chosen = [&commands] { return examine(commands.context); }; });
}

}  // namespace holdfast::cli
