/* One call finishes a stream, claims and starts the next, or dozes; what is refused claims nothing. */

#include "check.h"

static struct world world;
static void *requests_memory, *answers_memory, *words;
static bridge_queue router_requests, router_answers, requests, answers;
static bridge_tracking routers, workers;

static uint64_t publish(uint32_t slot) {
    int64_t stream = bridge_tracking_arm(&routers, slot);
    CHECK(stream > 0);
    CHECK(push_number(&router_requests, (uint64_t)stream) >= 0);
    return (uint64_t)stream;
}

static int64_t next(uint64_t finished) {
    return bridge_queue_next(
        &requests, &answers, &workers, finished, (const uint8_t *)&finished, sizeof finished, 1);
}

static void claims_starts_and_finishes(void) {
    uint64_t first = publish(0), second = publish(1);
    CHECK_SAME(next(0), 1);
    CHECK_SAME(number_at(&requests, 0), first);
    CHECK_SAME(bridge_tracking_state(&routers, first), BRIDGE_RUNNING);
    CHECK_SAME(bridge_tracking_owner(&routers, first), WORKER);
    CHECK_SAME(bridge_tracking_state(&routers, second), BRIDGE_QUEUED);
    CHECK_SAME(next(first), 1);
    CHECK_SAME(number_at(&requests, 0), second);
    CHECK_SAME(bridge_tracking_state(&routers, first), BRIDGE_DONE);
    CHECK_SAME(bridge_queue_drain(&router_answers, 64), 1);
    CHECK_SAME(number_at(&router_answers, 0), first);
    CHECK_SAME(bridge_queue_doze(&router_answers, 0), 1); /* the router sleeps: it is rung for an answer */
    CHECK_SAME(next(second), 1 << BRIDGE_STARVED_BIT);
    CHECK_SAME(bridge_queue_drain(&router_answers, 64), 1);
    uint64_t third = (uint64_t)bridge_tracking_arm(&routers, 0);
    CHECK_SAME(push_number(&router_requests, third), 1 + 1); /* the same call has left the consumer dozing */
    CHECK_SAME(next(0), 1);
    CHECK_SAME(next(third), 0);
    CHECK_SAME(bridge_queue_drain(&router_answers, 64), 1);
    bridge_queue_rouse(&router_requests, 1);
}

static void passes_the_baton(void) {
    uint64_t first = publish(0), second = publish(1), third = publish(2);
    (void)bridge_u64_or_ordered(&requests.ring.shared->sleeping[0], (uint64_t)1 << 2); /* a sibling is about to doze */
    CHECK_SAME(next(0), 1 | (int64_t)3 << BRIDGE_BATON_SHIFT);
    CHECK_SAME(next(first), 1); /* its bit was cleared by whoever rings it: once is enough */
    CHECK_SAME(number_at(&requests, 0), second);
    (void)bridge_u64_or_ordered(&requests.ring.shared->sleeping[0], (uint64_t)1 << 2);
    CHECK_SAME(next(second), 1); /* nothing is left behind: nobody is rung */
    CHECK_SAME(next(third), 0);
    bridge_queue_rouse(&router_requests, 1);
    bridge_queue_rouse(&router_requests, 2);
    while (COUNT_OF(bridge_queue_drain(&router_answers, 64)) != 0) {
    }
}

