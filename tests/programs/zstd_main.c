/* zstd_main BYTES: compresses a generated buffer in several ways, restores it and prints sizes and checksums. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZDICT_STATIC_LINKING_ONLY
#include "zdict.h"
#include "zstd.h"

static uint64_t checksum(const void *data, size_t size) {
  const unsigned char *bytes = data;
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

static uint32_t next_random(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* Words, runs, old text again and noise: something for every part of the compressor. */
static void generate(unsigned char *out, size_t size) {
  static const char *const words[] = {"block ", "code ", "reach ", "symbol ", "window ", "page ", "stub ", "object "};
  uint32_t state = 20;
  size_t at = 0;
  while (at < size) {
    size_t left = size - at, length;
    switch (next_random(&state) % 8) {
    case 0:
      length = 1 + next_random(&state) % 60;
      if (length > left) length = left;
      memset(out + at, (int)(next_random(&state) & 255), length);
      break;
    case 1:
      length = 1 + next_random(&state) % 40;
      if (length > left) length = left;
      for (size_t i = 0; i < length; i++) out[at + i] = (unsigned char)next_random(&state);
      break;
    case 2:
    case 3:
      length = 4 + next_random(&state) % 200;
      if (length > left) length = left;
      if (length > at) length = at < 1 ? 1 : at;
      if (at == 0) out[0] = 'n';
      else memmove(out + at, out + next_random(&state) % (at - length + 1), length);
      break;
    default: {
      const char *word = words[next_random(&state) % 8];
      length = strlen(word);
      if (length > left) length = left;
      memcpy(out + at, word, length);
    }
    }
    at += length;
  }
}

static int failed(const char *step, size_t code) {
  if (!ZSTD_isError(code)) return 0;
  printf("%s: %s\n", step, ZSTD_getErrorName(code));
  return 1;
}

int main(int argc, char **argv) {
  static const int levels[] = {-5, 1, 3, 6, 9, 13, 17, 19, 22};
  size_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 300000;
  size_t room = ZSTD_compressBound(size);
  unsigned char *original = malloc(size), *packed = malloc(room), *restored = malloc(size);
  int wrong = 0;

  if (size < 100000 || !original || !packed || !restored) {
    puts("at least 100000 bytes, please");
    return 2;
  }
  generate(original, size);
  printf("zstd %s, %zu bytes, %016llx\n", ZSTD_versionString(), size, (unsigned long long)checksum(original, size));

  for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
    size_t n = ZSTD_compress(packed, room, original, size, levels[i]);
    if (failed("compress", n)) return 3;
    memset(restored, 0, size);
    size_t back = ZSTD_decompress(restored, size, packed, n);
    if (failed("decompress", back)) return 3;
    int same = back == size && memcmp(original, restored, size) == 0;
    wrong += !same;
    printf("level %3d: %7zu bytes, %016llx, %s\n", levels[i], n, (unsigned long long)checksum(packed, n), same ? "same" : "DIFFERENT");
  }

  /* In small pieces through the streaming calls, with a checksum and long-distance matching. */
  ZSTD_CCtx *c = ZSTD_createCCtx();
  ZSTD_DCtx *d = ZSTD_createDCtx();
  ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 5);
  ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
  ZSTD_CCtx_setParameter(c, ZSTD_c_enableLongDistanceMatching, 1);
  ZSTD_outBuffer out = {packed, room, 0};
  for (size_t at = 0; at < size;) {
    size_t piece = size - at < 4099 ? size - at : 4099;
    ZSTD_inBuffer in = {original + at, piece, 0};
    at += piece;
    size_t rest;
    do {
      rest = ZSTD_compressStream2(c, &out, &in, at == size ? ZSTD_e_end : ZSTD_e_continue);
      if (failed("stream", rest)) return 3;
    } while (at == size ? rest != 0 : in.pos < in.size);
  }
  ZSTD_inBuffer in = {packed, out.pos, 0};
  ZSTD_outBuffer again = {restored, size, 0};
  memset(restored, 0, size);
  while (in.pos < in.size) {
    if (failed("unstream", ZSTD_decompressStream(d, &again, &in))) return 3;
  }
  wrong += again.pos != size || memcmp(original, restored, size) != 0;
  printf("stream: %zu bytes, %016llx\n", out.pos, (unsigned long long)checksum(packed, out.pos));

  /* A damaged frame is refused: its checksum tells. */
  packed[out.pos / 2] ^= 0x10;
  printf("damaged: %s\n", ZSTD_isError(ZSTD_decompress(restored, size, packed, out.pos)) ? "refused" : "ACCEPTED");

  /* A dictionary from samples, which sorts through function pointers. */
  enum { samples = 200, sample = 400, capacity = 8192 };
  static unsigned char dictionary[capacity];
  size_t sizes[samples];
  for (int i = 0; i < samples; i++) sizes[i] = sample;
  size_t trained = ZDICT_trainFromBuffer(dictionary, capacity, original, sizes, samples);
  if (ZDICT_isError(trained)) {
    printf("training: %s\n", ZDICT_getErrorName(trained));
    return 3;
  }
  size_t with = ZSTD_compress_usingDict(c, packed, room, original + 90000, 2000, dictionary, trained, 3);
  if (failed("with a dictionary", with)) return 3;
  size_t back = ZSTD_decompress_usingDict(d, restored, size, packed, with, dictionary, trained);
  wrong += back != 2000 || memcmp(original + 90000, restored, 2000) != 0;
  printf("dictionary: %zu bytes, %zu with it, %016llx\n", trained, with, (unsigned long long)checksum(dictionary, trained));

  ZSTD_freeCCtx(c);
  ZSTD_freeDCtx(d);
  free(original), free(packed), free(restored);
  printf("%d wrong\n", wrong);
  return wrong ? 1 : 17;
}
