// SPDX-License-Identifier: MIT
//
// Any bytes as the attributes of a sample: decoding ends, hands out nothing beyond them, and what it accepted encodes to
// the same bytes again.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/shm/attributes.hpp"

using namespace holdfast::shm;

namespace {

void require(bool holds) {
  if (!holds) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> bytes(data, size);
  std::uint32_t offset = 0;
  std::uint32_t before = 0;
  Attribute attribute{};
  AttributeResult result = AttributeResult::kOk;
  while ((result = next_attribute(bytes, offset, attribute)) == AttributeResult::kOk) {
    require(offset > before && offset <= size);
    require(offset - before == attribute_bytes(attribute.key.size(), attribute.value.size()));
    require(attribute.value.data() + attribute.value.size() == data + offset);
    std::vector<std::uint8_t> again(offset - before);
    require(encode_attribute(again.data(), attribute.kind, attribute.key, attribute.value));
    require(std::equal(again.begin(), again.end(), data + before));
    before = offset;
  }
  require(result == AttributeResult::kEnd ? offset == size : offset == before);
  return 0;
}
