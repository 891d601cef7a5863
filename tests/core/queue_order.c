/* One process: first in is first out, full is full, every length arrives, and whoever starved is noticed. */

#include "check.h"

static void fills_and_drains_in_order(struct world world) {
    void *memory = new_queue(world, 0);
    bridge_queue in = open_queue(memory, world, ROUTER), out = open_queue(memory, world, WORKER);
    uint64_t sent = 0, received = 0;
    for (int lap = 0; lap < 5; lap++) {
        while (push_number(&in, sent) == 0) {
            sent++;
        }
        CHECK_SAME(sent - received, world.geometry.capacity);
        CHECK_SAME(bridge_queue_length(&in), world.geometry.capacity);
        int64_t result = bridge_queue_drain(&out, 3);
        CHECK_SAME(COUNT_OF(result), 3);
        CHECK_SAME(STARVED_OF(result), 1);
        for (uint32_t index = 0; index < 3; index++) {
            CHECK_SAME(number_at(&out, index), received++);
        }
        result = bridge_queue_drain(&out, 1);
        CHECK_SAME(STARVED_OF(result), 0);
        CHECK_SAME(number_at(&out, 0), received++);
    }
    while (COUNT_OF(bridge_queue_drain(&out, 1)) == 1) {
        CHECK_SAME(number_at(&out, 0), received++);
    }
    CHECK_SAME(received, sent);
    CHECK_SAME(bridge_queue_length(&in), 0);
    close_queue(&in), close_queue(&out), free(memory);
}

static void carries_every_length(struct world world) {
    void *memory = new_queue(world, 0);
    bridge_queue queue = open_queue(memory, world, ROUTER);
    uint8_t *message = memory_of(queue.room + 1);
    for (uint32_t length = 0; length <= queue.room; length++) {
        memset(message, (int)(length & 0xff), length);
        CHECK_SAME(bridge_queue_push(&queue, message, length), 0);
        CHECK_SAME(bridge_queue_drain(&queue, 64), 1);
        CHECK_SAME(length_at(&queue, 0), length);
        CHECK(memcmp(queue.batch + BRIDGE_BATCH_HEADER, message, length) == 0);
    }
    CHECK_SAME(bridge_queue_push(&queue, message, (uint64_t)queue.room + 1), BRIDGE_TOO_LONG);
    CHECK_SAME(bridge_queue_push(&queue, message, UINT64_MAX), BRIDGE_TOO_LONG);
    CHECK_SAME(bridge_queue_drain(&queue, 64), 0);
    free(message), close_queue(&queue), free(memory);
}

static void rings_each_sleeper_once_and_in_turn(struct world world) {
    void *memory = new_queue(world, 0);
    bridge_queue queue = open_queue(memory, world, ROUTER);
    for (int lap = 0; lap < 2; lap++) {
        for (uint32_t waiter = 0; waiter < world.geometry.waiters; waiter++) {
            CHECK_SAME(bridge_queue_doze(&queue, waiter), 1);
        }
        CHECK_SAME(bridge_queue_wake(&queue), 0); /* there is nothing to wake anybody for */
        for (uint32_t waiter = 0; waiter < world.geometry.waiters; waiter++) {
            CHECK_SAME(push_number(&queue, waiter), waiter + 1);
            CHECK_SAME(bridge_queue_drain(&queue, 1) & 0xffff, 1);
        }
        CHECK_SAME(push_number(&queue, 0), 0);
        CHECK_SAME(bridge_queue_doze(&queue, 0), 0); /* nobody sleeps on a message */
        CHECK_SAME(bridge_queue_wake(&queue), 0);
        CHECK_SAME(bridge_queue_drain(&queue, 1), 1);
    }
    CHECK_SAME(bridge_queue_doze(&queue, 2), 1);
    bridge_queue_rouse(&queue, 2);
    CHECK_SAME(push_number(&queue, 0), 0);
    CHECK_SAME(bridge_queue_doze(&queue, world.geometry.waiters), BRIDGE_NONE);
    close_queue(&queue), free(memory);
}

static void refuses_impossible_geometry(void) {
    const struct bridge_queue_geometry bad[] = {
        {0, 32, 1}, {3, 32, 1}, {1u << 25, 32, 1}, {4, 16, 1}, {4, 40, 1}, {4, 0, 1}, {4, 32, 0}, {4, 32, 70000}, {4, UINT32_MAX, 1},
    };
    for (size_t index = 0; index < sizeof bad / sizeof *bad; index++) {
        CHECK_SAME(bridge_queue_bytes(&bad[index]), 0);
    }
}

int main(int argc, char **argv) {
    struct world world = world_of(argc, argv);
    fills_and_drains_in_order(world);
    carries_every_length(world);
    rings_each_sleeper_once_and_in_turn(world);
    refuses_impossible_geometry();
    return 0;
}
