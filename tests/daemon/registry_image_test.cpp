// SPDX-License-Identifier: MIT
//
// The files of a killed broker's registry with some of their bytes wrong: the next one starts on what is sound, or sets
// them aside. It never ends, never adopts what does not hold together, and is never left without a registry.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/broker/state.hpp"
#include "daemon/registry.hpp"
#include "tests/daemon/broker/full_world.hpp"
#include "tests/daemon/temporary_directory.hpp"
#include "tests/sanitized.hpp"

namespace holdfast::daemon {
namespace {

constexpr std::size_t kDatabasePage = 4096;

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The database and its write-ahead log, as they lie there when the broker is killed.
struct Image {
  std::string database;
  std::string log;
};

Image image_of(const broker::RegistryRows& rows) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  Image image;
  const auto put_all = [](Registry& registry, const auto& table) {
    for (const auto& facts : table) registry.put(facts, "holdfast.x.lane.0123456789abcdef");
  };
  {
    Registry registry;
    EXPECT_EQ(registry.open(path, aside), "");
    put_all(registry, rows.sessions);
    put_all(registry, rows.segments);
    EXPECT_EQ(registry.commit(), "");
  }
  Registry registry;  // what comes now is in the log
  EXPECT_EQ(registry.open(path, aside), "");
  put_all(registry, rows.topics);
  put_all(registry, rows.lanes);
  EXPECT_EQ(registry.commit(), "");
  put_all(registry, rows.handles);
  put_all(registry, rows.readers);
  EXPECT_EQ(registry.commit(), "");
  image = {bytes_of(path), bytes_of(path + "-wal")};
  return image;
}

class ImageMutator {
 public:
  explicit ImageMutator(std::uint64_t seed) : random_(seed) {}

  void change(Image& image) {
    std::string& file = pick(3) == 0 ? image.log : image.database;
    if (file.empty()) return;
    switch (pick(6)) {
      case 0:
        return file.resize(pick(file.size() + 1));
      case 1:
        return void(file.append(1 + pick(kDatabasePage), static_cast<char>(pick(256))));
      case 2:
        return fill(file);
      case 3:
        return copy_page(file);
      default:
        for (std::uint64_t i = 0; i <= pick(8); ++i) file[pick(file.size())] = static_cast<char>(pick(256));
    }
  }

 private:
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }

  void fill(std::string& file) {
    const std::size_t from = pick(file.size());
    const std::size_t bytes = std::min<std::size_t>(1 + pick(kDatabasePage), file.size() - from);
    std::fill_n(file.begin() + static_cast<std::ptrdiff_t>(from), bytes,
                static_cast<char>(pick(2) == 0 ? 0 : pick(256)));
  }
  void copy_page(std::string& file) {
    if (file.size() < 2 * kDatabasePage) return;
    const std::size_t pages = file.size() / kDatabasePage;
    file.replace(pick(pages) * kDatabasePage, kDatabasePage, file.substr(pick(pages) * kDatabasePage, kDatabasePage));
  }

  std::mt19937_64 random_;
};

// As the broker starts. False: the image was set aside.
bool start_on(const std::string& path, const broker::FullWorld& world) {
  Registry registry;
  std::string aside;
  EXPECT_EQ(registry.open(path, aside), "");
  if (!aside.empty()) return false;
  Legacy legacy;
  std::string why = registry.load(legacy);
  if (why.empty()) why = broker::check_rows(legacy.rows);
  if (!why.empty()) {
    std::string sentence;
    EXPECT_EQ(registry.set_aside(why, sentence), "");
    EXPECT_NE(sentence, "");
    return false;
  }
  const bool roster = std::any_of(legacy.rows.segments.begin(), legacy.rows.segments.end(),
                                  [](const auto& facts) { return facts.kind == shm::SegmentKind::kRoster; });
  if (!roster) return true;  // nothing to adopt
  broker::FakeShell next(world.shell(), legacy.rows);
  next.adopt();
  std::vector<broker::SessionId> sessions;
  for (const auto& [id, session] : next.tables().sessions) sessions.push_back(id);
  for (const broker::SessionId id : sessions) next.end(id);
  return true;
}

// As a campaign: HOLDFAST_COUNT images, from HOLDFAST_SEED on.
TEST(Registry, MutatedImagesAreAdoptedOrSetAside) {
  const std::uint64_t count = broker::campaign_number("HOLDFAST_COUNT", kSanitized ? 300 : 1'000);
  const std::uint64_t first = broker::campaign_number("HOLDFAST_SEED", 1);
  const broker::FullWorld world;
  const Image image = image_of(world.rows());
  ASSERT_FALSE(image.log.empty()) << "what a killed broker leaves has a log";
  std::uint64_t adopted = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("HOLDFAST_COUNT=1 HOLDFAST_SEED=" + std::to_string(seed));
    const TemporaryDirectory directory;
    Image mutated = image;
    ImageMutator mutator(seed);
    for (std::uint64_t i = 0; i <= seed % 3; ++i) mutator.change(mutated);
    const std::string path = directory.write("x.db", mutated.database);
    directory.write("x.db-wal", mutated.log);
    if (start_on(path, world)) ++adopted;
    // And it goes on with what it has.
    Registry again;
    std::string aside;
    EXPECT_EQ(again.open(path, aside), "");
    if (testing::Test::HasFailure()) return;
  }
  if (count > 100) {
    EXPECT_GT(adopted, 0U) << "some changes are harmless";
    EXPECT_LT(adopted, count);
  }
  std::printf("registry images: %llu mutated, %llu set aside, %llu adopted, 0 crashed\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(count - adopted),
              static_cast<unsigned long long>(adopted));
}

}  // namespace
}  // namespace holdfast::daemon
