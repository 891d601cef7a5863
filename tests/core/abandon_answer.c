/*
 * A worker dies after any step of an answer or of a move; a cancel comes after any step of an answer. The stream ends
 * once, its message is there or its owner's death is, and nothing is left behind.
 */

#include "abandon.h"

static struct world world;
static void *memory, *words;
static bridge_queue router, worker;
static bridge_tracking routers, workers;
static uint64_t stream;
static int event, state_before;
static int64_t result;
static int cancelled_to;

static void set_up(int before) {
    memory = new_queue(world, 0);
    words = memory_of(bridge_tracking_bytes(world.slots));
    router = open_queue(memory, world, ROUTER);
    worker = open_queue(memory, world, WORKER);
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);
    stream = (uint64_t)bridge_tracking_arm(&routers, 1);
    (void)bridge_tracking_move(&workers, stream, BRIDGE_CLAIM, WORKER);
    if (before == BRIDGE_RUNNING) {
        CHECK_SAME(bridge_tracking_move(&workers, stream, BRIDGE_START, WORKER), BRIDGE_RUNNING);
    }
    state_before = before;
}

static void tear_down(void) {
    close_queue(&router), close_queue(&worker), free(memory), free(words);
}

static void answer(void) {
    const uint8_t *message = (const uint8_t *)&stream;
    result = bridge_queue_answer_joined(&worker, &workers, stream, event, message, 3, message + 3, sizeof stream - 3);
}

static void expect_nothing_left(void) {
    CHECK_SAME(bridge_queue_recover(&router, WORKER, 0), 0);
    CHECK_SAME(bridge_tracking_recover(&routers, WORKER, 0), 0);
    CHECK_SAME(bridge_queue_drain(&router, 64), 0);
    CHECK_SAME(bridge_queue_length(&router), 0);
    for (uint32_t number = 0; number < world.geometry.capacity; number++) {
        CHECK_SAME(push_number(&router, number), 0);
    }
    CHECK_SAME(push_number(&router, 0), BRIDGE_FULL);
    CHECK(bridge_tracking_arm(&routers, 1) > 0);
}

static void dies_in_an_answer(int before) {
    bool died = true;
    for (int step = 1; died; step++) {
        set_up(before);
        died = dies_after(step, answer);
        (void)bridge_queue_recover(&router, WORKER, 0);
        uint32_t delivered = COUNT_OF(bridge_queue_drain(&router, 64));
        int state = bridge_tracking_state(&routers, stream);
        CHECK(delivered == 0 || state != before || event == BRIDGE_NO_EVENT); /* never a message without its move */
        CHECK(bridge_tracking_recover(&routers, WORKER, 0) > 0);              /* the death is known in every state */
        CHECK_SAME(routers.found_stream, stream);
        CHECK_SAME(routers.found_state, state);
        CHECK(died || delivered == 1);
        expect_nothing_left();
        tear_down();
    }
}

static void cancel(void) {
    cancelled_to = bridge_tracking_move(&routers, stream, BRIDGE_CANCEL, 0);
}

static void is_cancelled_during_an_answer(int before) {
    bool happened = true;
    for (int step = 1; happened; step++) {
        set_up(before);
        cancelled_to = 0;
        happened = happens_after(step, cancel, answer);
        uint32_t delivered = COUNT_OF(bridge_queue_drain(&router, 64));
        CHECK_SAME(delivered, result >= 0);
        CHECK_SAME(push_number(&router, 0), 0); /* what was given up blocks nobody */
        CHECK_SAME(bridge_queue_drain(&router, 64), 1);
        if (result == BRIDGE_CANCELLED) {
            CHECK_SAME(cancelled_to, BRIDGE_CANCELLING);
            CHECK_SAME(bridge_tracking_move(&workers, stream, BRIDGE_CONFIRM, WORKER), BRIDGE_DONE);
        } else {
            CHECK_SAME(result, 0);
            CHECK(!happened || cancelled_to == (event == BRIDGE_FINISH ? BRIDGE_LOST : BRIDGE_CANCELLING));
        }
        (void)bridge_tracking_recover(&routers, WORKER, 0);
        expect_nothing_left();
        tear_down();
    }
}

static void move(void) {
    (void)bridge_tracking_move(&workers, stream, event, 0);
}

static void dies_in_a_move(int before) {
    bool died = true;
    for (int step = 1; died; step++) {
        set_up(before);
        died = dies_after(step, move);
        int state = bridge_tracking_state(&routers, stream);
        CHECK(bridge_tracking_recover(&routers, WORKER, 0) > 0);
        CHECK_SAME(routers.found_state, state);
        expect_nothing_left();
        tear_down();
    }
}

static void recover(void) {
    (void)bridge_tracking_recover(&routers, WORKER, 0);
}

static void recovery_is_interrupted(void) {
    bool died = true;
    for (int step = 1; died; step++) {
        set_up(BRIDGE_RUNNING);
        died = dies_after(step, recover);
        (void)bridge_tracking_recover(&routers, WORKER, 0);
        CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_DONE);
        expect_nothing_left();
        tear_down();
    }
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    const int answers[] = {BRIDGE_NO_EVENT, BRIDGE_RESPOND, BRIDGE_FINISH};
    for (int before = BRIDGE_CLAIMED; before <= BRIDGE_RUNNING; before++) {
        for (int index = 0; index < 3; index++) {
            event = answers[index];
            dies_in_an_answer(before);
            is_cancelled_during_an_answer(before);
        }
        for (event = BRIDGE_NO_EVENT; event <= BRIDGE_DIE; event++) {
            dies_in_a_move(before);
        }
    }
    recovery_is_interrupted();
    return 0;
}
