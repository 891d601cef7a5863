/* Claiming: each consumer its share, cancelled requests are passed over, and the baton goes on to a sleeper. */

#include "check.h"

static uint64_t publish(bridge_queue *queue, bridge_tracking *tracking, uint32_t slot) {
    int64_t stream = bridge_tracking_arm(tracking, slot);
    CHECK(stream > 0);
    CHECK(push_number(queue, (uint64_t)stream) >= 0);
    return (uint64_t)stream;
}

int main(int argc, char **argv) {
    struct world world = world_of(argc, argv);
    void *memory = new_queue(world, 0), *words = memory_of(bridge_tracking_bytes(world.slots));
    bridge_queue router = open_queue(memory, world, ROUTER), worker = open_queue(memory, world, WORKER);
    bridge_tracking routers, workers;
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);

    uint64_t streams[4];
    for (uint32_t slot = 0; slot < 4; slot++) {
        streams[slot] = publish(&router, &routers, slot);
    }
    /* Three ready consumers, four requests: two are a fair share, and more than that one may not take. */
    bridge_queue_set_ready(&router, 3);
    CHECK_SAME(bridge_tracking_move(&routers, streams[0], BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
    CHECK_SAME(bridge_queue_claim(&worker, &workers, 64), 2);
    for (uint32_t index = 0; index < 2; index++) {
        CHECK_SAME(number_at(&worker, index), streams[index + 1]);
        CHECK_SAME(bridge_tracking_state(&routers, streams[index + 1]), BRIDGE_CLAIMED);
        CHECK_SAME(bridge_tracking_owner(&routers, streams[index + 1]), WORKER);
    }
    CHECK_SAME(bridge_tracking_owner(&routers, streams[3]), 0);
    /* A consumer without room takes nothing and passes the ring on; without sleepers nobody is rung. */
    CHECK_SAME(bridge_queue_wake(&router), 0);
    struct bridge_queue_shared *shared = memory;
    bridge_u64_or_ordered(&shared->sleeping[0], 1u << 2);
    int64_t result = bridge_queue_claim(&worker, &workers, 0);
    CHECK_SAME(COUNT_OF(result), 0);
    CHECK_SAME(BATON_OF(result), 3);
    bridge_u64_or_ordered(&shared->sleeping[0], 1u << 1);
    result = bridge_queue_claim(&worker, &workers, 1);
    CHECK_SAME(result, 1);
    CHECK_SAME(bridge_queue_claim(&worker, &workers, 1), 0);
    CHECK_SAME(bridge_u64_load_relaxed(&shared->sleeping[0]), 1u << 1);

    /* A message that is no request: too short to name a stream. */
    CHECK(bridge_queue_push(&router, (const uint8_t *)"short", 5) >= 0);
    CHECK_SAME(bridge_queue_claim(&worker, &workers, 1), BRIDGE_FAULT);
    /* One that names no stream there can be, or one of long ago, is passed over. */
    CHECK_SAME(bridge_tracking_move(&workers, streams[1], BRIDGE_FINISH, WORKER), BRIDGE_DONE);
    CHECK(push_number(&router, UINT64_MAX) >= 0);
    CHECK(push_number(&router, streams[1]) >= 0);
    CHECK(publish(&router, &routers, 1) != streams[1]);
    CHECK_SAME(COUNT_OF(bridge_queue_claim(&worker, &workers, 64)), 1);
    CHECK_SAME(bridge_queue_length(&router), 0);
    close_queue(&router), close_queue(&worker), free(memory), free(words);
    return 0;
}
