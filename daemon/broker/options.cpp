// SPDX-License-Identifier: MIT
#include "daemon/broker/options.hpp"

#include <algorithm>

#include "daemon/broker/limits.hpp"
#include "daemon/broker/params.hpp"

namespace holdfast::broker {

namespace {

constexpr const char* kClocks[] = {"none", "coarse", "exact"};
constexpr const char* kBackings[] = {"auto", "named", "sealed"};

std::optional<std::uint32_t> narrow(std::optional<std::uint64_t> value) {
  if (!value) return std::nullopt;
  return static_cast<std::uint32_t>(*value);
}

// A text for a sentence: strings bare, everything else as JSON.
std::string shown(const nlohmann::json& value) {
  return value.is_string() ? value.get_ref<const std::string&>()
                           : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class Fitting {
 public:
  explicit Fitting(const std::string& topic) : topic_(topic) {}

  template <class T>
  void compare(const char* option, const std::optional<T>& asked, const T& has) {
    if (asked && *asked != has) differ(option, nlohmann::json(has), nlohmann::json(*asked));
  }

  void differ(const char* option, nlohmann::json has, nlohmann::json asked) {
    if (refusal_) return;
    refusal_.emplace(control::Failure::kMismatch,
                     "topic \"" + topic_ + "\" has " + option + " " + shown(has) + ", asked for was " + shown(asked) +
                         ": ask for the same, or leave the option out",
                     nlohmann::json{{"option", option}, {"topic", std::move(has)}, {"asked", std::move(asked)}});
  }

  std::optional<Refusal> result() { return std::move(refusal_); }

 private:
  const std::string& topic_;
  std::optional<Refusal> refusal_;
};

std::string normal_hash(std::string hash) {
  std::transform(hash.begin(), hash.end(), hash.begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
  hash.insert(0, 16 - hash.size(), '0');
  return hash;
}

bool is_hex(const std::string& text) { return text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos; }

}  // namespace

const char* name_of(Clock clock) { return kClocks[static_cast<std::size_t>(clock)]; }
const char* name_of(Backing backing) { return kBackings[static_cast<std::size_t>(backing)]; }

bool AskedOptions::names_any() const {
  return ring || chunks_max || clock || exclusive || backing || depth || linger_ms || stall_timeout_ms;
}

std::optional<TopicType> read_type(Params& params) {
  auto given = params.object("type");
  if (!given) return std::nullopt;
  TopicType type;
  type.name = given->required_text("name", kTypeNameBytesMax);
  if (given->ok() && type.name.empty()) given->refuse("name", "must not be empty");
  type.bytes = given->required_number("bytes", 0, shm::kPayloadBytesMax);
  type.align = given->required_number("align", 1, shm::kPage);
  if (given->ok() && !shm::is_power_of_two(type.align)) given->refuse("align", "must be a power of two");
  if (const auto hash = given->text("hash", 16)) {
    if (hash->empty() || !is_hex(*hash))
      given->refuse("hash", "must be 1 to 16 hexadecimal digits");
    else
      type.hash = normal_hash(*hash);
  }
  given->finish();
  return type;
}

AskedOptions read_options(Params& options) {
  AskedOptions asked;
  asked.ring = narrow(options.number("ring", shm::kRingSlotsMin, shm::kRingSlotsMax));
  if (asked.ring && !shm::is_power_of_two(*asked.ring)) options.refuse("ring", "must be a power of two");
  asked.chunks_max = narrow(options.number("chunks_max", shm::kChunksDefault, shm::kChunksMax));
  if (asked.chunks_max && *asked.chunks_max % 64 != 0) options.refuse("chunks_max", "must be a multiple of 64");
  if (const auto clock = options.choice("clock", {kClocks[0], kClocks[1], kClocks[2]}))
    asked.clock = static_cast<Clock>(*clock);
  asked.exclusive = options.flag("exclusive");
  if (const auto backing = options.choice("backing", {kBackings[0], kBackings[1], kBackings[2]}))
    if (*backing != 0) asked.backing = static_cast<Backing>(*backing);
  asked.depth = narrow(options.number("depth", 1, shm::kRingSlotsMax / 4 * 3));
  asked.linger_ms = options.signed_number("linger_ms", -1, kTimeoutMsMax);
  asked.stall_timeout_ms = options.signed_number("stall_timeout_ms", -1, kTimeoutMsMax);
  asked.bytes_max = options.number("bytes_max", shm::kPage, kLaneBytesMax);
  asked.type = read_type(options);
  options.finish();
  return asked;
}

std::optional<Refusal> settle(const AskedOptions& asked, TopicOptions& options) {
  options.ring = asked.ring.value_or(options.ring);
  options.chunks_max = asked.chunks_max.value_or(options.chunks_max);
  options.clock = asked.clock.value_or(options.clock);
  options.exclusive = asked.exclusive.value_or(options.exclusive);
  options.backing = asked.backing.value_or(options.backing);
  options.depth = asked.depth.value_or(options.depth);
  options.linger_ms = asked.linger_ms.value_or(options.linger_ms);
  options.stall_timeout_ms = asked.stall_timeout_ms.value_or(options.stall_timeout_ms);
  if (options.depth <= options.ring / 4 * 3) return std::nullopt;
  return Refusal(
      control::Failure::kInvalid,
      "parameter \"options.depth\" must be at most three quarters of the ring: " + std::to_string(options.depth) +
          " of " + std::to_string(options.ring) + " slots; ask for a larger ring",
      {{"parameter", "options.depth"}});
}

std::optional<Refusal> fit(const AskedOptions& asked, const std::string& topic, const TopicOptions& options,
                           const TopicType& type) {
  Fitting fitting(topic);
  fitting.compare("ring", asked.ring, options.ring);
  fitting.compare("chunks_max", asked.chunks_max, options.chunks_max);
  if (asked.clock && *asked.clock != options.clock)
    fitting.differ("clock", name_of(options.clock), name_of(*asked.clock));
  fitting.compare("exclusive", asked.exclusive, options.exclusive);
  if (asked.backing && *asked.backing != options.backing)
    fitting.differ("backing", name_of(options.backing), name_of(*asked.backing));
  fitting.compare("depth", asked.depth, options.depth);
  fitting.compare("linger_ms", asked.linger_ms, options.linger_ms);
  fitting.compare("stall_timeout_ms", asked.stall_timeout_ms, options.stall_timeout_ms);
  if (asked.type && !type.name.empty()) {
    const bool hashes_differ = !asked.type->hash.empty() && !type.hash.empty() && asked.type->hash != type.hash;
    if (asked.type->name != type.name || asked.type->bytes != type.bytes || asked.type->align != type.align ||
        hashes_differ)
      fitting.differ("type", type_json(type), type_json(*asked.type));
  }
  return fitting.result();
}

nlohmann::json type_json(const TopicType& type) {
  if (type.name.empty()) return nullptr;
  nlohmann::json json{{"name", type.name}, {"bytes", type.bytes}, {"align", type.align}};
  if (!type.hash.empty()) json["hash"] = type.hash;
  return json;
}

nlohmann::json options_json(const TopicOptions& options, const TopicType& type) {
  return {{"ring", options.ring},
          {"chunks_max", options.chunks_max},
          {"clock", name_of(options.clock)},
          {"exclusive", options.exclusive},
          {"backing", name_of(options.backing)},
          {"depth", options.depth},
          {"linger_ms", options.linger_ms},
          {"stall_timeout_ms", options.stall_timeout_ms},
          {"type", type_json(type)}};
}

}  // namespace holdfast::broker
