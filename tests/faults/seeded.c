// Randomness from a seed, and a clock that stands still: loaded before the C library into a simulation (LD_PRELOAD), so that
// what no program injects (the seeds of hash tables, the order in which a runtime looks at what is ready, the date that an
// HTTP server says) is the same in each run. The seed is the number in SIMULATION_SEED. Never for anything but a simulation:
// the keys are as good as published.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

static uint64_t next(void) {
    // A stream for each thread: which of them comes first is the machine's choice.
    static __thread uint64_t state;
    if (state == 0) {
        const char *seed = getenv("SIMULATION_SEED");
        state = (seed != NULL ? strtoull(seed, NULL, 10) : 0) + 0x9e3779b97f4a7c15u;
    }
    // SplitMix64.
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    (void)flags;
    unsigned char *bytes = buffer;
    for (size_t i = 0; i < length; i++) bytes[i] = (unsigned char)(next() >> 56);
    return (ssize_t)length;
}

int getentropy(void *buffer, size_t length) {
    return getrandom(buffer, length, 0) == (ssize_t)length ? 0 : -1;
}

// The machines of a simulation have clocks of their own. What measures time (CLOCK_MONOTONIC) goes on.
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*usual)(clockid_t, struct timespec *);
    if (clock == CLOCK_REALTIME) {
        time->tv_sec = 1780000000;
        time->tv_nsec = 0;
        return 0;
    }
    if (usual == NULL) usual = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return usual(clock, time);
}
