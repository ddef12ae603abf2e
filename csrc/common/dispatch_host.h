// Raw ops as C++ functions: a call goes through the dispatcher, as one from Python does.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

namespace disentangle_ext {

template <typename Signature>
auto op(const char* name) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow((std::string("disentangle_ext::") + name).c_str(), "")
      .typed<Signature>();
}

}  // namespace disentangle_ext
