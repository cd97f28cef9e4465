// What the tests ask of LLVM that its C interface does not have.

#include "llvm/Config/llvm-config.h"
#include "llvm/ExecutionEngine/ExecutionEngine.h"
#include "llvm/ExecutionEngine/JITLink/JITLink.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h"
#include "llvm/ExecutionEngine/Orc/Shared/AllocationActions.h"
#include "llvm/Object/Binary.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

using namespace llvm;

// Gives an object file to an LLVMExecutionEngineRef. The bytes are copied.
extern "C" void nearcode_own_add_object(void *Engine, const char *Bytes,
                                        size_t Size) {
  auto Buffer = MemoryBuffer::getMemBufferCopy(StringRef(Bytes, Size), "object");
  auto Object = cantFail(
      object::ObjectFile::createObjectFile(Buffer->getMemBufferRef()));
  static_cast<ExecutionEngine *>(Engine)->addObjectFile(
      object::OwningBinary<object::ObjectFile>(std::move(Object),
                                               std::move(Buffer)));
}

namespace {

void makeForFinalizationOnly(jitlink::Section &S) {
#if LLVM_VERSION_MAJOR < 16
  S.setMemDeallocPolicy(jitlink::MemDeallocPolicy::Finalize);
#elif LLVM_VERSION_MAJOR < 19
  S.setMemDeallocPolicy(orc::MemDeallocPolicy::Finalize);
#else
  S.setMemLifetime(orc::MemLifetime::Finalize);
#endif
}

bool isForFinalizationOnly(jitlink::Section &S) {
  return S.getName().take_front(std::strlen(".prepare")) == ".prepare";
}

// What is in sections that are called .prepare and so on is there for
// finalization only, and functions in there are its actions.
class Prepare final : public orc::ObjectLinkingLayer::Plugin {
public:
  void modifyPassConfig(orc::MaterializationResponsibility &,
                        jitlink::LinkGraph &,
                        jitlink::PassConfiguration &Config) override {
    Config.PrePrunePasses.push_back([](jitlink::LinkGraph &G) {
      for (auto &S : G.sections()) {
        if (!isForFinalizationOnly(S))
          continue;
        makeForFinalizationOnly(S);
        for (auto *Symbol : S.symbols())
          Symbol->setLive(true);
      }
      return Error::success();
    });
    Config.PostAllocationPasses.push_back([](jitlink::LinkGraph &G) -> Error {
      for (auto &S : G.sections()) {
        if (!isForFinalizationOnly(S))
          continue;
        for (auto *Symbol : S.symbols()) {
          if (!Symbol->isCallable())
            continue;
          // LLVM 14 cannot do without an argument.
          using Arguments = orc::shared::SPSArgList<uint64_t>;
          auto Call = orc::shared::WrapperFunctionCall::Create<Arguments>(
              Symbol->getAddress(), uint64_t(0));
          if (!Call)
            return Call.takeError();
          G.allocActions().push_back({std::move(*Call), {}});
        }
      }
      return Error::success();
    });
  }

  Error notifyFailed(orc::MaterializationResponsibility &) override {
    return Error::success();
  }

#if LLVM_VERSION_MAJOR < 16
  Error notifyRemovingResources(orc::ResourceKey) override {
    return Error::success();
  }
  void notifyTransferringResources(orc::ResourceKey,
                                   orc::ResourceKey) override {}
#else
  Error notifyRemovingResources(orc::JITDylib &, orc::ResourceKey) override {
    return Error::success();
  }
  void notifyTransferringResources(orc::JITDylib &, orc::ResourceKey,
                                   orc::ResourceKey) override {}
#endif
};

} // namespace

// For an LLVMOrcLLJITRef over JITLink.
extern "C" void nearcode_own_add_prepare(void *Jit) {
  auto &Layer = static_cast<orc::LLJIT *>(Jit)->getObjLinkingLayer();
  static_cast<orc::ObjectLinkingLayer &>(Layer).addPlugin(
      std::make_unique<Prepare>());
}
