// The other half of one.cc, made in the same way.
extern "C" {
int first(int);
int outside(const char *);
int elsewhere[4] = {1, 2, 3, 4};
__attribute__((visibility("hidden"))) int hidden = 5;
__attribute__((aligned(256))) unsigned char aligned[40] = {1};
}

template <class T> struct shared {
  static T value;
  static T next() { return ++value; }
};
template <class T> T shared<T>::value = 7;

asm(".comm common, 64, 16");
extern int common[16];

__attribute__((weak)) int preferred() { return 1; }

extern "C" int other(int number) {
  return first(number - 1) + shared<int>::next() + common[3] + aligned[1] + preferred();
}

__attribute__((section("bounded"), used)) static const long even[2] = {1, 2};

// An indirect function.
extern "C" {
static int (*choose())(int) { return other; }
int chosen(int) __attribute__((ifunc("choose")));
}
