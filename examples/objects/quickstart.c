// The object that examples/quickstart.rs and the front page load. Made anew with:
//   cc -O2 -fPIC -fno-ident -fno-builtin -c quickstart.c -o quickstart-$(uname -m).o
unsigned long strlen(const char *);

int calls;                                          // a variable that is reached through the GOT
static const char *const words[] = {"here", "nearby"}; // a table of addresses, read-only once relocated

int letters(void) {
  calls += 1;
  return strlen(words[calls & 1]); // calls out of the object, usually far away
}
