// SPDX-License-Identifier: MIT
//
// The role "client": the other side of RemoteClient. One thread; each command is answered before the next is read.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "holdfast/holdfast.hpp"
#include "tests/integration/other_user.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process.hpp"
#include "tests/integration/process_state.hpp"

namespace holdfast::integration {

namespace {

using nlohmann::json;

class Remote {
 public:
  Remote(Channel& test, const Arguments& arguments) : test_(test), socket_(arguments.at(0)) {
    ClientOptions options;
    options.socket = socket_;
    options.name = arguments.at(1);
    client_.emplace(Client::connect_or_throw(options));
  }

  json run(const json& command) {
    const std::string what = command.at("do");
    if (what == "session") return {{"session", client_->session()}};
    if (what == "subscribe") return subscribe(command);
    if (what == "open_publisher") return open_publisher(command);
    if (what == "take") return take(command.at("samples"), false);
    if (what == "hold") return take(command.at("samples"), true);
    if (what == "take_until_ended") return take_until_ended(command.at("ends"));
    if (what == "check_views") return check_views();
    if (what == "publish") return publish(command);
    if (what == "publish_until_told") return publish_until_told(command);
    if (what == "open_until_told") return open_until_told(command.at("topic"));
    if (what == "loan") return loan(command.at("bytes"));
    if (what == "drain") return drain();
    if (what == "echo") return echo(command.at("samples"));
    if (what == "take_ends") return take_ends(command.at("end_bytes"));
    return let_go(what);
  }

 private:
  struct Count {
    std::uint64_t samples = 0, bytes = 0, torn = 0, disorder = 0, missed = 0, turned = 0, finished = 0, aborted = 0,
                  corrupt = 0, first = 0, last = 0;
    std::map<std::uint32_t, std::uint64_t> next;  // position, by publisher

    json answer() const {
      return {{"samples", samples}, {"bytes", bytes},   {"torn", torn},         {"disorder", disorder},
              {"missed", missed},   {"turned", turned}, {"finished", finished}, {"aborted", aborted},
              {"corrupt", corrupt}, {"first", first},   {"last", last}};
    }
  };

  static json refused(const Error& error) { return {{"code", error.code}, {"sentence", error.sentence}}; }

  json subscribe(const json& command) {
    SubscriberOptions options;
    options.lossless = command.at("lossless");
    options.start = command.at("start");
    auto opened = client_->subscriber(command.at("topic"), options);
    if (!opened) return refused(opened.error());
    subscriber_.emplace(std::move(*opened));
    return {{"code", HF_OK}};
  }

  json open_publisher(const json& command) {
    const json& given = command.at("options");
    PublisherOptions options;
    options.ring_slots = given.value("ring", 0u);
    options.chunks_max = given.value("chunks_max", 0u);
    options.depth = given.value("depth", 0u);
    options.exclusive = given.value("exclusive", false);
    options.backing = given.value("backing", 0);
    options.linger = Timeout(given.value("linger_ns", std::int64_t{0}));
    options.stall_timeout = Timeout(given.value("stall_timeout_ns", std::int64_t{0}));
    auto opened = client_->publisher(command.at("topic"), options);
    if (!opened) return refused(opened.error());
    publisher_.emplace(std::move(*opened));
    return {{"code", HF_OK}};
  }

  // One take, into `count_`. The view if it is a sample.
  std::optional<View> take_one(Timeout timeout) {
    View view;
    auto result = subscriber_->take(view, timeout);
    if (!result) {
      if (result.error().code != HF_E_CORRUPT) throw Exception(result.error());
      ++count_.corrupt;
      return std::nullopt;
    }
    switch (*result) {
      case Status::kOk:
        count_sample(view);
        return view;
      case Status::kLapped:
        count_.missed += view.missed();
        count_.turned += view.turned() ? 1 : 0;
        if (count_.next.count(view.publisher()) != 0) count_.next[view.publisher()] += view.missed();
        return std::nullopt;
      case Status::kFinished:
        ++count_.finished;
        return std::nullopt;
      case Status::kAborted:
        ++count_.aborted;
        return std::nullopt;
      default:
        throw Broken("nothing to take before the deadline; until then " + count_.answer().dump());
    }
  }

  void count_sample(View& view) {
    if (count_.samples++ == 0) count_.first = view.position();
    count_.last = view.position();
    count_.bytes += view.bytes();
    if (!sample_is_whole(view)) ++count_.torn;
    const auto [next, first] = count_.next.try_emplace(view.publisher(), view.position());
    if (next->second != view.position()) ++count_.disorder;
    next->second = view.position() + 1;
  }

  json take(std::uint64_t samples, bool keep) {
    count_ = Count{};
    while (count_.samples < samples && count_.finished + count_.aborted == 0)
      if (auto view = take_one(kSoon); view && keep) views_.push_back(std::move(*view));
    return count_.answer();
  }

  json take_until_ended(std::uint64_t ends) {
    count_ = Count{};
    while (count_.finished + count_.aborted < ends) (void)take_one(kSoon);
    return count_.answer();
  }

