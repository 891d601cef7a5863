/* Tracking words: generations protect slots, owners are found, garbage is refused. (Every move: test_tracking.py.) */

#include "check.h"

static bridge_tracking router, worker;

static void generation_protects(uint32_t slots) {
    for (uint32_t slot = 0; slot < slots; slot++) {
        int64_t first = bridge_tracking_arm(&router, slot);
        CHECK(first > 0 && (uint32_t)first == slot);
        CHECK_SAME(bridge_tracking_arm(&router, slot), BRIDGE_LOST); /* in use */
        CHECK_SAME(bridge_tracking_move(&router, (uint64_t)first, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
        int64_t second = bridge_tracking_arm(&router, slot);
        CHECK_SAME(second >> 32, (first >> 32) + 1);
        for (int event = 0; event < 300; event++) {
            CHECK_SAME(bridge_tracking_move(&worker, (uint64_t)first, event, 0), BRIDGE_LOST);
        }
        CHECK_SAME(bridge_tracking_state(&worker, (uint64_t)first), BRIDGE_LOST);
        CHECK_SAME(bridge_tracking_owner(&worker, (uint64_t)first), BRIDGE_LOST);
        CHECK_SAME(bridge_tracking_state(&worker, (uint64_t)second), BRIDGE_QUEUED);
        CHECK_SAME(bridge_tracking_move(&router, (uint64_t)second, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
    }
    CHECK_SAME(bridge_tracking_arm(&router, slots), BRIDGE_LOST);
    CHECK_SAME(bridge_tracking_state(&router, (uint64_t)1 << 32 | slots), BRIDGE_LOST);
}

static void generation_passes_its_end(void) {
    bridge_u64_store_relaxed(&router.shared->words[0], (uint64_t)0x7fffffff << 32 | BRIDGE_DONE << 24);
    CHECK_SAME(bridge_tracking_arm(&router, 0), (int64_t)1 << 32); /* never stream 0, never negative */
    CHECK_SAME(bridge_tracking_move(&router, (uint64_t)1 << 32, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
}

static void owners_are_found(uint32_t slots) {
    for (uint32_t slot = 0; slot < slots; slot++) {
        uint64_t stream = (uint64_t)bridge_tracking_arm(&router, slot);
        uint16_t owner = slot % 2 ? WORKER : OTHER;
        CHECK_SAME(bridge_tracking_move(&worker, stream, BRIDGE_CLAIM, owner), BRIDGE_CLAIMED);
        CHECK_SAME(bridge_tracking_owner(&router, stream), owner);
        CHECK_SAME(bridge_tracking_move(&worker, stream, BRIDGE_START, owner == WORKER ? OTHER : WORKER), BRIDGE_LOST);
        if (slot % 4 == 1) {
            CHECK_SAME(bridge_tracking_move(&worker, stream, BRIDGE_FINISH, owner), BRIDGE_DONE);
        }
    }
    uint32_t found = 0;
    for (uint32_t from = 0; (from = bridge_tracking_recover(&router, WORKER, from)) != 0; found++) {
        CHECK_SAME(router.found_state, (from - 1) % 4 == 1 ? BRIDGE_DONE : BRIDGE_CLAIMED);
        CHECK_SAME((uint32_t)router.found_stream, from - 1);
        CHECK_SAME(bridge_tracking_state(&router, router.found_stream), BRIDGE_DONE);
        CHECK_SAME(bridge_tracking_owner(&router, router.found_stream), 0);
    }
    CHECK_SAME(found, slots / 2);
    CHECK_SAME(bridge_tracking_recover(&router, WORKER, 0), 0);
}

int main(int argc, char **argv) {
    struct world world = world_of(argc, argv);
    void *memory = memory_of(bridge_tracking_bytes(world.slots));
    CHECK_SAME(bridge_tracking_open(&worker, memory, world.slots, WORKER, 0), BRIDGE_FAULT); /* not laid out yet */
    CHECK_SAME(bridge_tracking_open(&router, memory, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&worker, memory, world.slots, WORKER, 0), 0);
    generation_protects(world.slots);
    generation_passes_its_end();
    owners_are_found(world.slots);
    bridge_u64_store_relaxed(&router.shared->words[1], (uint64_t)5 << 32 | 0xffu << 24);
    for (int event = -1; event < 12; event++) {
        CHECK_SAME(bridge_tracking_move(&router, (uint64_t)5 << 32 | 1, event, 0), BRIDGE_LOST);
    }
    CHECK_SAME(bridge_tracking_arm(&router, 1), BRIDGE_LOST);
    free(memory);
    return 0;
}
