// A memory manager for RuntimeDyld. It hears what an object is going to need, and tells RuntimeDyld where each section will run.

#include "nearcode.h"

#include "llvm-c/Core.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/ExecutionEngine/Orc/Core.h"
#include "llvm/ExecutionEngine/Orc/RTDyldObjectLinkingLayer.h"
#include "llvm/ExecutionEngine/RTDyldMemoryManager.h"
#include "llvm/ExecutionEngine/RuntimeDyld.h"
#include "llvm/Support/Alignment.h"

#include <memory>
#include <utility>
#include <vector>

using namespace llvm;
using namespace nearcode;

namespace {

#if LLVM_VERSION_MAJOR < 16
using Alignment = uint32_t;
size_t bytes(Alignment A) { return A; }
#else
using Alignment = Align;
size_t bytes(Alignment A) { return A.value(); }
#endif

class SectionsMemoryManager final : public RTDyldMemoryManager {
public:
  SectionsMemoryManager(const SectionsTable &Table, void *Sections)
      : Table(Table), Sections(Sections) {}

  ~SectionsMemoryManager() override { Table.Destroy(Sections); }

  bool needsToReserveAllocationSpace() override { return true; }

  void reserveAllocationSpace(uintptr_t CodeSize, Alignment CodeAlign,
                              uintptr_t ReadOnlySize, Alignment ReadOnlyAlign,
                              uintptr_t ReadWriteSize,
                              Alignment ReadWriteAlign) override {
    Table.Reserve(Sections, {CodeSize, bytes(CodeAlign)},
                  {ReadOnlySize, bytes(ReadOnlyAlign)},
                  {ReadWriteSize, bytes(ReadWriteAlign)});
  }

  uint8_t *allocateCodeSection(uintptr_t Size, unsigned Align, unsigned ID,
                               StringRef Name) override {
    return allocate(Code, Size, Align, ID, Name);
  }

  uint8_t *allocateDataSection(uintptr_t Size, unsigned Align, unsigned ID,
                               StringRef Name, bool IsReadOnly) override {
    return allocate(IsReadOnly ? ReadOnlyData : ReadWriteData, Size, Align, ID,
                    Name);
  }

  // The base class ends the process.
  TLSSection allocateTLSSection(uintptr_t Size, unsigned Align, unsigned,
                                StringRef) override {
    Place P = Table.AllocateThreadLocal(Sections, {Size, Align});
    TLSSection Section;
    Section.InitializationImage = P.Write;
    Section.Offset = static_cast<intptr_t>(P.Address);
    return Section;
  }

  // Before relocation, after the last section of the object.
  using RTDyldMemoryManager::notifyObjectLoaded;
  void notifyObjectLoaded(RuntimeDyld &Dyld,
                          const object::ObjectFile &) override {
    for (const auto &Entry : Loaded)
      Dyld.reassignSectionAddress(Entry.first, Entry.second);
    Loaded.clear();
  }

  void registerEHFrames(uint8_t *Write, uint64_t, size_t) override {
    Table.RegisterEHFrames(Sections, Write);
  }

  // The tables go with the code that they speak of.
  void deregisterEHFrames() override {}

  bool finalizeMemory(std::string *Message) override {
    char *Refused = Table.Finalize(Sections);
    if (!Refused)
      return false;
    std::string Text = take(Refused);
    if (Message)
      *Message = std::move(Text);
    return true;
  }

private:
  uint8_t *allocate(Kind K, uintptr_t Size, unsigned Align, unsigned ID,
                    StringRef Name) {
    Place P =
        Table.Allocate(Sections, K, {Size, Align}, Name.data(), Name.size());
    if (P.Write && P.Address != reinterpret_cast<uintptr_t>(P.Write))
      Loaded.emplace_back(ID, P.Address);
    return P.Write;
  }

  const SectionsTable &Table;
  void *Sections;
  // The sections of the object that is being loaded that run elsewhere than they are written, and where.
  std::vector<std::pair<unsigned, uint64_t>> Loaded;
};

// The memory that a layer's managers are made from, as long as the layer may make more.
class Factory {
public:
  Factory(const SectionsTable &Table, void *Memory)
      : Table(Table), Memory(Memory) {}
  Factory(const Factory &) = delete;
  Factory &operator=(const Factory &) = delete;
  ~Factory() { Table.DestroyMemory(Memory); }

  std::unique_ptr<RuntimeDyld::MemoryManager> create() const {
    return std::make_unique<SectionsMemoryManager>(Table, Table.Create(Memory));
  }

private:
  const SectionsTable &Table;
  void *Memory;
};

} // namespace

// Whether the LLVM in this process is the one whose headers this was compiled with. LLVM 14 and 15 cannot be asked.
extern "C" bool nearcode_llvm_is_the_same() {
#if LLVM_VERSION_MAJOR < 16
  return true;
#else
  unsigned Major = 0;
  LLVMGetVersion(&Major, nullptr, nullptr);
  return Major == LLVM_VERSION_MAJOR;
#endif
}

// An LLVMMCJITMemoryManagerRef, which LLVM casts to this class.
extern "C" void *nearcode_llvm_mcjit_memory_manager(const SectionsTable *Table,
                                                    void *Sections) {
  RTDyldMemoryManager *Manager = new SectionsMemoryManager(*Table, Sections);
  return Manager;
}

// An LLVMOrcObjectLayerRef for an LLVMOrcExecutionSessionRef.
extern "C" void *nearcode_llvm_rtdyld_layer(const SectionsTable *Table,
                                            void *Memory, void *Session) {
  auto &ES = *static_cast<orc::ExecutionSession *>(Session);
  auto Shared = std::make_shared<Factory>(*Table, Memory);
  auto Create = [Shared](auto &&...) { return Shared->create(); };
  orc::ObjectLayer *Layer =
      new orc::RTDyldObjectLinkingLayer(ES, std::move(Create));
  return Layer;
}
