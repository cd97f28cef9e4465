/* A C program over two Rust objects. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

long describe_shape(size_t index, char *out, size_t size);
void sort_numbers(int *numbers, size_t count, bool (*less)(int, int));
void sort_shapes(size_t *indices, size_t count);

/* core's own unwind tables name it; nothing unwinds here. */
void rust_eh_personality(void) { abort(); }

static bool by_last_digit(int a, int b) { return a % 10 != b % 10 ? a % 10 < b % 10 : a < b; }

int main(void) {
  int numbers[40];
  size_t indices[4] = {0, 1, 2, 3};
  char line[64];
  long length;

  for (int i = 0; i < 40; i++) numbers[i] = i * 7919 % 211;
  sort_numbers(numbers, 40, by_last_digit);
  for (int i = 0; i < 40; i++) printf("%d%c", numbers[i], i % 20 == 19 ? '\n' : ' ');
  sort_shapes(indices, 4);
  for (int i = 0; i < 4; i++) {
    length = describe_shape(indices[i], line, sizeof line);
    printf("%zu: %.*s\n", indices[i], (int)length, line);
  }
  printf("%ld %ld\n", describe_shape(4, line, sizeof line), describe_shape(0, line, 12));
  fflush(stdout);
  return 11;
}
