/* Several producers and consumers at once: every message arrives exactly once, and those of one producer in order. */

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define PRODUCERS 2
#define CONSUMERS 2

static struct world world;
static void *memory;
static uint32_t messages; /* per producer */
static _Atomic uint32_t received;

static void *produce(void *argument) {
    uint64_t producer = (uint64_t)(uintptr_t)argument;
    bridge_queue queue = open_queue(memory, world, (uint16_t)(10 + producer));
    for (uint64_t number = 0; number < messages; number++) {
        int64_t result;
        while ((result = push_number(&queue, producer << 32 | number)) == BRIDGE_FULL) {
            sched_yield();
        }
        CHECK_SAME(result, 0);
    }
    close_queue(&queue);
    return NULL;
}

static void *consume(void *argument) {
    uint64_t *sums = argument;
    uint64_t next[PRODUCERS] = {0};
    bridge_queue queue = open_queue(memory, world, (uint16_t)(20 + (sums[0] & 1)));
    sums[0] = 0;
    while (received < PRODUCERS * messages) {
        int64_t result = bridge_queue_drain(&queue, 3);
        CHECK(result >= 0);
        if (COUNT_OF(result) == 0) {
            sched_yield();
        }
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            uint64_t message = number_at(&queue, index), producer = message >> 32, number = message & 0xffffffffu;
            CHECK(producer < PRODUCERS && number >= next[producer]);
            next[producer] = number + 1;
            sums[producer] += number + 1;
        }
        received += COUNT_OF(result);
    }
    close_queue(&queue);
    return NULL;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    messages = 20000;
    memory = new_queue(world, ((uint64_t)1 << 32) - 100);
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    uint64_t sums[CONSUMERS][PRODUCERS] = {{0}, {1}};
    for (uintptr_t index = 0; index < CONSUMERS; index++) {
        sums[index][0] = index;
        CHECK_SAME(pthread_create(&consumers[index], NULL, consume, sums[index]), 0);
    }
    for (uintptr_t index = 0; index < PRODUCERS; index++) {
        CHECK_SAME(pthread_create(&producers[index], NULL, produce, (void *)index), 0);
    }
    for (int index = 0; index < PRODUCERS; index++) {
        pthread_join(producers[index], NULL);
    }
    for (int index = 0; index < CONSUMERS; index++) {
        pthread_join(consumers[index], NULL);
    }
    for (int producer = 0; producer < PRODUCERS; producer++) {
        uint64_t sum = sums[0][producer] + sums[1][producer];
        CHECK_SAME(sum, (uint64_t)messages * (messages + 1) / 2);
    }
    free(memory);
    return 0;
}
