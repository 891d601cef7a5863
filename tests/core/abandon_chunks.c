/* A process dies after any step of an operation on a chunk map: recovered by owner, no chunk is anybody's. */

#include "abandon.h"

static struct world world;
static void *memory;
static bridge_chunk_map router, worker;

static void claim(void) {
    (void)bridge_chunk_map_claim(&worker, 3);
}
static void claim_some(void) {
    (void)bridge_chunk_map_claim_some(&worker, 5, 2);
}
static void grow(void) {
    (void)bridge_chunk_map_grow(&worker, 2, 3, 1);
}
static void grow_in_vain(void) {
    (void)bridge_chunk_map_grow(&worker, 3, 5, 5);
}
static void transfer(void) {
    (void)bridge_chunk_map_transfer(&router, 0, 2, WORKER, ROUTER);
}
static void transfer_in_vain(void) {
    (void)bridge_chunk_map_transfer(&router, 0, 7, WORKER, ROUTER);
}
static void release(void) {
    (void)bridge_chunk_map_release(&worker, 0, 2, WORKER);
}
static void release_and_ask(void) {
    (void)bridge_chunk_map_release(&worker, 0, 2, WORKER);
    (void)bridge_chunk_map_take_waiting(&worker);
}
static void recover(void) {
    (void)bridge_chunk_map_recover(&router, WORKER);
}
static void ask(void) {
    (void)bridge_chunk_map_wait(&worker);
}

static uint32_t held_by(uint16_t owner) {
    uint32_t held = 0;
    for (uint32_t chunk = 0; chunk < world.chunks; chunk++) {
        held += bridge_u16_load_relaxed(&router.shared->owners[chunk]) == owner;
    }
    return held;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    void (*const operations[])(void) = {
        claim, claim_some, grow, grow_in_vain, transfer, transfer_in_vain, release, release_and_ask, recover, ask,
    };
    for (size_t index = 0; index < sizeof operations / sizeof *operations; index++) {
        bool died = true;
        for (int step = 1; died; step++) {
            memory = memory_of(bridge_chunk_map_bytes(world.chunks));
            CHECK_SAME(bridge_chunk_map_open(&router, memory, world.chunks, ROUTER, 1), 0);
            CHECK_SAME(bridge_chunk_map_open(&worker, memory, world.chunks, WORKER, 0), 0);
            CHECK_SAME(bridge_chunk_map_claim(&worker, 2), 0); /* worker, worker, free …, other, free */
            bridge_u16_store_relaxed(&router.shared->owners[6], OTHER);
            died = dies_after(step, operations[index]);
            uint32_t workers = held_by(WORKER), routers = held_by(ROUTER);
            CHECK_SAME(bridge_chunk_map_recover(&router, WORKER), workers);
            CHECK_SAME(bridge_chunk_map_recover(&router, ROUTER), routers);
            CHECK_SAME(bridge_chunk_map_busy(&router), 1); /* the other one's is untouched */
            CHECK_SAME(bridge_chunk_map_release(&router, 6, 1, OTHER), 1);
            CHECK_SAME(bridge_chunk_map_claim(&router, world.chunks), 0);
            CHECK_SAME(bridge_chunk_map_grow(&router, world.chunks, 1, 1), 0);
            free(memory);
        }
    }
    return 0;
}
