/* Tickets have no end: queues that start just below 2^32 and 2^64, and where a cycle has its last number, go on. */

#include "check.h"

static void crosses(struct world world, uint64_t first_ticket) {
    void *memory = new_queue(world, first_ticket);
    bridge_queue in = open_queue(memory, world, ROUTER), out = open_queue(memory, world, WORKER);
    uint64_t sent = 0, received = 0, capacity = world.geometry.capacity;
    CHECK_SAME(bridge_queue_drain(&out, 64), 0);
    while (received < 6 * capacity) {
        while (sent < received + capacity) {
            CHECK_SAME(push_number(&in, sent), 0);
            sent++;
        }
        CHECK_SAME(push_number(&in, sent), BRIDGE_FULL);
        int64_t result = bridge_queue_drain(&out, 1 + (uint32_t)(received % 3));
        CHECK_SAME(STARVED_OF(result), 1);
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            CHECK_SAME(number_at(&out, index), received++);
        }
        CHECK_SAME(bridge_queue_doze(&out, 0), 0);
    }
    while (COUNT_OF(bridge_queue_drain(&out, 1)) == 1) {
        received++;
    }
    CHECK_SAME(received, sent);
    CHECK_SAME(bridge_queue_doze(&out, 0), 1);
    CHECK_SAME(push_number(&in, 0), 1);
    close_queue(&in), close_queue(&out), free(memory);
}

int main(int argc, char **argv) {
    struct world world = world_of(argc, argv);
    const uint64_t bounds[] = {(uint64_t)1 << 32, (uint64_t)1 << 63, 0, ((uint64_t)1 << 40) * world.geometry.capacity};
    for (size_t bound = 0; bound < sizeof bounds / sizeof *bounds; bound++) {
        for (uint64_t before = 0; before <= 2 * (uint64_t)world.geometry.capacity && before < 20; before++) {
            crosses(world, bounds[bound] - before);
            crosses(world, bounds[bound] - 2 * (uint64_t)world.geometry.capacity - before);
        }
    }
    return 0;
}
