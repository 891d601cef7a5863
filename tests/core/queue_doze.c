/*
 * The hunt for a lost wake-up: whoever sleeps on the queue is rung before long if there is anything to take, and
 * whoever waits for room if there is any. A wait of five seconds is a lost wake-up.
 */

#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#define PRODUCERS 2
#define CONSUMERS 3
#define MESSAGES 15000

static struct world world;
static void *memory;
static sem_t bells[CONSUMERS], room_bells[PRODUCERS];
static _Atomic uint32_t received;
static _Atomic uint64_t sum;

static void await_bell(sem_t *bell, const char *who) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    while (sem_timedwait(bell, &until) != 0) {
        if (errno == ETIMEDOUT) {
            fprintf(stderr, "lost wake-up: a %s slept with %u of %u received\n", who, received, PRODUCERS * MESSAGES);
            exit(1);
        }
    }
}

static void pause_randomly(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    if ((*seed >> 24) < 40) {
        sched_yield();
    }
    for (uint32_t spin = *seed >> 27; spin > 0; spin--) {
        (void)bridge_u32_load_relaxed(&((struct bridge_queue_shared *)memory)->ready);
    }
}

static void *produce(void *argument) {
    uint32_t producer = (uint32_t)(uintptr_t)argument, seed = producer + 7;
    bridge_queue queue = open_queue(memory, world, (uint16_t)(10 + producer));
    for (uint64_t number = 1; number <= MESSAGES; number++) {
        int64_t result;
        while ((result = push_number(&queue, number)) == BRIDGE_FULL) {
            await_bell(&room_bells[producer], "producer");
        }
        CHECK(result >= 0 && result <= CONSUMERS);
        pause_randomly(&seed);
        if (result > 0) {
            sem_post(&bells[result - 1]);
        }
        pause_randomly(&seed);
    }
    close_queue(&queue);
    return NULL;
}

static void *consume(void *argument) {
    uint32_t waiter = (uint32_t)(uintptr_t)argument, seed = waiter;
    bridge_queue queue = open_queue(memory, world, (uint16_t)(20 + waiter));
    while (received < PRODUCERS * MESSAGES) {
        int64_t result = bridge_queue_drain(&queue, 2);
        CHECK(result >= 0);
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            sum += number_at(&queue, index);
        }
        received += COUNT_OF(result);
        for (int producer = 0; STARVED_OF(result) && producer < PRODUCERS; producer++) {
            sem_post(&room_bells[producer]);
        }
        pause_randomly(&seed);
        if (COUNT_OF(result) == 0 && received < PRODUCERS * MESSAGES && bridge_queue_doze(&queue, waiter) == 1) {
            if (received < PRODUCERS * MESSAGES) {
                await_bell(&bells[waiter], "consumer");
            }
            bridge_queue_rouse(&queue, waiter);
        }
    }
    for (int other = 0; other < CONSUMERS; other++) {
        sem_post(&bells[other]); /* all is received: nobody else will be rung */
    }
    close_queue(&queue);
    return NULL;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    memory = new_queue(world, 0);
    pthread_t threads[PRODUCERS + CONSUMERS];
    for (uintptr_t index = 0; index < CONSUMERS; index++) {
        sem_init(&bells[index], 0, 0);
        CHECK_SAME(pthread_create(&threads[index], NULL, consume, (void *)index), 0);
    }
    for (uintptr_t index = 0; index < PRODUCERS; index++) {
        sem_init(&room_bells[index], 0, 0);
        CHECK_SAME(pthread_create(&threads[CONSUMERS + index], NULL, produce, (void *)index), 0);
    }
    for (int index = 0; index < PRODUCERS + CONSUMERS; index++) {
        pthread_join(threads[index], NULL);
    }
    CHECK_SAME(sum, (uint64_t)PRODUCERS * MESSAGES * (MESSAGES + 1) / 2);
    free(memory);
    return 0;
}
