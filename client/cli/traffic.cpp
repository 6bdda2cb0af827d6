// SPDX-License-Identifier: MIT
#include "client/cli/traffic.hpp"

#include <algorithm>

#include "client/cli/control.hpp"

namespace holdfast::cli {

std::vector<TopicTraffic> Traffic::measure(const std::vector<nlohmann::json>& topics, std::int64_t now_ns) {
  const double seconds = before_ns_ == 0 ? 0 : static_cast<double>(now_ns - before_ns_) / 1e9;
  std::vector<TopicTraffic> measured;
  for (const nlohmann::json& topic : topics) measured.push_back(measure_topic(topic, seconds));
  before_ = std::move(now_);
  now_.clear();
  before_ns_ = now_ns;
  return measured;
}

Traffic::Counters Traffic::grown(const Key& key, const Counters& now) {
  now_[key] = now;
  const auto at = before_.find(key);
  const Counters before = at == before_.end() ? Counters{} : at->second;
  return {now.samples - std::min(now.samples, before.samples),
          now.payload_bytes - std::min(now.payload_bytes, before.payload_bytes),
          now.missed - std::min(now.missed, before.missed)};
}

TopicTraffic Traffic::measure_topic(const nlohmann::json& topic, double seconds) {
  TopicTraffic traffic;
  Counters grew;
  traffic.name = text(topic, "name");
  traffic.publishers = number(topic, "publishers");
  traffic.subscribers = number(topic, "subscribers");
  const nlohmann::json& lanes = list(topic, "lanes");
  const nlohmann::json& subscriptions = list(topic, "subscriptions");
  traffic.partial =
      number(topic, "lanes_count") > lanes.size() || number(topic, "subscriptions_count") > subscriptions.size();
  for (const nlohmann::json& lane : lanes) {
    const Counters now{number(lane, "head"), number(lane, "payload_bytes"), 0};
    const Counters more = grown({number(lane, "lane"), 0}, now);
    grew.samples += more.samples;
    grew.payload_bytes += more.payload_bytes;
    traffic.samples += now.samples;
    traffic.payload_bytes += now.payload_bytes;
    traffic.memory_bytes += number(lane, "bytes");
  }
  for (const nlohmann::json& subscription : subscriptions) {
    for (const nlohmann::json& lane : list(subscription, "lanes")) {
      const Counters now{0, 0, number(lane, "missed")};
      grew.missed += grown({number(lane, "lane"), number(subscription, "handle")}, now).missed;
      traffic.missed += now.missed;
      traffic.lag = std::max(traffic.lag, number(lane, "lag"));
      if (number(lane, "pins") != 0)
        traffic.oldest_pin_ms = std::max(traffic.oldest_pin_ms.value_or(0), number(lane, "oldest_pin_ms"));
    }
  }
  if (seconds > 0) {
    traffic.samples_per_second = static_cast<double>(grew.samples) / seconds;
    traffic.bytes_per_second = static_cast<double>(grew.payload_bytes) / seconds;
    traffic.missed_per_second = static_cast<double>(grew.missed) / seconds;
  }
  return traffic;
}

}  // namespace holdfast::cli
