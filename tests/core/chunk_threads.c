/*
 * Chunks between threads: nobody ever holds what another one holds, a hand-over hands the bytes over, and who waits
 * for memory is told when there is some. Plain writes to the chunks: ThreadSanitizer sees a missing order.
 */

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define CLAIMANTS 2
#define ROUNDS 20000

static struct world world;
static void *memory;
static uint64_t *data; /* a word for each chunk */

static void use(uint32_t first, uint32_t chunks, uint64_t mark) {
    for (uint32_t chunk = first; chunk < first + chunks; chunk++) {
        CHECK_SAME(data[chunk], 0);
        data[chunk] = mark;
    }
    for (uint32_t chunk = first; chunk < first + chunks; chunk++) {
        CHECK_SAME(data[chunk], mark);
        data[chunk] = 0;
    }
}

static void *claimant(void *argument) {
    uint32_t me = (uint32_t)(uintptr_t)argument, seed = me;
    bridge_chunk_map map;
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, (uint16_t)(10 + me), 0), 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t wanted = 1 + (seed >> 16) % (world.chunks / 2);
        uint32_t least = 1 + (seed >> 8) % wanted;
        int64_t got = bridge_chunk_map_claim_some(&map, wanted, least);
        if (got < 0) {
            (void)bridge_chunk_map_wait(&map);
            sched_yield();
            continue;
        }
        uint32_t first = (uint32_t)(got >> 32), chunks = (uint32_t)got;
        CHECK(chunks >= least && chunks <= wanted && first + chunks <= world.chunks);
        use(first, chunks, 10 + me);
        if (seed & 1) {
            CHECK_SAME(bridge_chunk_map_transfer(&map, first, chunks, map.owner, (uint16_t)(20 + me)), 1);
            use(first, chunks, 20 + me);
            CHECK_SAME(bridge_chunk_map_release(&map, first, chunks, (uint16_t)(20 + me)), chunks);
        } else {
            CHECK_SAME(bridge_chunk_map_release(&map, first, chunks, map.owner), chunks);
        }
        (void)bridge_chunk_map_take_waiting(&map);
    }
    return NULL;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    memory = memory_of(bridge_chunk_map_bytes(world.chunks));
    data = memory_of(8 * (uint64_t)world.chunks);
    bridge_chunk_map map;
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, ROUTER, 1), 0);
    pthread_t threads[CLAIMANTS];
    for (uintptr_t index = 0; index < CLAIMANTS; index++) {
        CHECK_SAME(pthread_create(&threads[index], NULL, claimant, (void *)index), 0);
    }
    for (int index = 0; index < CLAIMANTS; index++) {
        pthread_join(threads[index], NULL);
    }
    CHECK_SAME(bridge_chunk_map_busy(&map), 0);
    free(memory), free(data);
    return 0;
}
