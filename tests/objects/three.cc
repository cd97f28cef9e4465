// Thread-local variables, for those who link this with one.cc and two.cc, or alone. Made in the same way.
extern "C" {
extern thread_local int elsewhere_in_each;
int outside(const char *);

// General dynamic and local dynamic; four.cc has the model that these cannot stand beside.
thread_local int counted = 3;
static thread_local long long wide[3] = {1, 2, 3};
static thread_local char zeros_in_each[100];
}
__attribute__((weak)) thread_local int elsewhere_in_each = 9;

extern "C" int counts(int number) {
  zeros_in_each[number & 63] += 1;
  wide[number & 1] += ++counted;
  return outside("counts") + elsewhere_in_each + static_cast<int>(wide[0]) + zeros_in_each[3];
}
