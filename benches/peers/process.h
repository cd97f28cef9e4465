// What the peers ask of their process, and how they say what they saw: as this project's own benchmarks do.
#pragma once
#include "llvm/Support/Error.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

namespace process {

// The proportional set size (PSS), in bytes: pages that are mapped twice count once.
inline size_t pss() {
  std::ifstream rollup("/proc/self/smaps_rollup");
  for (std::string word; rollup >> word;)
    if (word == "Pss:") {
      size_t kib = 0;
      rollup >> kib;
      return kib * 1024;
    }
  return 0;
}

// Kernel mappings.
inline size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  size_t lines = 0;
  for (std::string line; std::getline(maps, line);)
    ++lines;
  return lines;
}

// A failure ends the run with the object's number. Nothing is given back: that is not measured, and takes LLVM long.
[[noreturn]] inline void end(const std::string &why, size_t object) {
  std::printf("%s at object %zu\n", why.c_str(), object);
  std::fflush(stdout);
  std::_Exit(1);
}

template <typename T> T or_end(llvm::Expected<T> value, size_t object) {
  if (!value)
    end(llvm::toString(value.takeError()), object);
  return static_cast<T &&>(*value);
}

// From its birth to `report`.
class Measurement {
  using Clock = std::chrono::steady_clock;
  size_t before = pss();
  Clock::time_point start = Clock::now();

public:
  // One line: MODE COUNT ns/object pss-bytes/object mappings. `alive` objects have the memory.
  [[noreturn]] void report(const std::string &mode, size_t count, size_t alive) const {
    std::chrono::duration<double, std::nano> time = Clock::now() - start;
    double memory = double(pss()) - double(before);
    std::printf("%s %zu %.0f %.0f %zu\n", mode.c_str(), count, time.count() / count, memory / alive, mappings());
    std::fflush(stdout);
    std::_Exit(0);
  }
};

} // namespace process
