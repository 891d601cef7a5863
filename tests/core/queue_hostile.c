/* Garbage in shared memory: every call comes back, inside its bounds, and says so where it can see it. */

#include "check.h"

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void length_is_checked(struct world world) {
    const uint32_t lengths[] = {world.geometry.item_size - 15, 0x7fffffff, 0x80000000, 0xffffffff};
    for (size_t index = 0; index < sizeof lengths / sizeof *lengths; index++) {
        void *memory = new_queue(world, 0);
        bridge_queue queue = open_queue(memory, world, ROUTER);
        CHECK_SAME(push_number(&queue, 1), 0);
        struct bridge_cell *cell = (struct bridge_cell *)queue.ring.cells;
        bridge_u32_store_relaxed(&cell->length, lengths[index]);
        CHECK_SAME(bridge_queue_drain(&queue, 1), BRIDGE_FAULT);
        CHECK_SAME(push_number(&queue, 2), 0); /* the cell was freed all the same */
        CHECK_SAME(bridge_queue_drain(&queue, 1), 1);
        close_queue(&queue), free(memory);
    }
}

static void any_bytes_are_survived(struct world world, uint64_t seed) {
    uint64_t bytes = bridge_queue_bytes(&world.geometry);
    uint8_t *memory = new_queue(world, 0), *words = memory_of(bridge_tracking_bytes(world.slots));
    bridge_queue queue = open_queue(memory, world, ROUTER);
    bridge_tracking tracking;
    CHECK_SAME(bridge_tracking_open(&tracking, words, world.slots, ROUTER, 1), 0);
    for (uint64_t round = 0; round < 60; round++) {
        for (int damage = 0; damage < 6; damage++) {
            uint64_t at = next_random(&seed) % (damage < 2 ? bytes : 700 < bytes ? 700 : bytes);
            memory[at < 4 ? 4 : at] = (uint8_t)next_random(&seed); /* anything but the version, which is read once */
        }
        words[128 + next_random(&seed) % (8 * (uint64_t)world.slots)] = (uint8_t)next_random(&seed);
        (void)push_number(&queue, next_random(&seed));
        (void)bridge_queue_answer(&queue, &tracking, next_random(&seed) % world.slots, BRIDGE_FINISH, memory, 8);
        (void)bridge_queue_doze(&queue, 1);
        (void)bridge_queue_wake(&queue);
        (void)bridge_queue_claim(&queue, &tracking, 64);
        (void)bridge_queue_drain(&queue, 64);
        (void)bridge_queue_recover(&queue, WORKER, 0);
        (void)bridge_tracking_arm(&tracking, (uint32_t)(round % world.slots));
        (void)bridge_tracking_recover(&tracking, WORKER, 0);
        CHECK(bridge_queue_length(&queue) <= world.geometry.capacity);
    }
    close_queue(&queue), free(memory), free(words);
}

static void only_waiters_are_rung(struct world world) {
    struct bridge_queue_shared *shared = new_queue(world, 0);
    bridge_queue queue = open_queue(shared, world, ROUTER);
    for (uint32_t round = 0; round < 3 * world.geometry.waiters; round++) {
        uint32_t last = bridge_sleeping_words(world.geometry.waiters) - 1;
        bridge_u64_store_relaxed(&shared->sleeping[last], (uint64_t)1 << 63); /* nobody has this bit */
        CHECK_SAME(push_number(&queue, 0), 0);
        CHECK_SAME(bridge_queue_drain(&queue, 1), 1);
    }
    close_queue(&queue), free(shared);
}

static void another_version_is_refused(struct world world) {
    uint8_t *memory = new_queue(world, 0);
    bridge_queue queue;
    memory[0]++;
    CHECK_SAME(bridge_queue_open(&queue, memory, &world.geometry, ROUTER), BRIDGE_FAULT);
    free(memory);
}

int main(int argc, char **argv) {
    struct world world = world_of(argc, argv);
    length_is_checked(world);
    only_waiters_are_rung(world);
    another_version_is_refused(world);
    for (uint64_t seed = 1; seed <= 30; seed++) {
        any_bytes_are_survived(world, seed * 0x9e3779b97f4a7c15u);
    }
    return 0;
}
