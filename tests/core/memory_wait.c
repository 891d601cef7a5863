/*
 * The hunt for a lost wake-up of memory, between threads and between processes: a claimant that fails, asks, fails again
 * and sleeps is rung by the release that comes.
 */

#include "beside.h"

/* What is shared beside the map. */
struct notes {
    sem_t bell;
    _Atomic uint64_t handed; /* run in the releaser's hands: first + 1 << 32 | chunks, 0 = none */
    _Atomic uint32_t slept;
};

static struct world world;
static void *memory;
static struct notes *notes;
static uint32_t rounds;

static void *release_all(void *argument) {
    bridge_chunk_map map;
    uint32_t seed = rounds;
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, ROUTER, 0), 0);
    for (uint32_t round = 0; round < rounds; round++) {
        uint64_t run;
        while ((run = notes->handed) == 0) {
            sched_yield();
        }
        notes->handed = 0;
        pause_randomly(&seed, &map.shared->version);
        uint32_t first = (uint32_t)(run >> 32) - 1, chunks = (uint32_t)run;
        CHECK_SAME(bridge_chunk_map_release(&map, first, chunks, WORKER), chunks);
        pause_randomly(&seed, &map.shared->version);
        if (bridge_chunk_map_take_waiting(&map)) {
            pause_randomly(&seed, &map.shared->version);
            sem_post(&notes->bell);
        }
    }
    return argument;
}

static int64_t claim_or_wait(bridge_chunk_map *map, uint32_t *seed) {
    int64_t first;
    while ((first = bridge_chunk_map_claim(map, world.chunks)) < 0) {
        pause_randomly(seed, &map->shared->version);
        (void)bridge_chunk_map_wait(map);
        pause_randomly(seed, &map->shared->version);
        first = bridge_chunk_map_claim(map, world.chunks);
        if (first >= 0) {
            return first;
        }
        notes->slept++;
        await_bell(&notes->bell, "claimant");
    }
    return first;
}

static void hunt(bool process) {
    bridge_chunk_map map;
    uint32_t seed = 1;
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, WORKER, 1), 0);
    new_bell(&notes->bell);
    struct beside releaser = start(process, release_all, NULL);
    for (uint32_t round = 0; round < rounds; round++) {
        int64_t first = claim_or_wait(&map, &seed);
        notes->handed = ((uint64_t)first + 1) << 32 | world.chunks;
    }
    join(releaser);
    CHECK_SAME(bridge_chunk_map_busy(&map), 0);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    world.chunks = 3;
    rounds = rounds_of(argc, argv, 8000);
    memory = shared_memory_of(bridge_chunk_map_bytes(world.chunks));
    notes = shared_memory_of(sizeof *notes);
    if (wants(argc, argv, "processes")) {
        hunt(true);
    }
    if (wants(argc, argv, "threads")) {
        hunt(false);
    }
    if (argc > 2) {
        printf("%u\n", notes->slept);
    }
    return 0;
}
