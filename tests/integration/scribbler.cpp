// SPDX-License-Identifier: MIT
//
// The role "scribbler": a publisher whose thread writes nonsense over its whole lane, header and ring included, while it goes
// on publishing. The role "survivor": a subscriber that must come out of it. What is scribbled is half random, half near
// enough to the truth to get past the first checks.
//
// A lane whose state word is hit ends for its readers, so the scribbler opens a new one every now and then.
#include <atomic>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>

#include "holdfast/holdfast.hpp"
#include "proto/shm/lane_layout.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process.hpp"
#include "tests/integration/process_state.hpp"

namespace holdfast::integration {

namespace {

constexpr std::uint32_t kRing = 16;

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1d;
  }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }

 private:
  std::uint64_t state_;
};

// Two threads of this process write the same memory, on purpose; the thread sanitizer need not know.
#if defined(__clang__)
__attribute__((disable_sanitizer_instrumentation))
#endif
void store(std::uint8_t* at, std::uint64_t value) {
  *reinterpret_cast<volatile std::uint64_t*>(at) = value;
}

// A word that some check may take for a good one.
std::uint64_t plausible(Random& random, std::uint64_t position, std::uint64_t lane_bytes) {
  switch (random.below(8)) {
    case 0:
      return shm::stamp_of(position + random.below(2 * kRing));
    case 1:
      return shm::stamp_of(position - random.below(kRing));
    case 2:
      return random.below(33) | shm::kFlagInline;
    case 3:
      return random.below(lane_bytes + 8192) / 64 * 64;
    case 4:
      return lane_bytes - random.below(8192);
    case 5:
      return random.below(128);
    case 6:
      return (random.next() << 32) | random.below(70'000);
    default:
      return random.next();
  }
}

struct Target {
  std::uint8_t* lane;
  std::uint64_t bytes;
};

// A slot whose stamp says that it is complete, with fields that are nonsense or nearly right.
void forge_slot(const Target& target, std::uint64_t position, Random& random) {
  const std::uint64_t forged = position - kRing + random.below(2 * kRing);
  std::uint8_t* slot = target.lane + shm::kRingOffset + forged % kRing * sizeof(shm::Slot);
  for (std::uint64_t field = 1; field < 8; ++field)
    if (random.below(3) == 0) store(slot + 8 * field, plausible(random, position, target.bytes));
  store(slot, shm::stamp_of(forged));
}

// Head and floor within a ring of the truth: readers jump, and come back to slots that exist.
void forge_header(const Target& target, std::uint64_t position, Random& random) {
  const std::uint64_t offset =
      random.below(2) == 0 ? offsetof(shm::LaneHeader, head) : offsetof(shm::LaneHeader, floor);
  store(target.lane + offset, position - random.below(2 * kRing));
}

// Anything, anywhere.
void scribble_anywhere(const Target& target, std::uint64_t position, Random& random) {
  const std::uint64_t ring_end = shm::chunks_offset(kRing);
  const std::uint64_t offset = random.below(random.below(4) == 0 ? target.bytes : ring_end) / 8 * 8;
  store(target.lane + offset, plausible(random, position, target.bytes));
}

// `wild`: the state of the lane and the whole header are hit, too; readers see its end, or positions from far away.
void scribble(const Target& target, std::uint64_t position, Random& random, bool wild) {
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t kind = random.below(16);
    if (kind < 10)
      forge_slot(target, position, random);
    else if (kind < 12)
      forge_header(target, position, random);
    else if (wild)
      scribble_anywhere(target, position, random);
    else  // ring and chunks
      store(target.lane + shm::kRingOffset + random.below(target.bytes - shm::kRingOffset) / 8 * 8, random.next());
  }
}