  json check_views() {
    std::uint64_t spoilt = 0;
    for (View& view : views_) spoilt += sample_is_whole(view) ? 0 : 1;
    return {{"spoilt", spoilt}, {"views", views_.size()}};
  }

  json publish(const json& command) {
    const std::uint64_t samples = command.at("samples");
    const std::uint32_t seed = command.at("seed");
    for (std::uint64_t i = 0; i < samples; ++i)
      if (publish_sample(*publisher_, command.at("bytes"), seed + static_cast<std::uint32_t>(i), kSoon) != Status::kOk)
        throw Broken("no room before the deadline");
    return {{"position", publisher_->position()}};
  }

  // Until the next command is there. Sizes go from some bytes, inline, to `bytes`.
  json publish_until_told(const json& command) {
    const std::uint64_t bytes = command.at("bytes");
    std::uint32_t seed = 0;
    for (; !test_.has_message(); ++seed)
      if (publish_sample(*publisher_, seed % 5 == 0 ? 16 : bytes * (seed % 5) / 4, seed, kSoon) != Status::kOk)
        throw Broken("no room before the deadline");
    return {{"published", seed}};
  }

  // Asks the broker all the time, until the next command is there. One that is shutting down, or away, is asked again.
  json open_until_told(const std::string& topic) {
    std::uint64_t opened = 0;
    while (!test_.has_message()) {
      auto publisher = client_->publisher(topic);
      if (!publisher && publisher.error().code != HF_E_NO_BROKER) throw Exception(publisher.error());
      if (!publisher) continue;
      auto subscriber = client_->subscriber(topic);
      if (!subscriber && subscriber.error().code != HF_E_NO_BROKER) throw Exception(subscriber.error());
      if (!subscriber) continue;
      publish_sample(*publisher, 16, 1, kSoon);
      View view;
      if (subscriber->take(view, kSoon).or_throw() != Status::kOk) throw Broken("a sample is lost");
      ++opened;
    }
    return {{"opened", opened}};
  }

  json loan(std::uint64_t bytes) {
    loans_.push_back(publisher_->loan_or_throw(bytes));
    fill_payload(loans_.back().data(), bytes / 2, 1);
    return json::object();
  }

  json drain() {
    if (publisher_->drain(kSoon).or_throw() != Status::kOk) throw Broken("not drained before the deadline");
    return json::object();
  }

  // Sends back every sample: its size and its tag.
  json echo(std::uint64_t samples) {
    count_ = Count{};
    while (count_.samples < samples)
      if (const auto view = take_one(kSoon)) publish_sample(*publisher_, view->bytes(), view->type(), kSoon);
    return {{"echoed", count_.samples}};
  }

  // One sample of which only the first and the last bytes were written, with seeds 1 and 2.
  json take_ends(std::uint64_t end_bytes) {
    View view;
    if (subscriber_->take(view, kSoon).or_throw() != Status::kOk || view.bytes() < 2 * end_bytes)
      throw Broken("not the sample that was expected");
    const auto* bytes = static_cast<const unsigned char*>(view.data());
    return {{"bytes", view.bytes()},
            {"begin_whole", payload_matches(bytes, end_bytes, 1)},
            {"end_whole", payload_matches(bytes + view.bytes() - end_bytes, end_bytes, 2)}};
  }

  json let_go(const std::string& what) {
    if (what == "release_views") {
      views_.clear();
    } else if (what == "close_subscriber") {
      subscriber_.reset();
    } else if (what == "close_publisher") {
      publisher_.reset();
    } else if (what == "close_client") {
      client_.reset();
    } else if (what == "ping") {
      (void)client_->ping();
    } else if (what == "cut_connection") {
      const int fd = connection_to(socket_);
      if (fd < 0 || ::shutdown(fd, SHUT_RDWR) != 0) throw Broken("no connection to cut");
    } else {
      throw Broken("unknown command " + what);
    }
    return json::object();
  }

  Channel& test_;
  std::string socket_;
  std::optional<Client> client_;
  std::optional<Publisher> publisher_;
  std::optional<Subscriber> subscriber_;
  std::vector<View> views_;
  std::vector<Loan> loans_;
  Count count_;
};

int remote_client(Channel& test, const Arguments& arguments) {
  const auto user = static_cast<uid_t>(std::stoul(arguments.at(2)));
  if (user != 0 && !become_other_user(true, user)) return 1;
  {
    Remote remote(test, arguments);
    for (json command = test.receive(10 * kSoon); !command.is_null(); command = test.receive(10 * kSoon)) {
      json answer;
      try {
        answer = remote.run(command);
      } catch (const std::exception& error) {
        answer = {{"broken", error.what()}};
      }
      test.send(answer);
    }
  }
  if (user != 0) ::_exit(0);  // a leak checker cannot look at a process that changed its user
  return 0;
}

const Role kRemote("client", remote_client);

}  // namespace

}  // namespace holdfast::integration
