/* An answer is a move and a message, both or neither: full, cancelled and lost leave everything as it was. */

#include "check.h"

static struct world world;
static void *memory, *words;
static bridge_queue router, worker;
static bridge_tracking routers, workers;

static int64_t answer(uint64_t stream, int event) {
    return bridge_queue_answer(&worker, &workers, stream, event, (const uint8_t *)&stream, sizeof stream);
}

static uint64_t claimed(uint32_t slot) {
    int64_t stream = bridge_tracking_arm(&routers, slot);
    CHECK(stream > 0);
    CHECK_SAME(bridge_tracking_move(&workers, (uint64_t)stream, BRIDGE_CLAIM, WORKER), BRIDGE_CLAIMED);
    return (uint64_t)stream;
}

static void moves_and_delivers(void) {
    uint64_t stream = claimed(0);
    CHECK_SAME(answer(stream, BRIDGE_NO_EVENT), 0);
    CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_RUNNING);
    CHECK_SAME(answer(stream, BRIDGE_RESPOND), 0);
    CHECK_SAME(answer(stream, BRIDGE_NO_EVENT), 0);
    CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_RESPONDING);
    CHECK_SAME(answer(stream, BRIDGE_FINISH), 0);
    CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_DONE);
    CHECK_SAME(COUNT_OF(bridge_queue_drain(&router, 64)), 4);
    CHECK_SAME(answer(stream, BRIDGE_FINISH), BRIDGE_LOST);
    CHECK_SAME(answer(stream, BRIDGE_NO_EVENT), BRIDGE_LOST);
    CHECK_SAME(bridge_queue_drain(&router, 64), 0);
}

static void pieces_are_joined(void) {
    uint64_t stream = claimed(0);
    uint8_t message[4096];
    for (uint32_t at = 0; at < sizeof message; at++) {
        message[at] = (uint8_t)at;
    }
    CHECK_SAME(bridge_queue_answer_joined(
        &worker, &workers, stream, BRIDGE_RESPOND, message, 5, message + 5, worker.room - 5), 0);
    CHECK_SAME(COUNT_OF(bridge_queue_drain(&router, 64)), 1);
    CHECK_SAME(length_at(&router, 0), worker.room);
    CHECK(memcmp(router.batch + BRIDGE_BATCH_HEADER, message, worker.room) == 0);
    const uint64_t too_long[][2] = {{5, worker.room - 4}, {worker.room + 1, 0}, {5, UINT64_MAX}, {UINT64_MAX, 5}};
    for (size_t index = 0; index < sizeof too_long / sizeof *too_long; index++) {
        CHECK_SAME(bridge_queue_answer_joined(
            &worker, &workers, stream, BRIDGE_FINISH, message, too_long[index][0], message, too_long[index][1]),
            BRIDGE_TOO_LONG);
    }
    CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_RESPONDING);
    CHECK_SAME(answer(stream, BRIDGE_FINISH), 0);
    CHECK_SAME(COUNT_OF(bridge_queue_drain(&router, 64)), 1);
}

static void full_changes_nothing(void) {
    uint64_t stream = claimed(0);
    while (push_number(&worker, 0) == 0) {
    }
    CHECK_SAME(answer(stream, BRIDGE_FINISH), BRIDGE_FULL);
    CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_CLAIMED);
    CHECK_SAME(STARVED_OF(bridge_queue_drain(&router, 1)), 1);
    CHECK_SAME(answer(stream, BRIDGE_FINISH), 0);
    while (COUNT_OF(bridge_queue_drain(&router, 1)) == 1) {
    }
    CHECK_SAME(number_at(&router, 0), stream);
}

static void refusals_publish_nothing(void) {
    uint64_t stream = claimed(0);
    CHECK_SAME(bridge_tracking_move(&routers, stream, BRIDGE_CANCEL, 0), BRIDGE_CANCELLING);
    CHECK_SAME(answer(stream, BRIDGE_FINISH), BRIDGE_CANCELLED);
    CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_CANCELLING);
    CHECK_SAME(bridge_tracking_move(&workers, stream, BRIDGE_CONFIRM, WORKER), BRIDGE_DONE);
    CHECK_SAME(answer(stream, BRIDGE_FINISH), BRIDGE_LOST);
    uint64_t next = claimed(0);
    CHECK_SAME(answer(stream, BRIDGE_FINISH), BRIDGE_LOST);                      /* another generation */
    CHECK_SAME(answer(next + world.slots, BRIDGE_FINISH), BRIDGE_LOST);          /* no such slot */
    CHECK_SAME(answer(next, BRIDGE_CONFIRM), BRIDGE_LOST);                       /* no answer */
    CHECK_SAME(answer(next, 77), BRIDGE_LOST);                                   /* no event */
    workers.owner = OTHER;
    CHECK_SAME(answer(next, BRIDGE_FINISH), BRIDGE_LOST);                        /* not ours */
    workers.owner = WORKER;
    int64_t queued = bridge_tracking_arm(&routers, 1);
    CHECK_SAME(answer((uint64_t)queued, BRIDGE_FINISH), BRIDGE_LOST);            /* not claimed */
    CHECK_SAME(bridge_tracking_move(&routers, (uint64_t)queued, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
    CHECK_SAME(answer((uint64_t)queued, BRIDGE_FINISH), BRIDGE_CANCELLED);
    CHECK_SAME(bridge_tracking_state(&routers, next), BRIDGE_CLAIMED);
    CHECK_SAME(bridge_queue_drain(&router, 64), 0);
    CHECK_SAME(bridge_queue_length(&router), 0);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    memory = new_queue(world, 0);
    words = memory_of(bridge_tracking_bytes(world.slots));
    router = open_queue(memory, world, ROUTER);
    worker = open_queue(memory, world, WORKER);
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);
    moves_and_delivers();
    pieces_are_joined();
    CHECK_SAME(bridge_tracking_recover(&routers, WORKER, 0), 1);
    full_changes_nothing();
    refusals_publish_nothing();
    close_queue(&router), close_queue(&worker), free(memory), free(words);
    return 0;
}
