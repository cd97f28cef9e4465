// Half of the program whose objects tests/support/damaged.rs damages; two.cc is the other half, three.cc and four.cc have variables
// of threads. In little space: what an object can ask of a loader. Nothing here ever runs. Made again, for each CPU:
//   g++ -O1 -fPIC -fno-exceptions -c one.cc -o one-x86_64.o
//   aarch64-linux-gnu-g++ -O1 -fPIC -fno-exceptions -c one.cc -o one-aarch64.o
extern "C" {
extern int elsewhere[4];
extern __attribute__((visibility("hidden"))) int hidden;
__attribute__((weak)) int nobody(int);
int other(int);
int chosen(int);
extern const char __start_bounded[], __stop_bounded[];
int outside(const char *);
}

// A group, of which two.cc has another copy.
template <class T> struct shared {
  static T value;
  static T next() { return ++value; }
};
template <class T> T shared<T>::value = 7;

asm(".comm common, 48, 32");
extern int common[12];

static int zeros[300];
static const char *const names[] = {"one", "two", "three"};
static int (*table[])(int) = {other, nobody};
extern "C" int (*const constant[])(int) = {other, nobody};

// A section whose bounds are referred to, of an odd size; two.cc has an aligned part of it.
__attribute__((section("bounded"), used)) static const char odd[3] = {1, 2, 3};

// A constructor.
static int started = outside("start");

extern "C" int first(int number) {
  zeros[number] += elsewhere[1] + hidden + common[2] + started;
  if (nobody) number += nobody(number);
  switch (number) {
  case 0: return outside(names[1]);
  case 1: return other(3);
  case 2: return table[number & 1](5);
  case 3: return constant[number & 1](7);
  case 4: return shared<int>::next();
  case 5: return zeros[9];
  case 6: return chosen(__stop_bounded - __start_bounded);
  }
  return outside(names[number]);
}
