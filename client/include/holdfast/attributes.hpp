/* SPDX-License-Identifier: MIT
 *
 * Attributes: typed key-value pairs that travel with a sample. The byte table is in docs/shm-layout.md. */
#ifndef HOLDFAST_ATTRIBUTES_HPP_
#define HOLDFAST_ATTRIBUTES_HPP_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "holdfast/result.hpp"

namespace holdfast {
inline namespace v1 {

/// An encoding under construction. One thread at a time. At most 65 536 bytes; keys of 1 to 255 bytes.
/// add() throws Exception (HF_E_TOO_LARGE, HF_E_INVALID) and then leaves everything as it was.
class Attributes {
 public:
  Attributes& add(const char* key, bool value) { return scalar(HF_BOOL, key, static_cast<unsigned char>(value)); }
  Attributes& add(const char* key, std::int64_t value) { return scalar(HF_INT, key, value); }
  Attributes& add(const char* key, int value) { return add(key, static_cast<std::int64_t>(value)); }
  Attributes& add(const char* key, double value) { return scalar(HF_FLOAT, key, value); }
  Attributes& add(const char* key, std::string_view value) {
    return append(HF_STRING, key, value.data(), value.size());
  }
  Attributes& add(const char* key, const char* value) { return add(key, std::string_view(value)); }
  Attributes& add(const char* key, const std::vector<std::int64_t>& values) {
    return append(HF_INT_LIST, key, values.data(), values.size() * sizeof(std::int64_t));
  }
  Attributes& add(const char* key, const std::vector<double>& values) {
    return append(HF_FLOAT_LIST, key, values.data(), values.size() * sizeof(double));
  }
  Attributes& add(const char* key, const std::vector<bool>& values) {
    const std::vector<unsigned char> bytes(values.begin(), values.end());
    return append(HF_BOOL_LIST, key, bytes.data(), bytes.size());
  }
  Attributes& add(const char* key, const std::vector<std::string>& values) {
    std::string encoded;
    for (const std::string& value : values) {
      const auto bytes = static_cast<std::uint32_t>(value.size());
      for (int i = 0; i < 4; ++i) encoded.push_back(static_cast<char>(bytes >> (8 * i) & 0xff));
      encoded += value;
    }
    return append(HF_STRING_LIST, key, encoded.data(), encoded.size());
  }
  Attributes& add_bytes(const char* key, const void* value, std::size_t bytes) {
    return append(HF_BYTES, key, value, bytes);
  }
  /// Nanoseconds since 1970, UTC.
  Attributes& add_timestamp(const char* key, std::int64_t ns) { return scalar(HF_TIMESTAMP, key, ns); }

  const void* data() const { return encoded_.data(); }
  std::uint32_t bytes() const { return static_cast<std::uint32_t>(encoded_.size()); }

 private:
  template <class T>
  Attributes& scalar(std::int32_t kind, const char* key, T value) {
    return append(kind, key, &value, sizeof value);
  }
  Attributes& append(std::int32_t kind, const char* key, const void* value, std::size_t bytes) {
    constexpr std::size_t kMost = 65536;
    static const char kNothing = 0;
    std::vector<unsigned char> longer = encoded_;
    longer.resize(encoded_.size() + 8 + std::strlen(key) + (bytes < kMost ? bytes : kMost));
    std::uint32_t used = this->bytes();
    const auto capacity = static_cast<std::uint32_t>(longer.size() < kMost ? longer.size() : kMost);
    const auto value_bytes = static_cast<std::uint32_t>(bytes < kMost ? bytes : kMost);
    const int result =
        hf_attributes_add(longer.data(), capacity, &used, kind, key, bytes != 0 ? value : &kNothing, value_bytes);
    if (result != HF_OK) throw Exception(Error::last(result));
    longer.resize(used);
    encoded_ = std::move(longer);
    return *this;
  }

  std::vector<unsigned char> encoded_;
};

/// The attributes of a view. Valid as long as the view is.
class AttributesView {
 public:
  AttributesView(const void* encoded, std::uint32_t bytes) : encoded_(encoded), bytes_(bytes) {}

  /// Calls visit(const hf_attribute&) for each. False if the bytes make no sense: the publisher's error.
  template <class Visit>
  bool for_each(Visit&& visit) const {
    std::uint32_t offset = 0;
    hf_attribute attribute{};
    int result = HF_OK;
    while ((result = hf_attributes_next(encoded_, bytes_, &offset, &attribute)) == HF_OK) visit(attribute);
    return result == HF_EMPTY;
  }

  std::optional<std::int64_t> get_int(const char* key) const { return scalar<std::int64_t>(key, HF_INT); }
  std::optional<std::int64_t> get_timestamp(const char* key) const { return scalar<std::int64_t>(key, HF_TIMESTAMP); }
  std::optional<double> get_float(const char* key) const { return scalar<double>(key, HF_FLOAT); }
  std::optional<bool> get_bool(const char* key) const {
    const auto byte = scalar<unsigned char>(key, HF_BOOL);
    return byte ? std::optional<bool>(*byte != 0) : std::nullopt;
  }
  std::optional<std::string_view> get_string(const char* key) const {
    hf_attribute found{};
    if (hf_attributes_find(encoded_, bytes_, key, &found) != HF_OK || found.kind != HF_STRING) return std::nullopt;
    return std::string_view(static_cast<const char*>(found.value), found.value_bytes);
  }

 private:
  template <class T>
  std::optional<T> scalar(const char* key, std::int32_t kind) const {
    hf_attribute found{};
    if (hf_attributes_find(encoded_, bytes_, key, &found) != HF_OK || found.kind != kind) return std::nullopt;
    T value;
    std::memcpy(&value, found.value, sizeof value);
    return value;
  }

  const void* encoded_;
  std::uint32_t bytes_;
};

}  // namespace v1
}  // namespace holdfast

#endif /* HOLDFAST_ATTRIBUTES_HPP_ */
