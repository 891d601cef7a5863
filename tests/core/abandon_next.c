/*
 * A thread dies after any step of the call that finishes one request and claims the next; or a cancel of the next one
 * comes after any step. Every stream ends once, nothing is left behind, and the queues move.
 */

#include "abandon.h"

static struct world world;
static void *requests_memory, *answers_memory, *words;
static bridge_queue router_requests, router_answers, requests, answers;
static bridge_tracking routers, workers;
static uint64_t running, waiting;
static int64_t result;
static int cancelled_to;

static void set_up(bool more) {
    requests_memory = new_queue(world, 0), answers_memory = new_queue(world, 0);
    words = memory_of(bridge_tracking_bytes(world.slots));
    router_requests = open_queue(requests_memory, world, ROUTER);
    router_answers = open_queue(answers_memory, world, ROUTER);
    requests = open_queue(requests_memory, world, WORKER);
    answers = open_queue(answers_memory, world, WORKER);
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);
    running = (uint64_t)bridge_tracking_arm(&routers, 0);
    CHECK_SAME(push_number(&router_requests, running), 0);
    CHECK_SAME(bridge_queue_next(&requests, &answers, &workers, 0, NULL, 0, 0), 1);
    waiting = 0;
    if (more) {
        waiting = (uint64_t)bridge_tracking_arm(&routers, 1);
        CHECK_SAME(push_number(&router_requests, waiting), 0);
    }
}

static void tear_down(void) {
    close_queue(&router_requests), close_queue(&router_answers), close_queue(&requests), close_queue(&answers);
    free(requests_memory), free(answers_memory), free(words);
}

static void next(void) {
    result = bridge_queue_next(
        &requests, &answers, &workers, running, (const uint8_t *)&running, sizeof running, 0);
}

static void expect_that_both_move(void) {
    bridge_queue *both[] = {&router_requests, &router_answers};
    for (int index = 0; index < 2; index++) {
        CHECK_SAME(bridge_queue_length(both[index]), 0);
        for (uint64_t number = 0; number < world.geometry.capacity; number++) {
            CHECK_SAME(push_number(both[index], number), 0);
        }
        CHECK_SAME(push_number(both[index], 0), BRIDGE_FULL);
    }
    CHECK(bridge_tracking_arm(&routers, 0) > 0 && bridge_tracking_arm(&routers, 1) > 0);
}

static uint32_t again; /* requests that the dead had taken and not claimed, which are published again */

/* Recovery as a router does it, of requests and of answers. */
static void recover(void) {
    again = 0;
    for (int64_t from = 0; (from = bridge_queue_recover(&router_requests, WORKER, (uint32_t)from)) > 0;) {
        uint64_t stream = number_at(&router_requests, 0);
        again += bridge_tracking_state(&routers, stream) == BRIDGE_QUEUED;
    }
    CHECK_SAME(bridge_queue_recover(&router_answers, WORKER, 0), 0);
    bridge_queue_rouse(&router_requests, 0);
}

static void dies(bool more) {
    bool died = true;
    for (int step = 1; died; step++) {
        set_up(more);
        died = dies_after(step, next);
        recover();
        uint32_t delivered = COUNT_OF(bridge_queue_drain(&router_answers, 64));
        int state = bridge_tracking_state(&routers, running);
        CHECK(state == BRIDGE_RUNNING || state == BRIDGE_DONE);
        CHECK(delivered == 0 || state == BRIDGE_DONE);
        CHECK(died || delivered == 1);
        bool found_running = false, found_waiting = false;
        for (uint32_t from = 0; (from = bridge_tracking_recover(&routers, WORKER, from)) != 0;) {
            found_running |= routers.found_stream == running;
            found_waiting |= routers.found_stream == waiting;
            if (routers.found_stream == waiting) {
                CHECK_SAME(delivered, 1); /* nothing is claimed before the last one is answered */
                CHECK(routers.found_state == BRIDGE_CLAIMED || routers.found_state == BRIDGE_RUNNING);
            }
        }
        CHECK(found_running); /* also in DONE: its owner stays in the word */
        if (more && !found_waiting) {
            CHECK_SAME(COUNT_OF(bridge_queue_drain(&router_requests, 64)) + again, 1); /* another worker gets it */
            CHECK_SAME(bridge_tracking_move(&routers, waiting, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
        }
        CHECK_SAME(more || !found_waiting, 1);
        expect_that_both_move();
        tear_down();
    }
}

static void cancel_next(void) {
    cancelled_to = bridge_tracking_move(&routers, waiting, BRIDGE_CANCEL, 0);
}

static void next_is_cancelled(void) {
    bool happened = true;
    for (int step = 1; happened; step++) {
        set_up(true);
        cancelled_to = 0;
        happened = happens_after(step, cancel_next, next);
        CHECK_SAME(bridge_queue_drain(&router_answers, 64), 1);
        if (cancelled_to == BRIDGE_CANCELLED_SLOT) {
            CHECK_SAME(COUNT_OF(result), 0); /* it never runs, and the consumer dozes */
            CHECK_SAME(bridge_queue_wake(&router_requests), 0);
            CHECK_SAME(push_number(&router_requests, waiting), 1);
            CHECK_SAME(bridge_queue_drain(&router_requests, 64), 1);
        } else {
            CHECK_SAME(COUNT_OF(result), 1);
            CHECK_SAME(bridge_tracking_state(&workers, waiting), happened ? BRIDGE_CANCELLING : BRIDGE_RUNNING);
            CHECK_SAME(bridge_tracking_move(&workers, waiting, BRIDGE_FINISH, WORKER), BRIDGE_DONE);
        }
        expect_that_both_move();
        tear_down();
    }
}

static uint64_t late;
static int64_t late_ring;

static void publish_late(void) {
    late = (uint64_t)bridge_tracking_arm(&routers, 1);
    late_ring = push_number(&router_requests, late);
    CHECK(late_ring >= 0);
}

/* A request that is published at any moment is claimed by the same call, or its producer has the bell to ring. */
static void one_is_published_meanwhile(void) {
    bool happened = true;
    for (int step = 1; happened; step++) {
        set_up(false);
        happened = happens_after(step, publish_late, next);
        CHECK_SAME(bridge_queue_drain(&router_answers, 64), 1);
        if (COUNT_OF(result) == 0) {
            bridge_queue_rouse(&requests, 0);
            CHECK(!happened || late_ring == 1);
            CHECK_SAME(COUNT_OF(bridge_queue_claim(&requests, &workers, 1)), happened);
        } else {
            CHECK_SAME(number_at(&requests, 0), late);
        }
        tear_down();
    }
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    dies(true);
    dies(false);
    next_is_cancelled();
    one_is_published_meanwhile();
    return 0;
}
