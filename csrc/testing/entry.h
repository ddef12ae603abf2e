// How the Python tests call a launcher: by name, with arguments that carry their kinds and the sizes of their buffers.
//
//   DX_ENTRY(mmd_forward, const float* x, int64_t rows, double bandwidth) { launch it; may throw }
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace disentangle_ext::testing {

// The element types of the buffers, as the tests number them.
enum class Type : int64_t { half = 0, bfloat16 = 1, float32 = 2, float64 = 3 };

enum class ArgumentKind : int64_t { integer = 0, real = 1, buffer = 2, null = 3 };

struct Argument {
  ArgumentKind kind;
  union {
    int64_t integer;
    double real;
    void* buffer;
  };
  int64_t bytes;  // of a buffer
};

template <class T>
T convert(const Argument& argument, int position) {
  using Kind = ArgumentKind;
  const auto refuse = [&](const char* expected) {
    throw std::runtime_error("argument " + std::to_string(position) + " must be " + expected);
  };
  if constexpr (std::is_pointer_v<T>) {
    if (argument.kind != Kind::buffer && argument.kind != Kind::null) refuse("a buffer");
    return argument.kind == Kind::null ? nullptr : reinterpret_cast<T>(argument.buffer);
  } else if constexpr (std::is_floating_point_v<T>) {
    if (argument.kind != Kind::real && argument.kind != Kind::integer) refuse("a number");
    return argument.kind == Kind::real ? static_cast<T>(argument.real) : static_cast<T>(argument.integer);
  } else {
    if (argument.kind != Kind::integer) refuse("an integer");
    return static_cast<T>(argument.integer);
  }
}

using Entry = void (*)(const Argument* arguments, int64_t count);

// Puts an entry into the table that dx_call looks in.
struct Registration {
  Registration(const char* name, Entry entry);
};

// Calls by name; the error as text, or null.
const char* call(const char* name, const Argument* arguments, int64_t count);

template <class... Parameters, size_t... index>
void spread(void (*body)(Parameters...), const Argument* arguments, std::index_sequence<index...>) {
  body(convert<Parameters>(arguments[index], static_cast<int>(index))...);
}

template <class... Parameters>
void spread(void (*body)(Parameters...), const Argument* arguments, int64_t count) {
  constexpr int64_t expected = sizeof...(Parameters);
  if (count != expected)
    throw std::runtime_error("takes " + std::to_string(expected) + " arguments, got " + std::to_string(count));
  spread(body, arguments, std::index_sequence_for<Parameters...>());
}

void watch_workspace(void* begin, size_t bytes);

// Device memory that an entry needs beyond its arguments. It starts as NaN.
template <class T>
class Workspace {
 public:
  explicit Workspace(int64_t count) : data_(new T[static_cast<size_t>(count)]) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    auto* const raw = reinterpret_cast<unsigned char*>(data_.get());
    for (size_t i = 0; i < bytes; ++i) raw[i] = 0xff;
    watch_workspace(raw, bytes);
  }
  T* get() const { return data_.get(); }

 private:
  std::unique_ptr<T[]> data_;
};

}  // namespace disentangle_ext::testing

#define DX_ENTRY(name, ...)                                                             \
  static void dx_body_##name(__VA_ARGS__);                                              \
  static const ::disentangle_ext::testing::Registration dx_registration_##name(         \
      #name, [](const ::disentangle_ext::testing::Argument* arguments, int64_t count) { \
        ::disentangle_ext::testing::spread(dx_body_##name, arguments, count);           \
      });                                                                               \
  static void dx_body_##name(__VA_ARGS__)
