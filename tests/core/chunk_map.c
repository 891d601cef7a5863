/* The chunk map: first fit, growth, rollback without residue, hand-over, and nothing outside the map. */

#include "check.h"

static struct world world;
static void *memory;
static bridge_chunk_map router, worker;

static uint16_t *copy_of_map(void) {
    uint16_t *copy = memory_of(2 * ((uint64_t)world.chunks + 1));
    for (uint32_t chunk = 0; chunk <= world.chunks; chunk++) {
        copy[chunk] = bridge_u16_load_relaxed(&router.shared->owners[chunk]);
    }
    return copy;
}

#define UNCHANGED(call)                                                                                                \
    do {                                                                                                               \
        uint16_t *before = copy_of_map();                                                                              \
        call;                                                                                                          \
        uint16_t *after = copy_of_map();                                                                               \
        CHECK(memcmp(before, after, 2 * ((size_t)world.chunks + 1)) == 0);                                             \
        free(before), free(after);                                                                                     \
    } while (0)

static void claims_first_fit(void) {
    CHECK_SAME(bridge_chunk_map_claim(&worker, 2), 0);
    CHECK_SAME(bridge_chunk_map_claim(&router, 1), 2);
    CHECK_SAME(bridge_chunk_map_claim(&worker, 3), 3);
    CHECK_SAME(bridge_chunk_map_release(&router, 2, 1, ROUTER), 1);
    CHECK_SAME(bridge_chunk_map_claim(&worker, 2), 6);
    CHECK_SAME(bridge_chunk_map_claim(&worker, 1), 2);
    CHECK_SAME(bridge_chunk_map_busy(&router), 8);
    UNCHANGED(CHECK_SAME(bridge_chunk_map_claim(&worker, 0), BRIDGE_NONE));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_claim(&worker, world.chunks), BRIDGE_NONE));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_claim(&worker, UINT32_MAX), BRIDGE_NONE));
    CHECK_SAME(bridge_chunk_map_recover(&router, WORKER), 8);
    CHECK_SAME(bridge_chunk_map_claim(&worker, world.chunks), 0);
    CHECK_SAME(bridge_chunk_map_release(&worker, 0, world.chunks, WORKER), world.chunks);
}

static void grows_or_leaves_the_map_as_it_was(void) {
    CHECK_SAME(bridge_chunk_map_claim(&worker, 2), 0);
    CHECK_SAME(bridge_chunk_map_grow(&router, 5, 1, 1), 1);
    UNCHANGED(CHECK_SAME(bridge_chunk_map_grow(&worker, 2, 9, 4), 0));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_grow(&worker, 5, 1, 0), 0));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_grow(&worker, world.chunks, 1, 1), 0)); /* the sentinel */
    UNCHANGED(CHECK_SAME(bridge_chunk_map_grow(&worker, UINT32_MAX, UINT32_MAX, 1), 0));
    CHECK_SAME(bridge_chunk_map_grow(&worker, 2, 9, 3), 3);
    CHECK_SAME(bridge_chunk_map_claim_some(&worker, UINT32_MAX, 1), (int64_t)6 << 32 | (world.chunks - 6));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_claim_some(&worker, 4, 1), BRIDGE_NONE));
    CHECK_SAME(bridge_chunk_map_recover(&router, WORKER), world.chunks - 1);
    CHECK_SAME(bridge_chunk_map_recover(&router, ROUTER), 1);
}

static void finds_nothing_on_a_checkerboard(void) {
    for (uint32_t chunk = 0; chunk < world.chunks; chunk++) {
        CHECK_SAME(bridge_chunk_map_grow(chunk % 2 ? &router : &worker, chunk, 1, 1), 1);
    }
    CHECK_SAME(bridge_chunk_map_recover(&router, WORKER), world.chunks / 2);
    for (uint32_t wanted = 2; wanted <= world.chunks + 1; wanted++) {
        UNCHANGED(CHECK_SAME(bridge_chunk_map_claim(&worker, wanted), BRIDGE_NONE));
    }
    for (uint32_t chunk = 0; chunk < world.chunks; chunk += 2) {
        CHECK_SAME(bridge_chunk_map_claim(&worker, 1), chunk);
    }
    UNCHANGED(CHECK_SAME(bridge_chunk_map_claim(&worker, 1), BRIDGE_NONE));
    CHECK_SAME(bridge_chunk_map_recover(&router, WORKER) + bridge_chunk_map_recover(&router, ROUTER), world.chunks);
}

