// SPDX-License-Identifier: MIT
#include "bench/footprint.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

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
  if (const int opened = hf_publisher_open(writer, topic.c_str(), nullptr, &publisher); opened != HF_OK)
    fail("hf_publisher_open", opened);
  if (const int opened = hf_subscriber_open(reader, topic.c_str(), nullptr, &subscriber); opened != HF_OK)
    fail("hf_subscriber_open", opened);
  const std::uint64_t payload[4] = {};
  if (const int sent = hf_publish(publisher, payload, sizeof payload, 0); sent != HF_OK) fail("hf_publish", sent);
  hf_view view;
  if (const int taken = hf_take(subscriber, &view); taken != HF_OK) fail("hf_take", taken);
  hf_view_release(&view);
}

struct CloseClient {
  void operator()(hf_client* client) const { hf_client_close(client); }
};

std::unique_ptr<hf_client, CloseClient> open_client() {
  hf_client* client = nullptr;
  if (const int opened = hf_client_open(nullptr, &client); opened != HF_OK) fail("hf_client_open", opened);
  return std::unique_ptr<hf_client, CloseClient>(client);
}

}  // namespace

Footprint footprint_of_topic() {
  const char* instance = std::getenv("HOLDFAST_INSTANCE");
  if (instance == nullptr) throw std::runtime_error("HOLDFAST_INSTANCE does not say which segments to count");
  const auto writer = open_client();
  const auto reader = open_client();
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
