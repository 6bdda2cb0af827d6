// SPDX-License-Identifier: MIT
#include "bench/footprint.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include <sys/stat.h>

#include "bench/endpoint.hpp"

namespace holdfast::bench {

namespace {

constexpr int kTopics = 256;
constexpr char kShm[] = "/dev/shm";

double files_in(const std::string& folder) {
  double count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

double mappings() {
  std::ifstream maps("/proc/self/maps");
  double count = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.find(kShm) != std::string::npos || line.find("/memfd:") != std::string::npos) ++count;
  return count;
}

Footprint in_use(const std::string& instance) {
  Footprint footprint{};
  const std::string prefix = "holdfast." + instance + ".";
  for (const auto& entry : std::filesystem::directory_iterator(kShm)) {
    struct stat status{};
    if (!entry.path().filename().string().starts_with(prefix) || stat(entry.path().c_str(), &status) != 0) continue;
    constexpr double kBlockBytes = 512;
    footprint.files += 1;
    footprint.bytes += static_cast<double>(status.st_blocks) * kBlockBytes;
  }
  footprint.mappings_per_process = mappings() / 2;
  footprint.descriptors = files_in("/proc/self/fd");
  return footprint;
}

// A publisher and a subscriber of `topic` in two sessions, as two processes would have.
void add_topic(hf_client* writer, hf_client* reader, const std::string& topic) {
  hf_publisher* publisher = nullptr;
  hf_subscriber* subscriber = nullptr;
  must("hf_publisher_open", hf_publisher_open(writer, topic.c_str(), nullptr, &publisher));
  must("hf_subscriber_open", hf_subscriber_open(reader, topic.c_str(), nullptr, &subscriber));
  const std::uint64_t payload[4] = {};
  must("hf_publish", hf_publish(publisher, payload, sizeof payload, 0));
  hf_view view;
  must("hf_take", hf_take(subscriber, &view));
  hf_view_release(&view);
}

}  // namespace

Footprint footprint_of_topic() {
  const char* instance = std::getenv("HOLDFAST_INSTANCE");
  if (instance == nullptr) throw std::runtime_error("HOLDFAST_INSTANCE does not say which segments to count");
  const ClientHandle writer = open_client();
  const ClientHandle reader = open_client();
  add_topic(writer.get(), reader.get(), "bench/footprint/first");
  const Footprint before = in_use(instance);
  for (int i = 0; i < kTopics; ++i) add_topic(writer.get(), reader.get(), "bench/footprint/" + std::to_string(i));
  const Footprint after = in_use(instance);
  return {.bytes = (after.bytes - before.bytes) / kTopics,
          .files = (after.files - before.files) / kTopics,
          .mappings_per_process = (after.mappings_per_process - before.mappings_per_process) / kTopics,
          .descriptors = (after.descriptors - before.descriptors) / kTopics};
}

}  // namespace holdfast::bench
