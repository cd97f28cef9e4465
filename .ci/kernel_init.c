// The first and only program of the image that .ci/kernel boots: runs what /plan says, one line after the other, says how each
// ended, and turns the machine off. A line is an exit status, a path, and arguments.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 64, SECONDS = 1200 };

static void mount_at(const char *type, const char *place) {
  mkdir(place, 0755);
  if (mount(type, place, type, 0, NULL) != 0)
    printf("*** %s cannot be mounted: %s\n", place, strerror(errno));
}

// The status that a program ended with, as a shell says it.
static int run(char *const words[]) {
  pid_t child = fork(), ended;
  int status = 0;
  if (child == 0) {
    setsid();
    alarm(SECONDS); // It outlives execv.
    execv(words[0], words);
    printf("*** %s: %s\n", words[0], strerror(errno));
    _exit(127);
  }
  // What a program leaves behind becomes a child of this one.
  do
    ended = wait(&status);
  while (ended != child && (ended > 0 || errno == EINTR));
  kill(-1, SIGKILL);
  while (wait(NULL) > 0)
    ;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  mount_at("proc", "/proc");
  mount_at("sysfs", "/sys");
  mount_at("devtmpfs", "/dev");
  setenv("PATH", "/bin", 1);
  setenv("RUST_BACKTRACE", "1", 1);
  setenv("NEARCODE_STEPS", "2000", 1); // Reading the map after each step takes most of the time.
  struct utsname name;
  uname(&name);
  printf("=== Linux %s, pages of %ld bytes, %ld cores\n", name.release, sysconf(_SC_PAGESIZE), sysconf(_SC_NPROCESSORS_ONLN));

  int done = 0, failed = 0;
  char line[4096], *words[WORDS];
  FILE *plan = fopen("/plan", "r");
  while (plan && fgets(line, sizeof line, plan)) {
    int count = 0;
    for (char *word = strtok(line, " \n"); word && count < WORDS - 1; word = strtok(NULL, " \n"))
      words[count++] = word;
    words[count] = NULL;
    if (count < 2)
      continue;
    time_t started = time(NULL);
    printf("\n=== %s\n", words[1]);
    int status = run(words + 1);
    int is_fine = status == atoi(words[0]);
    printf("%s %s: status %d, %ld s\n", is_fine ? "---" : "***", words[1], status, (long)(time(NULL) - started));
    done++;
    failed += !is_fine;
  }
  printf("\n=== %d programs run, %d failed\n", done, failed);
  reboot(RB_POWER_OFF);
  return 1;
}
