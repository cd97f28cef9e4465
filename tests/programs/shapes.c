// Half of the program that tests/loader_compilers.rs compiles in many ways: what compilers translate into references of many
// kinds. shapes_data.c is the other half. `describe` writes down what all of it computed, so that two builds compare as text.
// Every value is exact, so that no optimization may change a digit.
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int quad_of_ints __attribute__((vector_size(16)));
typedef unsigned __int128 wide;

// Defined by the other object.
extern unsigned char a_byte;
extern short a_half;
extern int a_word;
extern long a_long;
extern wide a_wide;
extern const char *const names[5];
extern int (*const operations[4])(int, int);
extern struct bits { unsigned low : 3; int middle : 11; unsigned long high : 40; } some_bits;
extern int shared_common[16];
extern int only_here_common[];
extern int counter __attribute__((visibility("hidden")));
int count(int) __attribute__((visibility("hidden")));
int secret(int) __attribute__((visibility("internal")));
int original(int);
int same(int);
int preferred(void);
int spare(void);
long steps(long);
const void *place_of(int);
__attribute__((weak)) int nobody(int);
__attribute__((weak)) extern int nothing;

int shared_common[16];
int only_here_common[3];

// Accesses of every width to what is known to be near.
static unsigned char bytes[3] = {1, 2, 250};
static short halves[3] = {-1, 300, -300};
static int words[3] = {7, -70000, 70001};
static long longs[3] = {1, -5000000000, 5000000001};
static quad_of_ints quads[2] = {{1, 2, 3, 4}, {50, 60, 70, 80}};
static int zeros[1000];
static volatile unsigned char near_byte = 9;
static volatile short near_half = -99;
static volatile int near_word = 99999;
static volatile long near_long = -9999999999;
static volatile quad_of_ints near_quad = {11, 22, 33, 44};

// Tables of addresses: of strings, functions, data, and of the middle of data.
static const char *const greetings[] = {"one", "three", "five"};
static int *const middles[] = {words + 1, &a_word, shared_common + 5, zeros + 999};
static size_t (*const from_libc)(const char *) = strlen;

static char *end;
static size_t room;

__attribute__((format(printf, 1, 2), noinline)) static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int written = vsnprintf(end, room, format, arguments);
  va_end(arguments);
  if (written > 0 && (size_t)written < room) end += written, room -= written;
}

int preferred(void) { return 2; }            // strong: the other object's is weak
__attribute__((weak)) int spare(void) { return 3; } // weak: the other object's is strong

__attribute__((noinline)) static int chosen(int i) {
  switch (i) {
    case 0: return 3;
    case 1: return a_word;
    case 2: return count(1);
    case 3: return (int)strlen(names[1]);
    case 4: return -i;
    case 5: return words[i & 1];
    case 7: return original(i);
    case 8: return i << 5;
    case 9: return secret(i);
    default: return i * i;
  }
}

__attribute__((noinline)) static const char *spelled(int i) {
  switch (i) {
    case 10: return "ten";
    case 11: return "eleven";
    case 12: return "twelve";
    case 13: return names[2];
    case 14: return "fourteen";
    default: return "many";
  }
}

__attribute__((noinline)) static int jumped(int i) {
  static const void *const labels[] = {&&first, &&second, &&third};
  goto *labels[i % 3];
first:
  return 1;
second:
  return 20;
third:
  return 300;
}

__attribute__((noinline, cold)) static int complain(int i) { return i + near_word; }
__attribute__((noinline)) static int checked(int i) { return __builtin_expect(i > 1000, 0) ? complain(i) : i; }
__attribute__((noinline)) static int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__attribute__((noinline)) static double polynomial(double x) { return ((0.5 * x - 2.25) * x + 1024.0) * x - 3.0; }
__attribute__((noinline)) static float halved(float x) { return x * 0.5f + 100.25f; }
static int by_last_digit(const void *a, const void *b) { return *(const int *)a % 10 - *(const int *)b % 10; }

int describe(char *text, size_t size) {
  end = text, room = size;
  for (int i = 0; i < 3; i++) {
    bytes[i] += a_byte, halves[i] += a_half, words[i] += a_word, longs[i] += a_long;
    say("%u %d %d %ld\n", bytes[i], halves[i], words[i], longs[i]);
  }
  near_byte += 1, near_half += 1, near_word += 1, near_long += 1, near_quad += quads[1];
  say("%u %d %d %ld %d\n", near_byte, near_half, near_word, near_long, near_quad[3]);
  quads[0] += quads[1];
  for (int i = 0; i < 1000; i++) zeros[i] += i;
  say("%d %d %d\n", quads[0][0], quads[0][3], zeros[999]);
  a_wide = a_wide * a_wide + ((wide)1 << 100);
  say("%016lx%016lx\n", (long)(a_wide >> 64), (long)a_wide);
  for (int i = 0; i < 12; i++) say("%d %s %d\n", chosen(i), spelled(i + 8), jumped(i));
  for (int i = 0; i < 4; i++) say("%d %d\n", operations[i](30, 4), *middles[i]);
  for (int i = 0; i < 3; i++) say("%s %zu %s\n", greetings[i], from_libc(greetings[i]), names[i + 2]);
  say("%u %d %lu\n", some_bits.low, some_bits.middle, (unsigned long)some_bits.high);
  some_bits.middle = -512, some_bits.high += 1;
  say("%u %d %lu\n", some_bits.low, some_bits.middle, (unsigned long)some_bits.high);
  say("%d %d %d\n", checked(5), checked(5000), fibonacci(15));
  say("%g %g %g\n", polynomial(2.0), polynomial(-0.5), (double)halved(3.0f));
  const long double third = 0.375L;
  static long double kept = 12.625L;
  say("%d\n", memcmp(&kept, &third, 8) == 0);
  kept = third;
  say("%d\n", memcmp(&kept, &third, 8) == 0);
  int numbers[8] = {19, 28, 37, 46, 55, 64, 73, 82}, copy[8];
  memcpy(copy, numbers, sizeof copy);
  qsort(copy, 8, sizeof copy[0], by_last_digit);
  say("%d %d %d\n", copy[0], copy[7], memcmp(copy, numbers, sizeof copy) != 0);
  only_here_common[2] = shared_common[5] = 77;
  say("%d %d\n", only_here_common[2], count(5));
  say("%d %ld\n", counter, steps(10));
  say("%d %d %d %d\n", original(5), same(6), preferred(), spare());
  say("%d %d\n", nobody ? nobody(1) : -1, &nothing ? nothing : -2);
  say("%d %d %d\n", place_of(0) == shared_common, place_of(1) == (void *)original, place_of(2) == (void *)preferred);
  return (int)(end - text);
}
