/* The only producer of a queue notices at a look, or when it publishes, that somebody has moved what is not his. */

#include "check.h"

static struct world world;
static struct bridge_queue_shared *memory;
static void *words;
static bridge_queue router, worker;
static bridge_tracking tracking;

static int64_t publish(uint32_t slot) {
    uint64_t nothing = 0;
    return bridge_queue_publish(&router, &tracking, slot, (const uint8_t *)&nothing, sizeof nothing);
}

static void begin(uint64_t first_ticket) {
    memory = new_queue(world, first_ticket);
    words = memory_of(bridge_tracking_bytes(world.slots));
    router = open_queue(memory, world, ROUTER);
    worker = open_queue(memory, world, WORKER);
    CHECK_SAME(bridge_tracking_open(&tracking, words, world.slots, ROUTER, 1), 0);
}

static void end(void) {
    close_queue(&router), close_queue(&worker), free(memory), free(words);
}

static uint64_t generation_of(uint32_t slot) {
    return bridge_u64_load_relaxed(&((struct bridge_tracking_shared *)words)->words[slot]) >> 32;
}

static bridge_u64 *word_of(uint64_t ticket) {
    uint64_t index = ticket % world.geometry.capacity;
    return &((struct bridge_cell *)(router.ring.cells + index * world.geometry.item_size))->word;
}

/* Two laps of what honest processes do: nothing is wrong with any of it. */
static void finds_nothing_among_the_honest(uint64_t first_ticket) {
    begin(first_ticket);
    CHECK_SAME(bridge_queue_audit(&router), 0);
    for (uint32_t round = 0; round < 2 * world.geometry.capacity; round++) {
        CHECK(publish(0) > 0);
        CHECK(publish(1) > 0);
        CHECK_SAME(bridge_queue_audit(&router), 0);
        CHECK_SAME(bridge_tracking_move(&tracking, (uint64_t)publish(2), BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
        CHECK_SAME(publish(0), BRIDGE_LOST); /* leaves a message that was given up */
        CHECK_SAME(bridge_queue_audit(&router), 0);
        CHECK_SAME(COUNT_OF(bridge_queue_drain(&worker, 64)), 3);
        CHECK_SAME(bridge_queue_audit(&router), 0);
        for (uint32_t slot = 0; slot < 2; slot++) {
            uint64_t stream = generation_of(slot) << 32 | slot;
            CHECK_SAME(bridge_tracking_move(&tracking, stream, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
        }
    }
    end();
}

static void names_the_oldest_message_that_is_held(void) {
    struct bridge_hold holds[2];
    begin(0);
    CHECK(publish(0) > 0 && publish(1) > 0 && publish(2) > 0);
    CHECK_SAME(bridge_ring_take(&worker.ring, &holds[0]), 1);
    CHECK_SAME(bridge_ring_take(&worker.ring, &holds[1]), 1);
    CHECK_SAME(bridge_queue_audit(&router), 3);
    bridge_ring_release(&holds[0]);
    CHECK_SAME(bridge_queue_audit(&router), 2);
    bridge_ring_release(&holds[1]);
    CHECK_SAME(bridge_queue_audit(&router), 0);
    end();
}

/* A consumer dies between taking a message and moving the head; its cell is recovered, and used again at once. */
static void lets_the_dead_leave_the_head_behind(void) {
    begin(0);
    for (uint32_t slot = 0; slot < world.geometry.capacity; slot++) {
        CHECK(publish(slot) > 0);
    }
    struct bridge_hold hold;
    CHECK_SAME(bridge_ring_take(&worker.ring, &hold), 1);
    bridge_u64_store_relaxed(&memory->head, 0);
    CHECK_SAME(bridge_queue_audit(&router), world.geometry.capacity);
    int64_t from = bridge_queue_recover(&router, WORKER, 0);
    CHECK(from > 0);
    uint64_t stream = number_at(&router, 0);
    CHECK_SAME(bridge_queue_recover(&router, WORKER, (uint32_t)from), 0);
    CHECK_SAME(bridge_tracking_move(&tracking, stream, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
    CHECK(publish(0) > 0);
    CHECK_SAME(bridge_queue_audit(&router), 0);
    CHECK_SAME(publish(world.slots - 1), BRIDGE_FULL);
    for (uint32_t left = world.geometry.capacity; left > 0; left--) {
        CHECK_SAME(COUNT_OF(bridge_queue_drain(&worker, 1)), 1);
        CHECK_SAME(bridge_queue_audit(&router), 0);
    }
    CHECK_SAME(COUNT_OF(bridge_queue_drain(&worker, 1)), 0);
    end();
}

static void finds_a_head_that_has_passed_a_message(void) {
    begin(0);
    CHECK(publish(0) > 0 && publish(1) > 0);
    bridge_u64_store_relaxed(&memory->head, 1);
    CHECK_SAME(bridge_queue_audit(&router), BRIDGE_FAULT);
    bridge_u64_store_relaxed(&memory->head, 3);
    CHECK_SAME(bridge_queue_audit(&router), BRIDGE_FAULT);
    end();
}

static void finds_a_tail_that_was_moved(void) {
    begin(0);
    CHECK(publish(0) > 0);
    bridge_u64_store_relaxed(&memory->tail, 2);
    CHECK_SAME(bridge_queue_audit(&router), BRIDGE_FAULT);
    CHECK_SAME(publish(1), BRIDGE_FAULT);
    end();
}

static void finds_another_version(void) {
    begin(0);
    bridge_u32_store_relaxed(&memory->version, 7);
    CHECK_SAME(bridge_queue_audit(&router), BRIDGE_FAULT);
    end();
}

static void finds_words_that_nobody_writes(void) {
    const uint64_t garbage[] = {0, 1, (uint64_t)7 << 16, UINT64_MAX, (uint64_t)5 << 24, (uint64_t)2 << 16 | WORKER};
    for (size_t index = 0; index < sizeof garbage / sizeof *garbage; index++) {
        begin(world.geometry.capacity);
        CHECK(publish(0) > 0);
        bridge_u64_store_relaxed(word_of(world.geometry.capacity), garbage[index]);
        CHECK_SAME(bridge_queue_audit(&router), BRIDGE_FAULT);
        end();
    }
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    finds_nothing_among_the_honest(0);
    finds_nothing_among_the_honest((uint64_t)0 - world.geometry.capacity / 2);
    names_the_oldest_message_that_is_held();
    lets_the_dead_leave_the_head_behind();
    finds_a_head_that_has_passed_a_message();
    finds_a_tail_that_was_moved();
    finds_another_version();
    finds_words_that_nobody_writes();
    return 0;
}
