/* What runs by itself, and when: each says its name. Compiled twice, as two objects of one program. */
#include <stdio.h>
#include <stdlib.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define NAMED(name) JOIN(name, PART)
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

typedef void (*function)(void);

#define SAYS(name, ...) \
    __VA_ARGS__ static void NAMED(name)(void) { puts(TEXT(NAMED(name))); }

SAYS(constructor_, __attribute__((constructor)))
SAYS(constructor_101_, __attribute__((constructor(101))))
SAYS(constructor_2000_, __attribute__((constructor(2000))))
SAYS(destructor_, __attribute__((destructor)))
SAYS(destructor_101_, __attribute__((destructor(101))))
SAYS(destructor_2000_, __attribute__((destructor(2000))))

/* Older compilers' lists: from the last to the first, and numbered from the other end. */
SAYS(ctors_first_)
SAYS(ctors_second_)
SAYS(ctors_65000_)
__attribute__((section(".ctors"), used)) static function NAMED(first_) = NAMED(ctors_first_);
__attribute__((section(".ctors"), used)) static function NAMED(second_) = NAMED(ctors_second_);
__attribute__((section(".ctors.65000"), used)) static function NAMED(numbered_) = NAMED(ctors_65000_);

extern char **environ;

__attribute__((constructor(102))) static void NAMED(arguments_)(int count, char **arguments, char **environment) {
    printf("%d arguments, the last one %s, then %p\n", count, arguments[count - 1], (void *)arguments[count]);
    printf("the environment: %d\n", environment == environ && environment[0] != 0);
}

/* Decided when the program starts; called, and its address taken, from both objects. */
static int first_choice(int n) { return n + 1; }
static int decisions;
static int (*NAMED(decide_)(void))(int) { return decisions++ < 100 ? first_choice : 0; }
int NAMED(chosen_)(int) __attribute__((ifunc(TEXT(NAMED(decide_)))));
static int NAMED(own_)(int) __attribute__((ifunc(TEXT(NAMED(decide_)))));
int (*NAMED(pointer_)(void))(int) { return NAMED(chosen_); }
int NAMED(call_own_)(int n) { return NAMED(own_)(n); }

#if MAIN
extern int chosen_2(int);
extern int (*pointer_2(void))(int), call_own_2(int);
static int (*in_data)(int) = chosen_2;
static void at_exit_first(void) { puts("at exit, registered first"); }
static void at_exit_second(void) { puts("at exit, registered second"); }
extern void *__dso_handle;
extern int __cxa_atexit(void (*)(void *), void *, void *);
static void with_argument(void *text) { puts(text); }

int main(int count, char **arguments, char **environment) {
    printf("main %d %s\n", count - 1, arguments[count - 1]);
    printf("the same environment: %d\n", environment == environ);
    printf("%d %d %d\n", chosen_1(1), chosen_2(2), in_data(3));
    printf("one address: %d %d\n", pointer_2() == chosen_2, in_data == chosen_2);
    printf("%d %d\n", call_own_1(4), call_own_2(5));
    __cxa_atexit((void (*)(void *))at_exit_first, 0, &__dso_handle);
    __cxa_atexit(with_argument, "at exit, with an argument", &__dso_handle);
    __cxa_atexit((void (*)(void *))at_exit_second, 0, &__dso_handle);
    return 7;
}
#endif
