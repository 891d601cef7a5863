/*
 * The hunt for a lost wake-up of memory: a claimant that fails, asks, fails again and sleeps is rung by the release
 * that comes. A wait of five seconds is a lost wake-up.
 */

#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#define ROUNDS 15000

static struct world world;
static void *memory;
static sem_t bell;
static _Atomic uint64_t handed; /* run in the releaser's hands: first << 32 | chunks, 0 = none */

static void *releaser(void *argument) {
    bridge_chunk_map map;
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, ROUTER, 0), 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t run;
        while ((run = handed) == 0) {
            sched_yield();
        }
        handed = 0;
        uint32_t first = (uint32_t)(run >> 32) - 1, chunks = (uint32_t)run;
        CHECK_SAME(bridge_chunk_map_release(&map, first, chunks, WORKER), chunks);
        if (bridge_chunk_map_take_waiting(&map)) {
            sem_post(&bell);
        }
    }
    return argument;
}

static int64_t claim_or_wait(bridge_chunk_map *map) {
    int64_t first;
    while ((first = bridge_chunk_map_claim(map, world.chunks)) < 0) {
        (void)bridge_chunk_map_wait(map);
        first = bridge_chunk_map_claim(map, world.chunks);
        if (first >= 0) {
            return first;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 5;
        while (sem_timedwait(&bell, &until) != 0) {
            CHECK(errno != ETIMEDOUT);
        }
    }
    return first;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    world.chunks = 3;
    memory = memory_of(bridge_chunk_map_bytes(world.chunks));
    bridge_chunk_map map;
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, WORKER, 1), 0);
    sem_init(&bell, 0, 0);
    pthread_t thread;
    CHECK_SAME(pthread_create(&thread, NULL, releaser, NULL), 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        int64_t first = claim_or_wait(&map);
        handed = ((uint64_t)first + 1) << 32 | world.chunks;
    }
    pthread_join(thread, NULL);
    CHECK_SAME(bridge_chunk_map_busy(&map), 0);
    free(memory);
    return 0;
}
