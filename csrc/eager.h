#pragma once

#include <pybind11/pybind11.h>

namespace disentangle_ext {

// The functions of the module _C that eager.cpp explains.
void define_eager(pybind11::module& m);

}  // namespace disentangle_ext
