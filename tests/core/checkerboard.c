/*
 * Every other chunk is busy, and somebody frees and takes these all the time: a claim of n chunks gets n chunks that lie
 * side by side or leaves nothing behind, for every n.
 */

#include "beside.h"

static struct world world;
static void *memory;
static _Atomic bool over;
static _Atomic uint32_t turns; /* of the holder */

static void *hold_the_odd_ones(void *argument) {
    bridge_chunk_map map;
    uint32_t seed = 5;
    bool *held = memory_of(world.chunks);
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, OTHER, 0), 0);
    while (!over) {
        uint32_t chunk = 2 * (next_random(&seed) % (world.chunks / 2)) + 1;
        if (held[chunk]) {
            CHECK_SAME(bridge_chunk_map_release(&map, chunk, 1, OTHER), 1);
            held[chunk] = false;
        } else {
            held[chunk] = bridge_chunk_map_grow(&map, chunk, 1, 1) == 1;
        }
        turns++;
        pause_randomly(&seed, &map.shared->version);
    }
    free(held);
    return argument;
}

static uint32_t held_by(const bridge_chunk_map *map, uint16_t owner) {
    uint32_t held = 0;
    for (uint32_t chunk = 0; chunk < map->count; chunk++) {
        held += bridge_u16_load_relaxed(&map->shared->owners[chunk]) == owner;
    }
    return held;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    uint32_t rounds = rounds_of(argc, argv, 20000);
    memory = memory_of(bridge_chunk_map_bytes(world.chunks));
    bridge_chunk_map map;
    CHECK_SAME(bridge_chunk_map_open(&map, memory, world.chunks, WORKER, 1), 0);
    struct beside holder = start(false, hold_the_odd_ones, NULL);
    uint32_t found = 0;
    for (uint32_t round = 0; round < rounds || turns < rounds / 4; round++) {
        uint32_t wanted = 1 + round % world.chunks;
        int64_t first = bridge_chunk_map_claim(&map, wanted);
        CHECK_SAME(held_by(&map, WORKER), first < 0 ? 0 : wanted);
        if (first >= 0) {
            found++;
            CHECK_SAME(bridge_chunk_map_release(&map, (uint32_t)first, wanted, WORKER), wanted);
        }
    }
    over = true;
    join(holder);
    CHECK(found > 0);
    uint32_t busy = bridge_chunk_map_busy(&map);
    CHECK_SAME(bridge_chunk_map_recover(&map, OTHER), busy);
    CHECK_SAME(bridge_chunk_map_claim(&map, world.chunks), 0);
    free(memory);
    return 0;
}
