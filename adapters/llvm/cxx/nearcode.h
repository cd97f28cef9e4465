// What the classes ask of Rust: tables of functions, made there and passed in here. All policy is on the other side.

#ifndef NEARCODE_LLVM_H
#define NEARCODE_LLVM_H

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace nearcode {

// In the order of nearcode::SectionKind.
enum Kind : uint8_t { Code = 0, ReadOnlyData = 1, ReadWriteData = 2 };

// Where a section is written, and where it will run. Null if there is none.
struct Place {
  uint8_t *Write;
  uint64_t Address;
};

// Bytes, and their alignment in bytes.
struct Extent {
  size_t Size;
  size_t Align;
};

// A memory manager for RuntimeDyld. A text that is returned is freed with `free`; null means that it went well.
struct SectionsTable {
  void (*Reserve)(void *Sections, Extent Code, Extent ReadOnly, Extent ReadWrite);
  Place (*Allocate)(void *Sections, Kind K, Extent E, const char *Name, size_t NameSize);
  // Where to write what thread-local variables begin with, and their offset from the thread pointer in place of an address.
  Place (*AllocateThreadLocal)(void *Sections, Extent E);
  void (*RegisterEHFrames)(void *Sections, uint8_t *Write);
  char *(*Finalize)(void *Sections);
  void (*Destroy)(void *Sections);
  // Of the memory that all of them are made from, for layers that make one for each object.
  void *(*Create)(void *Memory);
  void (*DestroyMemory)(void *Memory);
};

// A segment of a graph; the place is filled in.
struct Segment {
  Extent E;
  Place P;
  Kind K;
  bool IsForFinalizationOnly;
};

// The memory of graphs.
struct GraphsTable {
  // The graph, or null and a text.
  void *(*Allocate)(void *Memory, Segment *Segments, size_t Count, char **Message);
  char *(*Finalize)(void *Graph);
  // Ends what was for finalization only.
  void (*EndFinalization)(void *Graph);
  // Whether finalized or not.
  void (*Destroy)(void *Graph);
  void (*DestroyMemory)(void *Memory);
};

// Takes a text over.
inline std::string take(char *Message) {
  std::string Text(Message);
  std::free(Message);
  return Text;
}

} // namespace nearcode

#endif
