/* Claim against cancel, on two threads: of each request exactly one of the two wins, and both know who. */

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define ROUNDS 20000

static struct world world;
static void *memory, *words;
static _Atomic uint32_t claimed, finished;

static void *work(void *argument) {
    bridge_queue queue = open_queue(memory, world, WORKER);
    bridge_tracking tracking;
    CHECK_SAME(bridge_tracking_open(&tracking, words, world.slots, WORKER, 0), 0);
    while (!finished || bridge_queue_length(&queue) > 0) {
        int64_t result = bridge_queue_claim(&queue, &tracking, 4);
        CHECK(result >= 0);
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            uint64_t stream = number_at(&queue, index);
            claimed++;
            int state = bridge_tracking_move(&tracking, stream, BRIDGE_FINISH, WORKER);
            CHECK_SAME(state, BRIDGE_DONE); /* cancelled or not: a claimed stream is ours to end */
        }
        if (COUNT_OF(result) == 0) {
            sched_yield();
        }
    }
    close_queue(&queue);
    return argument;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    memory = new_queue(world, 0);
    words = memory_of(bridge_tracking_bytes(world.slots));
    bridge_queue queue = open_queue(memory, world, ROUTER);
    bridge_tracking tracking;
    CHECK_SAME(bridge_tracking_open(&tracking, words, world.slots, ROUTER, 1), 0);
    pthread_t worker;
    CHECK_SAME(pthread_create(&worker, NULL, work, NULL), 0);
    uint32_t cancelled = 0, too_late = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        int64_t stream;
        uint32_t slot = round % world.slots;
        while ((stream = bridge_tracking_arm(&tracking, slot)) < 0) {
            sched_yield(); /* the slot is not free before its last user is done with it */
        }
        while (push_number(&queue, (uint64_t)stream) == BRIDGE_FULL) {
            sched_yield();
        }
        for (uint32_t spin = round % 64; spin > 0; spin--) {
            (void)bridge_queue_length(&queue);
        }
        int state = bridge_tracking_move(&tracking, (uint64_t)stream, BRIDGE_CANCEL, 0);
        CHECK(state == BRIDGE_CANCELLED_SLOT || state == BRIDGE_CANCELLING || state == BRIDGE_LOST);
        cancelled += state == BRIDGE_CANCELLED_SLOT;
        too_late += state != BRIDGE_CANCELLED_SLOT;
    }
    finished = 1;
    pthread_join(worker, NULL);
    CHECK_SAME(cancelled + claimed, ROUNDS);
    CHECK_SAME(too_late, claimed);
    close_queue(&queue), free(memory), free(words);
    return 0;
}
