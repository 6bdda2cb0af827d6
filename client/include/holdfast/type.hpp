/* SPDX-License-Identifier: MIT
 *
 * Typed topics. HOLDFAST_TYPE(Point, "point", x, y) at namespace scope, outside any namespace of yours that hides
 * holdfast, says how a struct is laid out: "point{x:f64@0;y:f64@8}16:8". Publisher and subscriber must agree on that text; without it
 * they must agree on the C++ name, size and alignment. Up to 16 fields. */
#ifndef HOLDFAST_TYPE_HPP_
#define HOLDFAST_TYPE_HPP_

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <typeinfo>

#include "holdfast/holdfast.h"

namespace holdfast {
inline namespace v1 {

/// What a field is: i8 … u64, f32, f64, bool, an array "f32[3]", or "bytes[n]" for anything else.
template <class Field>
std::string field_type() {
  if constexpr (std::is_array_v<Field>) {
    return field_type<std::remove_extent_t<Field>>() + "[" + std::to_string(std::extent_v<Field>) + "]";
  } else if constexpr (std::is_same_v<Field, bool>) {
    return "bool";
  } else if constexpr (std::is_enum_v<Field>) {
    return field_type<std::underlying_type_t<Field>>();
  } else if constexpr (std::is_integral_v<Field>) {
    return (std::is_signed_v<Field> ? "i" : "u") + std::to_string(8 * sizeof(Field));
  } else if constexpr (std::is_floating_point_v<Field>) {
    return "f" + std::to_string(8 * sizeof(Field));
  } else {
    return "bytes[" + std::to_string(sizeof(Field)) + "]";
  }
}

/// The text of a type. HOLDFAST_TYPE specialises it.
template <class T>
struct TypeText {
  static std::string get() { return typeid(T).name(); }
};

/// The type as the C ABI takes it. The pointer in it is good for ever.
template <class T>
const hf_type& type_of() {
  static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable types can lie in shared memory");
  static_assert(alignof(T) <= 64, "payloads are aligned to 64 bytes");
  static const std::string text = TypeText<T>::get();
  static const hf_type type{text.c_str(), sizeof(T), alignof(T), 0};
  return type;
}

namespace detail {
template <class Field>
std::string describe_field(const char* name, std::size_t offset) {
  return std::string(name) + ":" + field_type<Field>() + "@" + std::to_string(offset);
}
}  // namespace detail

}  // namespace v1
}  // namespace holdfast

#define HOLDFAST_FIELD_(T, f) ::holdfast::detail::describe_field<decltype(T::f)>(#f, offsetof(T, f))
#define HOLDFAST_1_(T, a) HOLDFAST_FIELD_(T, a)
#define HOLDFAST_2_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_1_(T, __VA_ARGS__)
#define HOLDFAST_3_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_2_(T, __VA_ARGS__)
#define HOLDFAST_4_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_3_(T, __VA_ARGS__)
#define HOLDFAST_5_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_4_(T, __VA_ARGS__)
#define HOLDFAST_6_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_5_(T, __VA_ARGS__)
#define HOLDFAST_7_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_6_(T, __VA_ARGS__)
#define HOLDFAST_8_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_7_(T, __VA_ARGS__)
#define HOLDFAST_9_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_8_(T, __VA_ARGS__)
#define HOLDFAST_10_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_9_(T, __VA_ARGS__)
#define HOLDFAST_11_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_10_(T, __VA_ARGS__)
#define HOLDFAST_12_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_11_(T, __VA_ARGS__)
#define HOLDFAST_13_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_12_(T, __VA_ARGS__)
#define HOLDFAST_14_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_13_(T, __VA_ARGS__)
#define HOLDFAST_15_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_14_(T, __VA_ARGS__)
#define HOLDFAST_16_(T, a, ...) HOLDFAST_FIELD_(T, a) + ";" + HOLDFAST_15_(T, __VA_ARGS__)
#define HOLDFAST_PICK_(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, name, ...) name
#define HOLDFAST_FIELDS_(T, ...)                                                                                  \
  HOLDFAST_PICK_(__VA_ARGS__, HOLDFAST_16_, HOLDFAST_15_, HOLDFAST_14_, HOLDFAST_13_, HOLDFAST_12_, HOLDFAST_11_, \
                 HOLDFAST_10_, HOLDFAST_9_, HOLDFAST_8_, HOLDFAST_7_, HOLDFAST_6_, HOLDFAST_5_, HOLDFAST_4_,      \
                 HOLDFAST_3_, HOLDFAST_2_, HOLDFAST_1_, )                                                         \
  (T, __VA_ARGS__)

#define HOLDFAST_TYPE(T, name, ...)                                                                             \
  template <>                                                                                                   \
  struct holdfast::TypeText<T> {                                                                                \
    static std::string get() {                                                                                  \
      return std::string(name "{") + HOLDFAST_FIELDS_(T, __VA_ARGS__) + "}" + std::to_string(sizeof(T)) + ":" + \
             std::to_string(alignof(T));                                                                        \
    }                                                                                                           \
  }

#endif /* HOLDFAST_TYPE_HPP_ */
