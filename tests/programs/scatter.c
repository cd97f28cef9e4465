/* An address space at its worst, as a library for LD_PRELOAD: each mapping that leaves the choice of the address to the
 * kernel lands 6 GiB above the one before, further than any relocation reaches. It stands in front of libc's mmap, so raw
 * system calls and the dynamic linker's own mappings are not moved; nor are very large ones, which are reservations of a
 * whole address range. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static const uintptr_t first = (uintptr_t)1 << 44;
static const uintptr_t stride = (uintptr_t)6 << 30;
static const size_t largest = (size_t)64 << 20;
static uintptr_t taken;

static void *map(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  if (address == NULL && size <= largest && !(flags & MAP_FIXED)) {
    uintptr_t place = first + stride * __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
    void *mapped = map((void *)place, size, protection, flags | MAP_FIXED_NOREPLACE, file, offset);
    if (mapped != MAP_FAILED) return mapped;
  }
  return map(address, size, protection, flags, file, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  return mmap(address, size, protection, flags, file, offset);
}