// One lane, from its first sample to its end.
std::uint64_t scribble_one_lane(Client& client, const std::string& topic, Random& random) {
  Publisher publisher = client.publisher_or_throw(topic);
  Loan first = publisher.loan_or_throw(20'000);
  const MappedRange range = mapping_of(first.data());
  auto* lane = static_cast<std::uint8_t*>(range.address());
  const std::uint64_t bytes = std::filesystem::file_size(range.path);  // the mapping reaches further
  first.publish(kLook).or_throw();
  const auto wild_from = now() + milliseconds(250);
  const auto until = wild_from + milliseconds(50);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> position{2 * kRing};
  std::thread scribbling([&, seed = random.next()] {
    Random own(seed);
    while (!stop) scribble({lane, bytes}, position, own, now() >= wild_from);
  });
  std::uint64_t published = 0;
  while (now() < until) {
    // A lane that was scribbled over may refuse: that is its own publisher's trouble.
    auto loan = publisher.loan(random.below(20'000), 0, kLook);
    if (loan && loan->publish(kLook)) ++published;
    position = publisher.position() + 2 * kRing;
  }
  stop = true;
  scribbling.join();
  return published;
}

int scribbler(Channel& test, const Arguments& arguments) {
  ClientOptions options;
  options.socket = arguments.at(0);
  Client client = Client::connect_or_throw(options);
  std::uint64_t lanes = 0;
  std::uint64_t published = 0;
  Random random(0x9e3779b97f4a7c15);
  while (!test.has_message()) {
    published += scribble_one_lane(client, arguments.at(1), random);
    ++lanes;
  }
  test.receive();
  test.send({{"lanes", lanes}, {"published", published}});
  return 0;
}
const Role kScribbler("scribbler", scribbler);

class Survivor {
 public:
  Survivor(Client& client, const std::string& topic, bool lossless, std::uint32_t honest) : honest_(honest) {
    SubscriberOptions options;
    options.lossless = lossless;
    subscriber_.emplace(client.subscriber_or_throw(topic, options));
  }

  // Until the honest publisher's lane has ended, or the test has.
  void run(const Channel& test) {
    while (!ended_ && !test.has_message()) {
      View view;
      auto result = subscriber_->take(view, seconds(1));
      if (!result)
        failure(result.error());
      else if (*result == Status::kOk)
        sample(std::move(view));
      else if (*result == Status::kFinished || *result == Status::kAborted)
        ended_ = view.publisher() == honest_;
      else if (*result == Status::kLapped && view.publisher() == honest_)
        next_ += view.missed();
    }
  }

  nlohmann::json answer() const {
    return {{"honest", honest_samples_},
            {"honest_bad", honest_bad_},
            {"corrupt", corrupt_},
            {"wrong", wrong_samples_},
            {"read", sum_ != 0}};
  }

 private:
  void failure(const Error& error) {
    if (error.code != HF_E_CORRUPT) throw Exception(error);
    ++corrupt_;
  }

  void sample(View view) {
    if (view.publisher() == honest_) {
      ++honest_samples_;
      if (!sample_is_whole(view) || view.position() != next_) ++honest_bad_;
      next_ = view.position() + 1;
      return;
    }
    ++wrong_samples_;
    read_all(view);
    held_.push_back(std::move(view));
    if (held_.size() > 8) held_.erase(held_.begin());
  }

  // A page at a time: every page of a view must be there.
  void read_all(const View& view) {
    const auto* bytes = static_cast<const volatile unsigned char*>(view.data());
    for (std::uint64_t i = 0; i < view.bytes(); i += 4096) sum_ += bytes[i] + 1u;
    if (view.bytes() > 0) sum_ += bytes[view.bytes() - 1];
    view.attributes().for_each([&](const hf_attribute& attribute) {
      for (std::uint32_t i = 0; i < attribute.value_bytes; ++i)
        sum_ += static_cast<const volatile unsigned char*>(attribute.value)[i];
    });
  }

  std::uint32_t honest_;
  std::optional<Subscriber> subscriber_;
  std::deque<View> held_;
  bool ended_ = false;
  std::uint64_t next_ = 0;
  std::uint64_t honest_samples_ = 0;
  std::uint64_t honest_bad_ = 0;
  std::uint64_t corrupt_ = 0;
  std::uint64_t wrong_samples_ = 0;
  std::uint64_t sum_ = 0;
};

// Arguments: socket, topic, "lossless" or not, session of the honest publisher.
int survivor(Channel& test, const Arguments& arguments) {
  ClientOptions options;
  options.socket = arguments.at(0);
  Client client = Client::connect_or_throw(options);
  Survivor survivor(client, arguments.at(1), arguments.at(2) == "lossless",
                    static_cast<std::uint32_t>(std::stoul(arguments.at(3))));
  test.send("subscribed");
  survivor.run(test);
  test.send(survivor.answer());
  return 0;
}
const Role kSurvivor("survivor", survivor);

}  // namespace

}  // namespace holdfast::integration
