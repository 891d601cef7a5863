/*
 * Work that is done beside main by a thread or by a process, in memory that all of them see, and bells between them.
 */

#ifndef BESIDE_H
#define BESIDE_H

#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 5 /* seconds after which somebody waits in vain */

struct beside {
    pthread_t thread;
    pid_t process; /* 0 = it is a thread */
};

static inline void *shared_memory_of(uint64_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* A process that has started before any thread did: it calls work() and ends well, or is ended with its parent. */
static inline pid_t start_process(void *(*work)(void *), void *argument) {
    pid_t parent = getpid();
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        CHECK_SAME(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
        CHECK_SAME(getppid(), parent);
        (void)work(argument);
        _exit(0);
    }
    return process;
}

static inline struct beside start(bool process, void *(*work)(void *), void *argument) {
    struct beside started = {0};
    if (process) {
        started.process = start_process(work, argument);
    } else {
        CHECK_SAME(pthread_create(&started.thread, NULL, work, argument), 0);
    }
    return started;
}

static inline void join(struct beside started) {
    int status = 0;
    if (started.process == 0) {
        pthread_join(started.thread, NULL);
        return;
    }
    CHECK_SAME(waitpid(started.process, &status, 0), started.process);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void new_bell(sem_t *bell) {
    CHECK_SAME(sem_init(bell, 1, 0), 0);
}

static inline void sleep_on(sem_t *bell) {
    while (sem_wait(bell) != 0) {
        CHECK_SAME(errno, EINTR);
    }
}

/* The same, and it must not take PATIENCE. */
static inline void await_bell(sem_t *bell, const char *who) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    while (sem_timedwait(bell, &until) != 0) {
        if (errno == ETIMEDOUT) {
            fprintf(stderr, "lost wake-up: a %s sleeps for ever\n", who);
            exit(1);
        }
    }
}

static inline int64_t seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static inline uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Nothing, a few loads, the processor to others, or now and then long enough for everybody else to fall asleep. */
static inline void pause_randomly(uint32_t *seed, const bridge_u32 *at) {
    uint32_t chance = next_random(seed) % 256;
    if (chance < 2) {
        struct timespec nap = {0, (long)(next_random(seed) % 200000)};
        nanosleep(&nap, NULL);
    } else if (chance < 40) {
        sched_yield();
    }
    for (uint32_t spin = next_random(seed) % 32; spin > 0; spin--) {
        (void)bridge_u32_load_relaxed(at);
    }
}

/* How often: the second argument, or what suits a test. */
static inline uint32_t rounds_of(int argc, char **argv, uint32_t usual) {
    return argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : usual;
}

/* Whether to use threads, processes, or both: the third argument. */
static inline bool wants(int argc, char **argv, const char *what) {
    return argc <= 3 || strcmp(argv[3], what) == 0;
}

#endif