static void hands_over_once(void) {
    CHECK_SAME(bridge_chunk_map_claim(&worker, 3), 0);
    CHECK_SAME(bridge_chunk_map_grow(&router, 3, 1, 1), 1);
    UNCHANGED(CHECK_SAME(bridge_chunk_map_transfer(&router, 0, 4, WORKER, ROUTER), 0)); /* one of them is not the worker's */
    CHECK_SAME(bridge_chunk_map_transfer(&router, 0, 3, WORKER, ROUTER), 1);
    UNCHANGED(CHECK_SAME(bridge_chunk_map_transfer(&router, 0, 3, WORKER, ROUTER), 0)); /* named twice */
    UNCHANGED(CHECK_SAME(bridge_chunk_map_transfer(&router, 0, 0, ROUTER, WORKER), 0));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_transfer(&router, world.chunks - 1, 2, 0, ROUTER), 0));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_transfer(&router, world.chunks, 1, 0xffff, ROUTER), 0));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_transfer(&router, UINT32_MAX, UINT32_MAX, ROUTER, WORKER), 0));
    UNCHANGED(CHECK_SAME(bridge_chunk_map_release(&worker, 0, 3, WORKER), 0)); /* no longer the worker's */
    UNCHANGED(CHECK_SAME(bridge_chunk_map_release(&router, 0, world.chunks + 1, ROUTER), 0));
    CHECK_SAME(bridge_chunk_map_release(&router, 0, world.chunks, ROUTER), 4);
    CHECK_SAME(bridge_chunk_map_release(&router, 0, world.chunks, ROUTER), 0);
}

static void asks_and_answers(void) {
    CHECK_SAME(bridge_chunk_map_take_waiting(&router), 0);
    CHECK_SAME(bridge_chunk_map_wait(&worker), 1);
    CHECK_SAME(bridge_chunk_map_wait(&worker), 0);
    CHECK_SAME(bridge_chunk_map_take_waiting(&router), 1);
    CHECK_SAME(bridge_chunk_map_take_waiting(&router), 0);
}

static void a_broken_sentinel_leads_nowhere(void) {
    bridge_u16_store_relaxed(&router.shared->owners[world.chunks], 0);
    CHECK_SAME(bridge_chunk_map_claim(&worker, world.chunks + 1), BRIDGE_NONE);
    CHECK_SAME(bridge_chunk_map_claim_some(&worker, world.chunks + 1, world.chunks), world.chunks);
    CHECK_SAME(bridge_chunk_map_grow(&worker, world.chunks, 1, 1), 0);
    CHECK_SAME(bridge_u16_load_relaxed(&router.shared->owners[world.chunks]), 0);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    memory = memory_of(bridge_chunk_map_bytes(world.chunks));
    CHECK_SAME(bridge_chunk_map_open(&worker, memory, world.chunks, WORKER, 0), BRIDGE_FAULT); /* not laid out yet */
    CHECK_SAME(bridge_chunk_map_open(&router, memory, world.chunks, ROUTER, 1), 0);
    CHECK_SAME(bridge_chunk_map_open(&worker, memory, world.chunks, WORKER, 0), 0);
    claims_first_fit();
    grows_or_leaves_the_map_as_it_was();
    finds_nothing_on_a_checkerboard();
    hands_over_once();
    asks_and_answers();
    CHECK_SAME(bridge_chunk_map_busy(&router), 0);
    a_broken_sentinel_leads_nowhere();
    free(memory);
    return 0;
}
