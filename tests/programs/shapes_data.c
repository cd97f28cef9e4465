// The other half of shapes.c: what it refers to, and references back.
#include <string.h>

typedef unsigned __int128 wide;

unsigned char a_byte = 0xa5;
short a_half = -1234;
int a_word = 123456;
long a_long = 1234567890123;
wide a_wide = ((wide)0x0123456789abcdef << 64) | 0xfedcba9876543210;
const char *const names[5] = {"zero", "a longer name", "names", "of", "all"};
struct bits { unsigned low : 3; int middle : 11; unsigned long high : 40; } some_bits = {5, -1000, 0xabcdef0123};
__attribute__((visibility("hidden"))) int counter = 1000;
int shared_common[16]; // with -fcommon one with the other object's

int preferred(void);

static int plus(int a, int b) { return a + b; }
static int minus(int a, int b) { return a - b; }
static int times(int a, int b) { return a * b + counter; }
int quotient(int a, int b) { return b == 0 ? 0 : a / b; }
int (*const operations[4])(int, int) = {plus, minus, times, quotient};

__attribute__((visibility("hidden"))) int count(int by) { return counter += by; }
__attribute__((visibility("internal"))) int secret(int i) { return i ^ 0x55; }
__attribute__((visibility("protected"))) int guarded(int i) { return i + preferred(); }
int original(int i) { return guarded(i) * 3; }
int same(int i) __attribute__((alias("original")));
__attribute__((weak)) int preferred(void) { return 1; }
int spare(void) { return 4; }

// Ends in a call of another function: a jump.
long steps(long n);
__attribute__((noinline)) long steps_more(long n) { return n > 1000 ? n : steps(n * 3); }
long steps(long n) { return steps_more(n + a_word % 10); }

static const void *const places[] = {shared_common, (const void *)original, (const void *)preferred};
const void *place_of(int i) { return places[i]; }
