// Makes one call in a process of its own: it arrives on standard input, the error and the buffers leave on standard
// output. AddressSanitizer has to be there from the start of a process, which is not possible inside of Python.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "testing/entry.h"

namespace {

using disentangle_ext::testing::Argument;
using disentangle_ext::testing::ArgumentKind;

constexpr size_t kAlignment = 64;

void read_bytes(void* to, size_t bytes) {
  if (std::fread(to, 1, bytes, stdin) != bytes) std::abort();
}

int64_t read_integer() {
  int64_t value;
  read_bytes(&value, sizeof(value));
  return value;
}

void write_bytes(const void* from, size_t bytes) {
  if (std::fwrite(from, 1, bytes, stdout) != bytes) std::abort();
}

// At the same distance from an aligned address as in the calling process. Never freed: the process ends after the call.
void* read_buffer(size_t misalignment, size_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, kAlignment, misalignment + bytes)) std::abort();
  char* const buffer = static_cast<char*>(block) + misalignment;
  read_bytes(buffer, bytes);
  return buffer;
}

// One that is the same buffer as an earlier argument comes as that one's number.
Argument read_argument(const std::vector<Argument>& earlier) {
  constexpr int64_t same_as = 4;
  Argument argument{};
  const int64_t kind = read_integer();
  argument.kind = static_cast<ArgumentKind>(kind);
  argument.integer = read_integer();
  argument.bytes = read_integer();
  if (kind == same_as) return earlier.at(static_cast<size_t>(argument.integer));
  if (argument.kind == ArgumentKind::buffer)
    argument.buffer =
        read_buffer(static_cast<size_t>(argument.integer) % kAlignment, static_cast<size_t>(argument.bytes));
  return argument;
}

}  // namespace

int main() {
  std::string name(static_cast<size_t>(read_integer()), '\0');
  read_bytes(name.data(), name.size());
  const int64_t count = read_integer();
  std::vector<Argument> arguments;
  for (int64_t i = 0; i < count; ++i) arguments.push_back(read_argument(arguments));

  const char* const error = disentangle_ext::testing::call(name.c_str(), arguments.data(), count);
  const std::string text = error ? error : "";
  const int64_t length = static_cast<int64_t>(text.size());
  write_bytes(&length, sizeof(length));
  write_bytes(text.data(), text.size());
  for (const Argument& argument : arguments)
    if (argument.kind == ArgumentKind::buffer) write_bytes(argument.buffer, static_cast<size_t>(argument.bytes));
  std::fflush(stdout);
  std::_Exit(0);
}
