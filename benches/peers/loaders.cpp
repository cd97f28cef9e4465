// LLVM's loaders on the work of `cargo bench --bench load`: one object file again and again, each load from its bytes to the address
// of a function, all of them alive at the end.
//
// loaders MODE COUNT OBJECT SYMBOL
//
//   rtdyld-reserve  RuntimeDyld over one SectionMemoryManager that reserves (ReserveAlloc)
//   jitlink         LLJIT over JITLink, with its default memory manager
//   jitlink-mapper  the same over MapperJITLinkMemoryManager, slabs of 64 MiB
#include "process.h"

#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/ExecutionEngine/Orc/MapperJITLinkMemoryManager.h"
#include "llvm/ExecutionEngine/Orc/MemoryMapper.h"
#include "llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h"
#include "llvm/ExecutionEngine/RuntimeDyld.h"
#include "llvm/ExecutionEngine/SectionMemoryManager.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/DynamicLibrary.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"

using namespace llvm;

namespace {

[[noreturn]] void runtime_dyld(const std::string &mode, size_t count, MemoryBufferRef file, const char *symbol) {
  SectionMemoryManager manager(nullptr, /*ReserveAlloc=*/true);
  process::Measurement measured;
  for (size_t i = 0; i < count; ++i) {
    RuntimeDyld loader(manager, manager);
    auto object = process::or_end(object::ObjectFile::createObjectFile(file), i);
    loader.loadObject(*object);
    loader.resolveRelocations();
    loader.registerEHFrames();
    std::string error;
    if (loader.hasError() || manager.finalizeMemory(&error))
      process::end(loader.getErrorString().str() + error, i);
    if (!loader.getSymbol(symbol).getAddress())
      process::end("no such symbol", i);
  }
  measured.report(mode, count, count);
}

[[noreturn]] void lljit(const std::string &mode, size_t count, MemoryBufferRef file, const char *symbol) {
  orc::LLJITBuilder builder;
  // What a creator is given has changed between versions.
  builder.setObjectLinkingLayerCreator([&](orc::ExecutionSession &session, auto &&...) -> Expected<std::unique_ptr<orc::ObjectLayer>> {
    if (mode == "jitlink")
      return std::make_unique<orc::ObjectLinkingLayer>(session);
    auto manager = orc::MapperJITLinkMemoryManager::CreateWithMapper<orc::InProcessMemoryMapper>(64 << 20);
    if (!manager)
      return manager.takeError();
    return std::make_unique<orc::ObjectLinkingLayer>(session, std::move(*manager));
  });
  auto jit = process::or_end(builder.create(), 0);
  process::Measurement measured;
  for (size_t i = 0; i < count; ++i) {
    // Each object defines the same symbols.
    auto &library = process::or_end(jit->createJITDylib(std::to_string(i)), i);
    const char prefix = jit->getDataLayout().getGlobalPrefix();
    library.addGenerator(process::or_end(orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(prefix), i));
    if (auto error = jit->addObjectFile(library, MemoryBuffer::getMemBuffer(file, false)))
      process::end(toString(std::move(error)), i);
    process::or_end(jit->lookup(library, symbol), i);
  }
  measured.report(mode, count, count);
}

} // namespace

int main(int argc, char **argv) {
  const std::string mode = argc == 5 ? argv[1] : "";
  const size_t count = argc == 5 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (count == 0 || (mode != "rtdyld-reserve" && mode != "jitlink" && mode != "jitlink-mapper")) {
    std::fprintf(stderr, "usage: loaders rtdyld-reserve|jitlink|jitlink-mapper COUNT OBJECT SYMBOL\n");
    return 2;
  }
  sys::DynamicLibrary::LoadLibraryPermanently(nullptr);
  InitializeNativeTarget();
  InitializeNativeTargetAsmPrinter();
  auto file = MemoryBuffer::getFile(argv[3]);
  if (!file)
    process::end(file.getError().message(), 0);
  if (mode == "rtdyld-reserve")
    runtime_dyld(mode, count, (*file)->getMemBufferRef(), argv[4]);
  lljit(mode, count, (*file)->getMemBufferRef(), argv[4]);
}
