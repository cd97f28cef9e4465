// What the tests ask of LLVM that its C interface does not have.

#include "llvm/ExecutionEngine/ExecutionEngine.h"
#include "llvm/Object/Binary.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cstddef>
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
