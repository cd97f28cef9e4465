// A thread-local variable at a fixed offset from the thread pointer. Made as one.cc is.
extern "C" int outside(const char *);

extern "C" {
__attribute__((tls_model("initial-exec"))) thread_local int fixed;
__attribute__((tls_model("initial-exec"))) static thread_local long others[40];
}

extern "C" int counts_alone(int number) {
  others[number & 3] += number;
  fixed += number;
  return outside("counts") + fixed + static_cast<int>(others[number & 1]);
}