/* Who was rung without anybody clearing its bit, as all are after a death, and has found a request, sleeps no more. */
static void runs_without_its_bit(void) {
    CHECK_SAME(next(0), 0);
    uint64_t first = (uint64_t)bridge_tracking_arm(&routers, 0), second = (uint64_t)bridge_tracking_arm(&routers, 1);
    (void)bridge_u64_or_ordered(&requests.ring.shared->sleeping[0], (uint64_t)1 << 2); /* a sibling sleeps too */
    CHECK_SAME(push_number(&router_requests, first), 2 + 1); /* … and is rung */
    CHECK_SAME(next(0), 1);
    CHECK_SAME(number_at(&requests, 0), first);
    CHECK_SAME(push_number(&router_requests, second), 0); /* nobody sleeps: a ring would be lost on who is busy */
    CHECK_SAME(next(first), 1);
    CHECK_SAME(next(second), 0);
    first = publish(0), second = publish(1);
    (void)bridge_u64_or_ordered(&requests.ring.shared->sleeping[0], (uint64_t)1 << 1); /* set, and two are there */
    CHECK_SAME(next(0), 1); /* it does not pass the baton to itself */
    CHECK_SAME(next(first), 1);
    CHECK_SAME(next(second), 0);
    bridge_queue_rouse(&router_requests, 1);
    while (COUNT_OF(bridge_queue_drain(&router_answers, 64)) != 0) {
    }
}

static void passes_the_cancelled_over(void) {
    for (uint32_t slot = 0; slot < 2; slot++) {
        CHECK_SAME(bridge_tracking_move(&routers, publish(slot), BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
    }
    uint64_t wanted = publish(2);
    CHECK_SAME(next(0), 1);
    CHECK_SAME(number_at(&requests, 0), wanted);
    CHECK_SAME(next(wanted), 0);
    CHECK_SAME(bridge_queue_drain(&router_answers, 64), 1);
    bridge_queue_rouse(&router_requests, 1);
}

static void refusals_claim_nothing(void) {
    uint64_t running = publish(0);
    CHECK_SAME(next(0), 1);
    uint64_t waiting = publish(1);
    while (push_number(&answers, 0) == 0) {
    }
    CHECK_SAME(next(running), BRIDGE_FULL);
    CHECK_SAME(bridge_tracking_state(&routers, running), BRIDGE_RUNNING);
    CHECK_SAME(STARVED_OF(bridge_queue_drain(&router_answers, 64)), 1);
    while (COUNT_OF(bridge_queue_drain(&router_answers, 64)) != 0) {
    }
    CHECK_SAME(bridge_tracking_move(&routers, running, BRIDGE_CANCEL, 0), BRIDGE_CANCELLING);
    CHECK_SAME(next(running), BRIDGE_CANCELLED);
    CHECK_SAME(bridge_tracking_move(&workers, running, BRIDGE_CONFIRM, WORKER), BRIDGE_DONE);
    CHECK_SAME(next(running), BRIDGE_LOST);
    CHECK_SAME(bridge_queue_drain(&router_answers, 64), 0);
    CHECK_SAME(bridge_tracking_state(&routers, waiting), BRIDGE_QUEUED);
    uint8_t long_message[2048] = {0};
    CHECK_SAME(
        bridge_queue_next(&requests, &answers, &workers, waiting, long_message, sizeof long_message, 1),
        BRIDGE_TOO_LONG);
    CHECK_SAME(
        bridge_queue_next(&requests, &answers, &workers, 0, long_message, 0, world.geometry.waiters), BRIDGE_FAULT);
    CHECK_SAME(bridge_queue_length(&requests), 1);
    CHECK_SAME(next(0), 1);
    CHECK_SAME(next(waiting), 0);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    requests_memory = new_queue(world, 0), answers_memory = new_queue(world, 0);
    words = memory_of(bridge_tracking_bytes(world.slots));
    router_requests = open_queue(requests_memory, world, ROUTER);
    router_answers = open_queue(answers_memory, world, ROUTER);
    requests = open_queue(requests_memory, world, WORKER);
    answers = open_queue(answers_memory, world, WORKER);
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);
    claims_starts_and_finishes();
    passes_the_baton();
    runs_without_its_bit();
    passes_the_cancelled_over();
    refusals_claim_nothing();
    close_queue(&router_requests), close_queue(&router_answers), close_queue(&requests), close_queue(&answers);
    free(requests_memory), free(answers_memory), free(words);
    return 0;
}
