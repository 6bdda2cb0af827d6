// SPDX-License-Identifier: MIT
//
// `holdfast gc`: removes what a broker that was killed left in /dev/shm and nobody uses. A broker sweeps by itself when it
// starts, and cleans up while it runs, so this is for an instance that will not come back. It shows what would go;
// --yes removes it. The instance's lock keeps a broker from starting meanwhile.
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include "client/cli/context.hpp"
#include "client/cli/control.hpp"
#include "client/cli/files.hpp"
#include "client/cli/leftovers.hpp"
#include "client/cli/output.hpp"
#include "client/cli/table.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {

using Json = nlohmann::json;

// What the instance's broker says to `ping`, if it answers.
std::optional<Json> ask_broker(const Context& context) {
  try {
    Control control(context);
    Json reply = control.request("ping");
    if (text(reply, "instance") == instance_of(context)) return reply;
    return std::nullopt;
  } catch (const Failed& failure) {
    if (failure.exit() == Exit::kNoBroker) return std::nullopt;
    throw;
  }
}

// Takes a lock that a broker holds as long as it lives; nothing if the file is not there.
void take_lock(const Context& context, const std::string& path, std::vector<File>& locks) {
  File lock(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (lock.fd() < 0 && errno == ENOENT) return;
  if (lock.fd() < 0)
    throw Failed(errno == EACCES ? Exit::kDenied : Exit::kFailure, "lock",
                 path + " cannot be opened: " + std::strerror(errno) + "; run as the broker's user");
  if (::flock(lock.fd(), LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    const std::string holder = ::pread(lock.fd(), pid, sizeof pid - 1, 0) > 0 ? std::string(pid) : "unknown";
    throw Failed(Exit::kFailure, "locked",
                 "the broker of instance " + instance_of(context) + ", pid " + holder.substr(0, holder.find('\n')) +
                     ", holds " + path + " but does not answer here; stop it first, or give its --socket");
  }
  locks.push_back(std::move(lock));
}

// The locks of the instance: those of its runtime directories, and those in /dev/shm that we may look at.
std::vector<File> take_locks(const Context& context, const std::vector<Leftover>& files) {
  std::vector<File> locks;
  for (const std::string& socket : socket_paths(context))
    take_lock(context, socket.substr(0, socket.rfind('/') + 1) + instance_of(context) + ".lock", locks);
  for (const Leftover& file : files)
    if (file.kind == kLockKind && file.unreadable.empty()) take_lock(context, "/dev/shm/" + file.name, locks);
  return locks;
}

// What becomes of a file.
const char* fate(const Leftover& file, bool removed) {
  if (!file.unreadable.empty()) return "unknown";
  if (!file.used_by.empty()) return "kept";
  return removed ? "removed" : "would go";
}

void print_files(const std::vector<Leftover>& files, bool json, bool removed) {
  Table table({{"FATE"},
               {"KIND"},
               {"SIZE", Table::Align::kRight},
               {"FILE", Table::Align::kLeft, true},
               {"WHY", Table::Align::kLeft, true}});
  for (const Leftover& file : files) {
    const std::string why = !file.unreadable.empty() ? file.unreadable : file.used_by;
    if (json)
      print_json({{"file", "/dev/shm/" + file.name},
                  {"kind", file.kind},
                  {"bytes", file.bytes},
                  {"session", file.session},
                  {"fate", fate(file, removed)},
                  {"why", why.empty() ? "nobody uses it" : why}});
    else
      table.add(
          {fate(file, removed), file.kind, human_bytes(file.bytes), file.name, why.empty() ? "nobody uses it" : why});
  }
  if (!json && table.size() > 0) table.print();
}

void remove_unused(const std::vector<Leftover>& files) {
  std::string failed;
  const auto remove = [&](bool locks) {
    for (const Leftover& file : files) {
      if (!file.used_by.empty() || !file.unreadable.empty() || (file.kind == kLockKind) != locks) continue;
      if (::shm_unlink(("/" + file.name).c_str()) != 0 && errno != ENOENT)
        failed += (failed.empty() ? "" : ", ") + file.name + " (" + std::strerror(errno) + ")";
    }
  };
  remove(false);
  remove(true);  // from now on a broker may start
  if (!failed.empty())
    throw Failed(Exit::kDenied, "denied", "not removed: " + failed + "; run as the user that owns them");
}

int collect(const Context& context, bool remove) {
  const std::string instance = instance_of(context);
  if (const auto broker = ask_broker(context)) {
    if (context.json)
      print_json({{"instance", instance}, {"broker", "running"}, {"removed", 0}});
    else
      print("The broker of instance " + printable(instance) + " runs and cleans up by itself: nothing to do.\n");
    return 0;
  }
  const std::vector<File> locks = take_locks(context, look_at_files(instance));
  const std::vector<Leftover> files = look_at_files(instance);
  std::uint64_t bytes = 0;
  std::uint64_t unused = 0;
  std::uint64_t unreadable = 0;
  for (const Leftover& file : files) {
    if (!file.unreadable.empty()) ++unreadable;
    if (!file.used_by.empty() || !file.unreadable.empty()) continue;
    ++unused;
    bytes += file.bytes;
  }
  if (remove) remove_unused(files);
  print_files(files, context.json, remove);
  if (context.json) {
    print_json({{"instance", instance},
                {"broker", "none"},
                {"removed", remove ? unused : 0},
                {"unused", unused},
                {"unused_bytes", bytes}});
  } else if (unused == 0) {
    print("Instance " + printable(instance) + ": nothing to remove.\n");
  } else {
    print("Instance " + printable(instance) + ": " + counted(unused, "file") + " with " + human_bytes(bytes) +
          (remove ? " removed.\n" : " would go. Remove with: holdfast gc --yes --instance " + instance + "\n"));
  }
  if (unreadable != 0)
    throw Failed(Exit::kDenied, "denied",
                 counted(unreadable, "file") + " of the instance cannot be looked at; run as the user that owns them");
  return 0;
}

}  // namespace

void add_gc(Commands& commands) {
  auto yes = std::make_shared<bool>(false);
  CLI::App* gc = commands.app.add_subcommand("gc", "Find files that a killed broker left; --yes removes");
  gc->add_flag("--yes", *yes, "Remove what the list says would go");
  gc->final_callback(
      [&commands, yes] { commands.chosen = [&commands, yes] { return collect(commands.context, *yes); }; });
}

}  // namespace holdfast::cli
