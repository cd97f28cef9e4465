// LLVM's memory managers on the work of `cargo bench --bench publish`: the same objects, each filled, finalized by itself and called.
//
// managers MODE COUNT
//
//   smm-reserve     one SectionMemoryManager for all objects, which reserves (ReserveAlloc): what Numba does
//   smm-churn       a SectionMemoryManager for each object, gone before the next one comes
//   smm-replace     20,000 alive, a random one goes, another comes
//   jitlink         JITLink's InProcessMemoryManager
//   jitlink-mapper  JITLink's MapperJITLinkMemoryManager, slabs of 64 MiB
//   jitlink-churn   the same, each object gone before the next one
#include "process.h"

#include "llvm/ExecutionEngine/JITLink/JITLink.h"
#include "llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h"
#include "llvm/ExecutionEngine/Orc/MapperJITLinkMemoryManager.h"
#include "llvm/ExecutionEngine/Orc/MemoryMapper.h"
#include "llvm/ExecutionEngine/SectionMemoryManager.h"
#include "llvm/TargetParser/Host.h"
#include <cstring>
#include <memory>
#include <random>
#include <vector>

using namespace llvm;

namespace {

// As in benches/objects/mod.rs.
constexpr size_t Code = 1180, Constants = 320, Table = 96, Got = 40;
constexpr size_t Live = 20000;

void fill_with_returns(void *code, size_t size) {
#if defined(__x86_64__)
  std::memset(code, 0xc3, size);
#elif defined(__aarch64__)
  for (size_t at = 0; at + 4 <= size; at += 4) {
    const uint32_t ret = 0xd65f03c0;
    std::memcpy(static_cast<char *>(code) + at, &ret, 4);
  }
#else
#error "the code of a return is not known here"
#endif
}

void call(const void *code) { reinterpret_cast<void (*)()>(reinterpret_cast<uintptr_t>(code))(); }

void publish(SectionMemoryManager &manager, size_t number) {
  // Totals as RuntimeDyld computes them: each section rounded up to its kind's alignment.
  manager.reserveAllocationSpace(1184, Align(16), Constants + Table, Align(16), 48, Align(16));
  uint8_t *code = manager.allocateCodeSection(Code, 16, 0, ".text");
  uint8_t *data[] = {manager.allocateDataSection(Constants, 8, 1, ".rodata", true),
                     manager.allocateDataSection(Table, 8, 2, ".eh_frame", true),
                     manager.allocateDataSection(Got, 8, 3, ".got", false)};
  if (!code || !data[0] || !data[1] || !data[2])
    process::end("no memory", number);
  fill_with_returns(code, Code);
  std::memset(data[0], 1, Constants);
  std::memset(data[1], 1, Table);
  std::memset(data[2], 1, Got);
  std::string error;
  if (manager.finalizeMemory(&error))
    process::end(error, number);
  call(code);
}

std::unique_ptr<SectionMemoryManager> publish_alone(size_t number) {
  auto manager = std::make_unique<SectionMemoryManager>(nullptr, /*ReserveAlloc=*/true);
  publish(*manager, number);
  return manager;
}

[[noreturn]] void section_memory_manager(const std::string &mode, size_t count) {
  if (mode == "smm-reserve") {
    SectionMemoryManager manager(nullptr, /*ReserveAlloc=*/true);
    process::Measurement measured;
    for (size_t i = 0; i < count; ++i)
      publish(manager, i);
    measured.report(mode, count, count);
  }
  if (mode == "smm-churn") {
    process::Measurement measured;
    for (size_t i = 0; i < count; ++i)
      publish_alone(i);
    measured.report(mode, count, count);
  }
  std::vector<std::unique_ptr<SectionMemoryManager>> live;
  for (size_t i = 0; i < Live; ++i)
    live.push_back(publish_alone(i));
  std::minstd_rand random(1);
  process::Measurement measured;
  for (size_t i = 0; i < count; ++i) {
    auto &slot = live[random() % Live];
    slot.reset();
    slot = publish_alone(i);
  }
  measured.report(mode, count, Live);
}

[[noreturn]] void link_memory(const std::string &mode, size_t count) {
  using orc::MemProt;
  using namespace jitlink;

  std::unique_ptr<JITLinkMemoryManager> manager;
  if (mode == "jitlink")
    manager = process::or_end(InProcessMemoryManager::Create(), 0);
  else
    manager = process::or_end(orc::MapperJITLinkMemoryManager::CreateWithMapper<orc::InProcessMemoryMapper>(64 << 20), 0);
  auto symbols = std::make_shared<orc::SymbolStringPool>();
  const Triple triple(sys::getProcessTriple());
  const auto code = MemProt::Read | MemProt::Exec, constants = MemProt::Read, variables = MemProt::Read | MemProt::Write;

  std::vector<JITLinkMemoryManager::FinalizedAlloc> live;
  process::Measurement measured;
  for (size_t i = 0; i < count; ++i) {
    auto object = process::or_end(SimpleSegmentAlloc::Create(*manager, symbols, triple, nullptr,
                                                             {{code, {Code, Align(16)}},
                                                              {constants, {Constants + Table, Align(8)}},
                                                              {variables, {Got, Align(8)}}}),
                                  i);
    fill_with_returns(object.getSegInfo(code).WorkingMem.data(), Code);
    std::memset(object.getSegInfo(constants).WorkingMem.data(), 1, Constants + Table);
    std::memset(object.getSegInfo(variables).WorkingMem.data(), 1, Got);
    const void *function = object.getSegInfo(code).Addr.toPtr<const void *>();
    auto finalized = process::or_end(object.finalize(), i);
    call(function);
    if (mode == "jitlink-churn")
      cantFail(manager->deallocate(std::move(finalized)));
    else
      live.push_back(std::move(finalized));
  }
  measured.report(mode, count, count);
}

} // namespace

int main(int argc, char **argv) {
  const std::string mode = argc == 3 ? argv[1] : "";
  const size_t count = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (count > 0 && (mode == "smm-reserve" || mode == "smm-churn" || mode == "smm-replace"))
    section_memory_manager(mode, count);
  if (count > 0 && (mode == "jitlink" || mode == "jitlink-mapper" || mode == "jitlink-churn"))
    link_memory(mode, count);
  std::fprintf(stderr, "usage: managers smm-reserve|smm-churn|smm-replace|jitlink|jitlink-mapper|jitlink-churn COUNT\n");
  return 2;
}
