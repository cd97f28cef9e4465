// A memory manager for JITLink. Each graph gets one reservation, and another for what only its finalization needs.

#include "nearcode.h"

#include "llvm/Config/llvm-config.h"
#include "llvm/ExecutionEngine/JITLink/JITLink.h"
#include "llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h"
#include "llvm/ExecutionEngine/Orc/Core.h"
#include "llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h"
#include "llvm/ExecutionEngine/Orc/Shared/AllocationActions.h"
#include "llvm/ExecutionEngine/Orc/Shared/ExecutorAddress.h"
#include "llvm/Support/Error.h"

// Where LLJIT registers unwind tables itself, whatever layer it is given; before, its own creator of layers did.
#if __has_include("llvm/ExecutionEngine/Orc/EHFrameRegistrationPlugin.h")
#define LLJIT_REGISTERS_EH_FRAMES 1
#else
#define LLJIT_REGISTERS_EH_FRAMES 0
#include "llvm/ExecutionEngine/JITLink/EHFrameSupport.h"
#endif

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

using namespace llvm;
using namespace nearcode;
using jitlink::BasicLayout;
using jitlink::JITLinkDylib;
using jitlink::JITLinkMemoryManager;
using jitlink::LinkGraph;
using DeallocActions = std::vector<orc::shared::WrapperFunctionCall>;

namespace {

#if LLVM_VERSION_MAJOR < 16
using jitlink::AllocGroup;
using jitlink::MemProt;
#else
using orc::AllocGroup;
using orc::MemProt;
#endif

#if LLVM_VERSION_MAJOR < 19
#if LLVM_VERSION_MAJOR < 16
using Lifetime = jitlink::MemDeallocPolicy;
#else
using Lifetime = orc::MemDeallocPolicy;
#endif
Lifetime lifetime(const AllocGroup &Group) {
  return Group.getMemDeallocPolicy();
}
#else
using Lifetime = orc::MemLifetime;
Lifetime lifetime(const AllocGroup &Group) { return Group.getMemLifetime(); }
#endif

Error refused(char *Message) {
  return createStringError(inconvertibleErrorCode(), "%s",
                           take(Message).c_str());
}

bool has(const AllocGroup &Group, MemProt Permission) {
  return (Group.getMemProt() & Permission) != MemProt::None;
}

// What a graph has in memory, until it is destroyed.
class Memory {
public:
  Memory(const GraphsTable &Table, void *Graph) : Table(Table), Graph(Graph) {}
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  ~Memory() { Table.Destroy(Graph); }

  Error publish() {
    char *Message = Table.Finalize(Graph);
    return Message ? refused(Message) : Error::success();
  }

  void endFinalization() { Table.EndFinalization(Graph); }

private:
  const GraphsTable &Table;
  void *Graph;
};

// What a FinalizedAlloc's address is that of.
struct Published {
  std::unique_ptr<Memory> M;
  DeallocActions Actions;
};

class InFlight final : public JITLinkMemoryManager::InFlightAlloc {
public:
  InFlight(LinkGraph &G, std::unique_ptr<Memory> M) : G(G), M(std::move(M)) {}

  void finalize(OnFinalizedFunction OnFinalized) override {
    if (auto Err = M->publish())
      return OnFinalized(std::move(Err));
    auto Actions = orc::shared::runFinalizeActions(G.allocActions());
    if (!Actions)
      return OnFinalized(Actions.takeError());
    M->endFinalization();
    auto *P = new Published{std::move(M), std::move(*Actions)};
    OnFinalized(JITLinkMemoryManager::FinalizedAlloc(
        orc::ExecutorAddr::fromPtr(P)));
  }

  void abandon(OnAbandonedFunction OnAbandoned) override {
    M.reset();
    OnAbandoned(Error::success());
  }

private:
  LinkGraph &G;
  std::unique_ptr<Memory> M;
};

class GraphsMemoryManager final : public JITLinkMemoryManager {
public:
  GraphsMemoryManager(const GraphsTable &Table, void *Memory)
      : Table(Table), Source(Memory) {}

  ~GraphsMemoryManager() override { Table.DestroyMemory(Source); }

  using JITLinkMemoryManager::allocate;
  void allocate(const JITLinkDylib *, LinkGraph &G,
                OnAllocatedFunction OnAllocated) override {
    BasicLayout Layout(G);
    std::vector<Segment> Segments;
    for (auto &Entry : Layout.segments()) {
      const auto &Group = Entry.first;
      const auto &Seg = Entry.second;
      if (has(Group, MemProt::Exec) && has(Group, MemProt::Write))
        return OnAllocated(createStringError(
            inconvertibleErrorCode(),
            "graph %s: a segment that is writable and executable",
            G.getName().c_str()));
      Kind K = has(Group, MemProt::Exec)    ? Code
               : has(Group, MemProt::Write) ? ReadWriteData
                                            : ReadOnlyData;
      size_t Size = Seg.ContentSize + static_cast<size_t>(Seg.ZeroFillSize);
      bool IsForFinalizationOnly = lifetime(Group) == Lifetime::Finalize;
      Segments.push_back({{Size, static_cast<size_t>(Seg.Alignment.value())},
                          {nullptr, 0},
                          K,
                          IsForFinalizationOnly});
    }

    char *Message = nullptr;
    void *Graph =
        Table.Allocate(Source, Segments.data(), Segments.size(), &Message);
    if (!Graph)
      return OnAllocated(refused(Message));
    auto M = std::make_unique<Memory>(Table, Graph);

    auto Placed = Segments.begin();
    for (auto &Entry : Layout.segments()) {
      auto &Seg = Entry.second;
      Seg.Addr = orc::ExecutorAddr(Placed->P.Address);
      Seg.WorkingMem = reinterpret_cast<char *>(Placed->P.Write);
      // Fresh code is traps. All data is zero.
      if (Placed->K == Code)
        std::memset(Seg.WorkingMem + Seg.ContentSize, 0,
                    static_cast<size_t>(Seg.ZeroFillSize));
      ++Placed;
    }
    if (auto Err = Layout.apply())
      return OnAllocated(std::move(Err));
    OnAllocated(std::make_unique<InFlight>(G, std::move(M)));
  }

  using JITLinkMemoryManager::deallocate;
  void deallocate(std::vector<FinalizedAlloc> Allocs,
                  OnDeallocatedFunction OnDeallocated) override {
    Error Err = Error::success();
    while (!Allocs.empty()) {
      auto *Raw = Allocs.back().release().toPtr<Published *>();
      Allocs.pop_back();
      std::unique_ptr<Published> P(Raw);
      Err = joinErrors(std::move(Err),
                       orc::shared::runDeallocActions(P->Actions));
    }
    OnDeallocated(std::move(Err));
  }

private:
  const GraphsTable &Table;
  void *Source;
};

} // namespace

// An LLVMOrcObjectLayerRef for an LLVMOrcExecutionSessionRef.
extern "C" void *nearcode_llvm_jitlink_layer(const GraphsTable *Table,
                                             void *Memory, void *Session) {
  auto &ES = *static_cast<orc::ExecutionSession *>(Session);
  auto Manager = std::make_unique<GraphsMemoryManager>(*Table, Memory);
  auto Layer =
      std::make_unique<orc::ObjectLinkingLayer>(ES, std::move(Manager));
#if !LLJIT_REGISTERS_EH_FRAMES
  Layer->addPlugin(std::make_unique<orc::EHFrameRegistrationPlugin>(
      ES, std::make_unique<jitlink::InProcessEHFrameRegistrar>()));
#endif
  orc::ObjectLayer *Base = Layer.release();
  return Base;
}
