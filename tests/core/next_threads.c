/*
 * One router and several threads that finish, claim and doze in one call each: every request is answered once, and
 * whoever dozes is rung for what is published.
 */

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define THREADS 3
#define REQUESTS 20000u

static struct world world;
static void *requests_memory, *answers_memory, *words;
static _Atomic int bells[THREADS]; /* 1 = rung */
static _Atomic bool over;

static void ring(int64_t waiter) {
    if (waiter > 0) {
        CHECK(waiter <= THREADS);
        bells[waiter - 1] = 1;
    }
}

static void *run(void *argument) {
    uint32_t waiter = (uint32_t)(uintptr_t)argument;
    bridge_queue requests = open_queue(requests_memory, world, WORKER);
    bridge_queue answers = open_queue(answers_memory, world, WORKER);
    bridge_tracking workers;
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);
    uint64_t stream = 0;
    while (!over) {
        int64_t result = bridge_queue_next(
            &requests, &answers, &workers, stream, (const uint8_t *)&stream, sizeof stream, waiter);
        if (result == BRIDGE_FULL) {
            sched_yield();
            continue;
        }
        CHECK(result >= 0);
        ring(BATON_OF(result));
        if (COUNT_OF(result) == 1) {
            stream = number_at(&requests, 0);
            continue;
        }
        stream = 0;
        while (bells[waiter] == 0 && !over) { /* nothing else ends a doze */
            sched_yield();
        }
        bells[waiter] = 0;
    }
    close_queue(&requests), close_queue(&answers);
    return NULL;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    requests_memory = new_queue(world, ((uint64_t)1 << 32) - 100), answers_memory = new_queue(world, 0);
    words = memory_of(bridge_tracking_bytes(world.slots));
    bridge_queue requests = open_queue(requests_memory, world, ROUTER);
    bridge_queue answers = open_queue(answers_memory, world, ROUTER);
    bridge_tracking routers;
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    pthread_t threads[THREADS];
    for (uintptr_t index = 0; index < THREADS; index++) {
        CHECK_SAME(pthread_create(&threads[index], NULL, run, (void *)index), 0);
    }
    /* A word is DONE before its answer is published: only who has seen the answer may use the slot again. */
    bool *used = memory_of(world.slots * sizeof *used);
    uint64_t armed = 0;
    uint32_t published = 0, answered = 0, slot = 0;
    while (answered < REQUESTS) {
        if (armed == 0 && published < REQUESTS) {
            slot = (slot + 1) % world.slots;
            if (!used[slot]) {
                int64_t stream = bridge_tracking_arm(&routers, slot);
                CHECK(stream > 0);
                used[slot] = true;
                armed = (uint64_t)stream;
            }
        }
        if (armed != 0) {
            int64_t result = push_number(&requests, armed);
            if (result != BRIDGE_FULL) {
                CHECK(result >= 0);
                ring(result);
                published++;
                armed = 0;
            }
        }
        int64_t result = bridge_queue_drain(&answers, 64);
        CHECK(result >= 0);
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            CHECK_SAME(bridge_tracking_state(&routers, number_at(&answers, index)), BRIDGE_DONE);
            used[(uint32_t)number_at(&answers, index)] = false;
        }
        answered += COUNT_OF(result);
        if (COUNT_OF(result) == 0) {
            sched_yield();
        }
    }
    over = true;
    for (int index = 0; index < THREADS; index++) {
        pthread_join(threads[index], NULL);
    }
    CHECK_SAME(published, REQUESTS);
    CHECK_SAME(bridge_queue_drain(&answers, 64), 0);
    CHECK_SAME(bridge_queue_length(&requests), 0);
    CHECK_SAME(bridge_tracking_recover(&routers, WORKER, 0) != 0, 1); /* their owner stays in the words */
    close_queue(&requests), close_queue(&answers);
    free(requests_memory), free(answers_memory), free(words), free(used);
    return 0;
}
