// SPDX-License-Identifier: MIT
//
// holdfastd: reads what it is told, takes its instance, adopts or sweeps what earlier brokers left, and serves until it is
// told to stop. Set-up and tear-down mirror each other.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include <fcntl.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include "daemon/config.hpp"
#include "daemon/fd_store.hpp"
#include "daemon/instance_lock.hpp"
#include "daemon/listener.hpp"
#include "daemon/registry.hpp"
#include "daemon/segments.hpp"
#include "daemon/server.hpp"
#include "daemon/sweep.hpp"
#include "daemon/systemd.hpp"
#include "proto/shm/atomics.hpp"

namespace holdfast::daemon {

namespace {

constexpr int kUsage = 2;
constexpr broker::TimeMs kDrainDeadlineMs = 2'000;
constexpr std::size_t kDescriptorsForOurselves = 512;  // replies, watches, the registry

struct Arguments {
  Config config;
  bool check_config = false;
};

// Command line over configuration file. Returns the exit status if there is nothing more to do.
std::optional<int> read_arguments(int argc, char** argv, Arguments& arguments) {
  CLI::App app{"The Holdfast broker: it owns the shared memory and the names of one instance."};
  Config given;
  std::string file;
  app.add_option("--instance", given.instance, "name of the instance (HOLDFAST_INSTANCE; default: default)");
  app.add_option("--runtime-dir", given.runtime_dir, "directory for lock and registry (default: the socket's)");
  app.add_option("--socket", given.socket, "path of the control socket (HOLDFAST_SOCKET)");
  app.add_option("--config", file, "configuration file, TOML");
  app.add_flag("--check-config", arguments.check_config, "check the configuration and end");
  std::string log_level;
  app.add_option("--log-level", log_level, "trace, debug, info, warning, error, critical, off");
  app.set_version_flag("--version", "holdfastd " HOLDFAST_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  Config& config = arguments.config;
  std::string wrong;
  if (!file.empty()) wrong = read_config(file, config);
  if (!given.instance.empty()) config.instance = given.instance;
  if (!given.runtime_dir.empty()) config.runtime_dir = given.runtime_dir;
  if (!given.socket.empty()) config.socket = given.socket;
  if (!log_level.empty()) config.log_level = log_level;
  if (wrong.empty()) wrong = complete(config);
  if (wrong.empty() && arguments.check_config) wrong = check_places(config);
  if (!wrong.empty()) {
    std::fprintf(stderr, "holdfastd: %s\n", wrong.c_str());
    return kUsage;
  }
  if (!arguments.check_config) return std::nullopt;
  std::printf("configuration is good: instance %s, socket %s\n", config.instance.c_str(), config.socket.c_str());
  return 0;
}

// As many descriptors as the system lets us have; how many connections that makes. Where other uids may come, a session
// has sealed segments, and each of them is a descriptor.
std::size_t raise_descriptor_limit(bool shared) {
  constexpr std::size_t kDescriptorsOfSharedSession = 4;  // socket, records, bells, a lane
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return broker::kConnectionsMax;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::size_t usable =
      limit.rlim_cur > 2 * kDescriptorsForOurselves ? limit.rlim_cur - kDescriptorsForOurselves : limit.rlim_cur / 2;
  return std::min(shared ? usable / kDescriptorsOfSharedSession : usable, broker::kConnectionsMax);
}

// First of all: what we open later must never become our standard input, output or error. Those that
// are closed become /dev/null, open for reading: a write to them fails, as it did before. False: there is no /dev/null.
bool keep_standard_descriptors() {
  // open() takes the lowest number that is free.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDONLY) != fd) return false;
  return true;
}

int fail(const std::string& why) {
  spdlog::error("{}", why);
  return 1;
}

std::string no_roster(const broker::Outcome& outcome) {
  if (*outcome.failure != control::Failure::kNoMemory)
    return "cannot make the roster in /dev/shm: " + outcome.call + ": " + std::strerror(outcome.error);
  return "no memory for the roster: it takes " + std::to_string(outcome.asked_bytes) + " bytes of /dev/shm, " +
         std::to_string(outcome.free_bytes) +
         " are free; remove what fills it (ls -l /dev/shm, holdfast gc), or make it larger (mount -o remount,size=…, "
         "docker run --shm-size)";
}

// What was found of an earlier broker, once it has been looked at.
struct Found {
  broker::RegistryRows rows;
  std::set<broker::SegmentId> lost;
  std::set<broker::SessionId> ended;  // their files have a name, and are not there
  std::set<std::string> names;  // of the files that were adopted
  broker::SegmentId roster = 0;  // 0: there is nothing to adopt
};

// Takes over the segments that the registry lists. Returns why none of it can be, or "".
std::string find_earlier(const Registry& registry, Segments& segments, Legacy legacy, Found& found) {
  if (legacy.rows.sessions.empty() && legacy.rows.segments.empty()) return "";
  if (std::string wrong = broker::check_rows(legacy.rows); !wrong.empty()) return wrong;
  for (const broker::SegmentFacts& facts : legacy.rows.segments) {
    const std::string why = segments.adopt(facts, legacy.names[facts.id]);
    if (facts.kind == shm::SegmentKind::kRoster) {
      if (!why.empty()) return "the roster is lost: " + why;
      found.roster = facts.id;
    }
    if (why.empty()) {
      found.names.insert(legacy.names[facts.id]);
    } else {
      spdlog::warn("segment {} of an earlier broker is lost: {}", facts.id, why);
      found.lost.insert(facts.id);
      // Whoever held its lock holds nothing that we could ask.
      if (facts.kind == shm::SegmentKind::kSession && !facts.sealed && segment_file_is_missing(legacy.names[facts.id]))
        found.ended.insert(facts.session);
    }
  }
  if (segments.noted_commits() > registry.commits())
    return "it is older than the shared memory that it describes: " + std::to_string(registry.commits()) +
           " commits of " + std::to_string(segments.noted_commits());
  found.rows = std::move(legacy.rows);
  return "";
}

// The roster, an earlier broker's or a new one. Returns what went wrong, or "".
std::string set_up_roster(const Found& found, Registry& registry, Segments& segments, broker::BrokerSetup& setup) {
  if (found.roster != 0) {
    setup.roster = found.roster;
    for (const broker::SegmentFacts& facts : found.rows.segments)
      if (facts.id == found.roster) setup.roster_bytes = facts.bytes;
    return "";
  }
  setup.last_id = registry.last_id() + 1;
  setup.roster = setup.last_id;
  broker::CreateSegment roster;
  roster.facts.id = setup.roster;
  roster.facts.kind = shm::SegmentKind::kRoster;
  roster.facts.bytes = setup.roster_bytes;
  roster.facts.reserve_bytes = shm::kRosterReserve;
  roster.facts.created_ms = monotonic_ms();
  if (const broker::Outcome made = segments.run(roster); made.failure) return no_roster(made);
  registry.put(roster.facts, segments.name(setup.roster));
  return registry.commit();
}

// Who is told twice to stop stops once: the signals get their default action back with `signals`, before what follows is
// done.
void hold_back_signals() {
  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&ends, signal);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
}

// Serves until a signal ends it. SIGTERM and SIGINT: for good. SIGUSR1: `handed_over`, the next broker goes on with what is
// there. Requires: the instance's lock is held, the registry is open.
int serve(const Config& config, Listener& listener, Registry& registry, FdStore& store, bool& handed_over) {
  auto segments = std::make_unique<Segments>(config.instance, registry.epoch(), store);
  Found found;
  Legacy legacy;
  std::string why = registry.load(legacy);
  if (why.empty()) why = find_earlier(registry, *segments, std::move(legacy), found);
  if (!why.empty()) {
    std::string sentence;
    if (std::string wrong = registry.set_aside(why, sentence); !wrong.empty()) return fail(wrong);
    spdlog::warn("{}", sentence);
    found = {};
    segments = std::make_unique<Segments>(config.instance, registry.epoch(), store);
    store.drop_all();
  }
  if (const std::size_t dropped = store.drop_untaken(); dropped > 0)
    spdlog::info("dropped {} sealed segments of earlier brokers that no row names", dropped);
  Swept swept = sweep(config.instance, found.names);
  if (swept.removed > 0 || !swept.left.empty())
    spdlog::info("swept {} segments of earlier brokers; {} of their sessions still live", swept.removed,
                 swept.left.size());

  broker::BrokerSetup setup;
  setup.instance = config.instance;
  setup.version = HOLDFAST_VERSION;
  setup.epoch = registry.epoch();
  setup.uid = ::geteuid();
  setup.stored = store.there();
  setup.session_bytes_max = config.session_bytes_max;
  setup.sessions_max = config.sessions;
  setup.connections_per_uid = config.connections_per_uid;
  setup.last_session = registry.last_session();
  setup.last_id = registry.last_id();
  setup.started_ms = monotonic_ms();
  if (std::string wrong = listener.find_group(config, setup.group); !wrong.empty()) return fail(wrong);
  setup.connections_max = raise_descriptor_limit(setup.group.has_value());
  if (std::string wrong = set_up_roster(found, registry, *segments, setup); !wrong.empty()) return fail(wrong);
  segments->own();

  if (!shm::register_membarrier()) spdlog::warn("no membarrier here: ringing is slower");
  boost::asio::io_context io(1);
  About about;
  about.instance = config.instance;
  about.version = HOLDFAST_VERSION;
  about.epoch = registry.epoch();
  about.started_ms = monotonic_ms();
  about.swept_segments = swept.removed;
  Server server(io, std::move(setup), *segments, registry, std::move(about));
  if (found.roster != 0) server.adopt(found.rows, std::move(found.lost), std::move(found.ended));
  server.watch_leftovers(std::move(swept.left));
  boost::asio::signal_set signals(io, SIGTERM, SIGINT, SIGUSR1);
  signals.async_wait([&](const boost::system::error_code& error, int signal) {
    if (error) return;
    handed_over = signal == SIGUSR1;
    notify("STOPPING=1\nSTATUS=draining");
    server.drain(kDrainDeadlineMs, handed_over);
  });
  server.listen(listener.take());
  const Watchdog watchdog(io);
  spdlog::info("instance {} serves at {}, epoch {}", config.instance, config.socket, registry.epoch());
  notify("READY=1\nSTATUS=serving " + config.instance + " at " + config.socket);
  io.run();
  hold_back_signals();
  // Rows go before the files that they name.
  if (handed_over)
    segments->leave();
  else
    registry.remove();
  spdlog::info(handed_over ? "stopped; the next broker goes on" : "stopped");
  return 0;
}

int run(const Config& config) {
  // Destroyed in the reverse order: the directory goes last but for the lock of the instance, which was there before
  // anything else was touched.
  InstanceLock everywhere;
  std::string in_the_way;
  std::string wrong = everywhere.take_shared(config.instance, config.runtime_dir, in_the_way);
  if (!in_the_way.empty()) spdlog::warn("{}", in_the_way);
  if (!wrong.empty()) return fail(wrong);
  Listener listener;
  if (wrong = listener.make_directory(config); !wrong.empty()) return fail(wrong);
  InstanceLock lock;
  if (wrong = lock.take(config.runtime_dir + "/" + config.instance + ".lock", config.runtime_dir); !wrong.empty())
    return fail(wrong);
  Passed passed = passed_descriptors();
  if (!passed.error.empty()) return fail(passed.error);
  if (passed.socket)
    listener.adopt(std::move(passed.socket));
  else if (wrong = listener.bind(config); !wrong.empty())
    return fail(wrong);
  FdStore store(fd_store_limit(), std::move(passed.stored));
  int status = 1;
  {
    Registry registry;
    std::string set_aside;
    const std::string path = config.runtime_dir + "/" + config.instance + ".db";
    const bool known = ::access(path.c_str(), F_OK) == 0;
    wrong = registry.open(path, set_aside);
    if (!set_aside.empty()) spdlog::warn("{}", set_aside);
    if (!registry.note().empty()) spdlog::info("{}", registry.note());
    bool handed_over = false;
    status = wrong.empty() ? serve(config, listener, registry, store, handed_over) : fail(wrong);
    // A start that fails leaves what it found: an earlier broker's ids are never given again.
    if (status != 0 && (!known || !set_aside.empty())) registry.remove();
  }
  listener.remove_socket();
  return status;
}

}  // namespace

}  // namespace holdfast::daemon

int main(int argc, char** argv) {
  using namespace holdfast::daemon;
  if (!keep_standard_descriptors()) {
    std::fputs("holdfastd: standard input, output or error is closed, and there is no /dev/null\n", stderr);
    return 1;
  }
  try {
    Arguments arguments;
    if (const auto status = read_arguments(argc, argv, arguments)) return *status;
    spdlog::set_default_logger(spdlog::stderr_logger_st("holdfastd"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    spdlog::set_level(spdlog::level::from_str(arguments.config.log_level));
    // Registry and lock are for the broker's user and its group; the socket and the segments set their own modes.
    ::umask(0027);
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);
    return run(arguments.config);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "holdfastd: %s\n", error.what());
    return 1;
  }
}
