/*
 * The hunt for a lost wake-up, between threads and between processes: whoever sleeps on the queue is rung if there is
 * anything to take, and whoever waits for room if there is any. Producers push a few messages, with pauses of any
 * length before each ring, and then nothing until all of them were received: no later ring hides a lost one.
 */

#include "beside.h"

#define PRODUCERS 2
#define CONSUMERS 3

/* What is shared beside the queue. */
struct notes {
    sem_t bells[CONSUMERS], room_bells[PRODUCERS];
    _Atomic uint32_t received[PRODUCERS];
    _Atomic uint64_t sum;
    _Atomic uint32_t slept, starved;
};

struct message {
    uint64_t number, producer;
};

static struct world world;
static void *memory;
static struct notes *notes;
static uint32_t messages; /* of each producer */

static const bridge_u32 *somewhere(void) {
    return &((struct bridge_queue_shared *)memory)->ready;
}

static bool all_received(void) {
    uint32_t received = 0;
    for (int producer = 0; producer < PRODUCERS; producer++) {
        received += notes->received[producer];
    }
    return received == PRODUCERS * messages;
}

static void push(bridge_queue *queue, struct message message, uint32_t *seed) {
    int64_t result;
    while ((result = bridge_queue_push(queue, (const uint8_t *)&message, sizeof message)) == BRIDGE_FULL) {
        notes->starved++;
        await_bell(&notes->room_bells[message.producer], "producer");
    }
    CHECK(result >= 0 && result <= CONSUMERS);
    pause_randomly(seed, somewhere());
    if (result > 0) {
        sem_post(&notes->bells[result - 1]);
    }
}

static void *produce(void *argument) {
    uint32_t producer = (uint32_t)(uintptr_t)argument, seed = producer + 7, sent = 0;
    bridge_queue queue = open_queue(memory, world, (uint16_t)(10 + producer));
    while (sent < messages) {
        uint32_t chance = next_random(&seed) % 16;
        uint32_t most = chance == 0 ? 2 * world.geometry.capacity : chance < 8 ? 1 : 5;
        for (uint32_t burst = 1 + next_random(&seed) % most; burst > 0 && sent < messages; burst--) {
            push(&queue, (struct message){++sent, producer}, &seed);
        }
        int64_t begun = seconds_now();
        while (notes->received[producer] < sent) {
            if (seconds_now() > begun + PATIENCE) {
                fprintf(stderr, "lost wake-up: all consumers sleep beside %u messages\n",
                        sent - notes->received[producer]);
                exit(1);
            }
            sched_yield();
        }
    }
    close_queue(&queue);
    return NULL;
}

static void *consume(void *argument) {
    uint32_t waiter = (uint32_t)(uintptr_t)argument, seed = waiter;
    bridge_queue queue = open_queue(memory, world, (uint16_t)(20 + waiter));
    while (!all_received()) {
        int64_t result = bridge_queue_drain(&queue, 2);
        CHECK(result >= 0);
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            struct message message;
            memcpy(&message, queue.batch + (size_t)index * queue.stride + BRIDGE_BATCH_HEADER, sizeof message);
            notes->sum += message.number;
            notes->received[message.producer]++;
        }
        for (int producer = 0; STARVED_OF(result) && producer < PRODUCERS; producer++) {
            sem_post(&notes->room_bells[producer]);
        }
        pause_randomly(&seed, somewhere());
        if (COUNT_OF(result) == 0 && !all_received() && bridge_queue_doze(&queue, waiter) == 1) {
            pause_randomly(&seed, somewhere());
            if (!all_received()) {
                notes->slept++;
                sleep_on(&notes->bells[waiter]); /* how long, the producers watch */
            }
            bridge_queue_rouse(&queue, waiter);
        }
    }
    for (int other = 0; other < CONSUMERS; other++) {
        sem_post(&notes->bells[other]); /* all is received: nobody else will be rung */
    }
    close_queue(&queue);
    return NULL;
}

static void hunt(bool process) {
    struct beside others[PRODUCERS + CONSUMERS];
    CHECK_SAME(bridge_queue_create(memory, &world.geometry, (uint64_t)0 - messages), 0);
    memset(notes->received, 0, sizeof notes->received);
    notes->sum = 0;
    for (uintptr_t index = 0; index < PRODUCERS; index++) {
        new_bell(&notes->room_bells[index]);
        others[index] = start(process, produce, (void *)index);
    }
    for (uintptr_t index = 0; index < CONSUMERS; index++) {
        new_bell(&notes->bells[index]);
        others[PRODUCERS + index] = start(process, consume, (void *)index);
    }
    for (int index = 0; index < PRODUCERS + CONSUMERS; index++) {
        join(others[index]);
    }
    CHECK_SAME(notes->sum, (uint64_t)PRODUCERS * messages * (messages + 1) / 2);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    messages = rounds_of(argc, argv, 16000) / PRODUCERS;
    memory = shared_memory_of(bridge_queue_bytes(&world.geometry));
    notes = shared_memory_of(sizeof *notes);
    if (wants(argc, argv, "processes")) {
        hunt(true);
    }
    if (wants(argc, argv, "threads")) {
        hunt(false);
    }
    if (argc > 2) {
        printf("%u %u\n", notes->slept, notes->starved);
    }
    return 0;
}
