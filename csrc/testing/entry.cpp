#include "testing/entry.h"

#include <exception>
#include <map>

#include "testing/checker.h"

namespace disentangle_ext::testing {
namespace {

std::map<std::string, Entry>& table() {
  static std::map<std::string, Entry> entries;
  return entries;
}

// Kernels may touch the buffers of the call and nothing else.
void watch_buffers(const Argument* arguments, int64_t count) {
  forget_watched();
  for (int64_t i = 0; i < count; ++i) {
    const Argument& a = arguments[i];
    if (a.kind == ArgumentKind::buffer && a.bytes > 0)
      watch(a.buffer, static_cast<size_t>(a.bytes), "argument " + std::to_string(i));
  }
}

}  // namespace

Registration::Registration(const char* name, Entry entry) { table()[name] = entry; }

void watch_workspace(void* begin, size_t bytes) { watch(begin, bytes, "a workspace", true); }

const char* call(const char* name, const Argument* arguments, int64_t count) {
  static std::string error;
  try {
    const auto it = table().find(name);
    if (it == table().end()) throw std::runtime_error("there is no such entry");
    watch_buffers(arguments, count);
    it->second(arguments, count);
    forget_watched();
    return nullptr;
  } catch (const std::exception& e) {
    error = std::string(name) + ": " + e.what();
    return error.c_str();
  }
}

}  // namespace disentangle_ext::testing

using disentangle_ext::testing::Argument;

extern "C" __attribute__((visibility("default"))) const char* dx_call(const char* name, const Argument* arguments,
                                                                      int64_t count) {
  return disentangle_ext::testing::call(name, arguments, count);
}

extern "C" __attribute__((visibility("default"))) void dx_report_uninitialised(int on) {
  disentangle_ext::testing::report_uninitialised(on != 0);
}
