// SPDX-License-Identifier: MIT
//
// Runs a fuzz target without libFuzzer: every file of the folder that is given, and then mutations of it that are the
// same each time. Fails like the target fails: by a trap or a sanitizer's report.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr int kMutations = 1000;  // of each file

using Bytes = std::vector<std::uint8_t>;

// On the heap and exactly as large as it is, so that the address sanitizer sees a single byte too far.
void run(const Bytes& bytes) {
  const auto copy = std::make_unique<std::uint8_t[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  LLVMFuzzerTestOneInput(copy.get(), bytes.size());
}

Bytes mutated(Bytes bytes, std::mt19937_64& random) {
  for (std::uint64_t n = 1 + random() % 6; n > 0; --n) {
    const std::size_t at = bytes.empty() ? 0 : random() % bytes.size();
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (bytes.empty() ? 4 : random() % 6) {
      case 0:
        bytes[at] = static_cast<std::uint8_t>(random());
        break;
      case 1:
        bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ (1u << random() % 8));
        break;
      case 2:
        bytes[at] = random() % 2 == 0 ? 0 : 0xff;
        break;
      case 3:
        bytes.resize(at);
        break;
      case 4:
        bytes.insert(place, static_cast<std::uint8_t>(random()));
        break;
      default:
        bytes.erase(place);
        break;
    }
  }
  return bytes;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::mt19937_64 random(1);
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    const Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    run(bytes);
    for (int i = 0; i < kMutations; ++i) run(mutated(bytes, random));
  }
  std::printf("%zu files, %d mutations of each\n", files.size(), kMutations);
  return files.empty() ? 1 : 0;
}
