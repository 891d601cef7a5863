/* Long messages stay where they lie until the next drain: nobody writes there, nobody sleeps on them, none is lost. */

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define SIZE 6000u
#define CONSUMERS 2

static struct world world;
static void *memory;
static uint32_t messages;
static _Atomic uint32_t received;

static uint32_t place_at(const bridge_queue *queue, uint32_t index) {
    uint32_t place;
    memcpy(&place, queue->batch + (size_t)index * queue->stride + sizeof(uint32_t), sizeof place);
    return place;
}

/* Where the long message `index` of the batch lies. */
static const uint8_t *bytes_at(const bridge_queue *queue, uint32_t index) {
    CHECK(place_at(queue, index) != 0);
    return queue->ring.cells + (size_t)(place_at(queue, index) - 1) * queue->ring.item_size + BRIDGE_CELL_HEADER;
}

static int64_t push_long(bridge_queue *queue, uint32_t number, uint32_t size) {
    uint8_t *message = memory_of(size);
    memset(message, (int)(number & 0xff), size);
    memcpy(message, &number, sizeof number);
    int64_t result = bridge_queue_push(queue, message, size);
    free(message);
    return result;
}

/* The number of message `index`, all of whose bytes are there. */
static uint32_t checked_at(const bridge_queue *queue, uint32_t index) {
    uint32_t number;
    const uint8_t *bytes = bytes_at(queue, index);
    memcpy(&number, queue->batch + (size_t)index * queue->stride + BRIDGE_BATCH_HEADER, sizeof number);
    CHECK(memcmp(bytes, &number, sizeof number) == 0);
    CHECK_SAME(length_at(queue, index), SIZE);
    for (uint32_t at = sizeof number; at < SIZE; at++) {
        CHECK_SAME(bytes[at], number & 0xff);
    }
    return number;
}

static void stays_until_the_next_drain(void) {
    memory = new_queue(world, 0);
    bridge_queue in = open_queue(memory, world, ROUTER), out = open_queue(memory, world, WORKER);
    uint32_t capacity = world.geometry.capacity;
    CHECK_SAME(push_long(&in, 0, SIZE), 0);
    CHECK_SAME(push_number(&in, 77), 0);
    CHECK_SAME(push_long(&in, 2, SIZE), 0);
    CHECK_SAME(bridge_queue_drain(&out, 64), 3);
    for (uint32_t number = 3; number < capacity; number++) {
        CHECK_SAME(push_number(&in, number), 0);
    }
    CHECK_SAME(push_number(&in, capacity), BRIDGE_FULL); /* the first cell is held */
    CHECK_SAME(checked_at(&out, 0), 0);
    CHECK_SAME(place_at(&out, 1), 0);
    CHECK_SAME(number_at(&out, 1), 77);
    CHECK_SAME(checked_at(&out, 2), 2);
    CHECK_SAME(memcmp(out.batch + BRIDGE_BATCH_HEADER, bytes_at(&out, 0), BRIDGE_FRONT), 0);
    CHECK_SAME(bridge_queue_doze(&out, 0), 0);
    int64_t result = bridge_queue_drain(&out, 64);
    CHECK_SAME(COUNT_OF(result), capacity - 3 < 64 ? capacity - 3 : 64);
    CHECK_SAME(STARVED_OF(result), 1);
    CHECK_SAME(push_number(&in, capacity), 0);
    while (COUNT_OF(bridge_queue_drain(&out, 64)) > 0) {
    }
    /* Alone in the queue: who holds it does not sleep, for nobody would be rung for the room. */
    CHECK_SAME(push_long(&in, 5, SIZE), 0);
    CHECK_SAME(bridge_queue_drain(&out, 64), 1);
    CHECK_SAME(bridge_queue_doze(&out, 0), 0);
    CHECK_SAME(bridge_queue_drain(&out, 64), 0);
    CHECK_SAME(bridge_queue_doze(&out, 0), 1);
    close_queue(&in), close_queue(&out), free(memory);
}

static void what_is_long(void) {
    memory = new_queue(world, 0);
    bridge_queue queue = open_queue(memory, world, ROUTER);
    CHECK_SAME(push_long(&queue, 1, BRIDGE_LONG - 1), 0);
    CHECK_SAME(push_long(&queue, 1, BRIDGE_LONG), 0);
    CHECK_SAME(bridge_queue_drain(&queue, 64), 2);
    CHECK_SAME(place_at(&queue, 0), 0);
    CHECK_SAME(queue.batch[BRIDGE_BATCH_HEADER + BRIDGE_LONG - 2], 1); /* all of it */
    CHECK_SAME(place_at(&queue, 1), 2);
    CHECK_SAME(queue.held, 1);
    close_queue(&queue), free(memory);
}

static void no_more_are_held_than_there_is_room_for(void) {
    struct world wide = world;
    wide.geometry.capacity = 2 * BRIDGE_MOST_HELD;
    memory = new_queue(wide, 0);
    bridge_queue queue = open_queue(memory, wide, ROUTER);
    uint32_t left = wide.geometry.capacity;
    free(queue.batch);
    bridge_queue_use_batch(&queue, memory_of((uint64_t)left * queue.stride), left); /* it is the bytes that bind */
    while (push_long(&queue, 1, BRIDGE_LONG) == 0) {
    }
    while (left > 0) {
        int64_t count = COUNT_OF(bridge_queue_drain(&queue, wide.geometry.capacity));
        CHECK_SAME(count, BRIDGE_MOST_HELD);
        CHECK_SAME(queue.held, BRIDGE_MOST_HELD);
        left -= (uint32_t)count;
    }
    CHECK_SAME(bridge_queue_drain(&queue, 64), 0);
    CHECK_SAME(queue.held, 0);
    close_queue(&queue), free(memory);
}

static void is_freed_when_its_reader_dies(void) {
    memory = new_queue(world, 0);
    bridge_queue in = open_queue(memory, world, ROUTER), out = open_queue(memory, world, WORKER);
    uint32_t capacity = world.geometry.capacity;
    CHECK_SAME(push_long(&in, 0, SIZE), 0);
    CHECK_SAME(bridge_queue_drain(&out, 64), 1);
    int64_t next = bridge_queue_recover(&in, WORKER, 0);
    CHECK_SAME(next, 1);
    CHECK_SAME(length_at(&in, 0), SIZE);
    CHECK_SAME(place_at(&in, 0), 0);
    CHECK_SAME(in.batch[BRIDGE_BATCH_HEADER + SIZE - 1], 0); /* all of it */
    CHECK_SAME(bridge_queue_recover(&in, WORKER, (uint32_t)next), 0);
    for (uint32_t number = 1; number <= capacity; number++) {
        CHECK_SAME(push_number(&in, number), 0);
    }
    /* If it lives after all, what it lets go of is not its own any more. */
    CHECK_SAME(COUNT_OF(bridge_queue_drain(&out, 1)), 1);
    CHECK_SAME(number_at(&out, 0), 1);
    CHECK_SAME(bridge_queue_length(&in), capacity - 1);
    close_queue(&in), close_queue(&out), free(memory);
}

static void *produce(void *nothing) {
    bridge_queue queue = open_queue(memory, world, ROUTER);
    for (uint32_t number = 0; number < messages; number++) {
        int64_t result;
        while ((result = push_long(&queue, number, SIZE)) == BRIDGE_FULL) {
            sched_yield();
        }
        CHECK_SAME(result, 0);
    }
    close_queue(&queue);
    return nothing;
}

static void *consume(void *argument) {
    uint64_t *sum = argument;
    bridge_queue queue = open_queue(memory, world, (uint16_t)(20 + *sum));
    *sum = 0;
    while (received < messages) {
        int64_t result = bridge_queue_drain(&queue, 2);
        CHECK(result >= 0);
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            *sum += checked_at(&queue, index) + 1;
        }
        received += COUNT_OF(result);
        if (COUNT_OF(result) == 0) {
            sched_yield();
        }
    }
    CHECK(bridge_queue_drain(&queue, 1) >= 0); /* what is still held */
    close_queue(&queue);
    return NULL;
}

static void nobody_writes_where_it_is_read(void) {
    pthread_t producer, consumers[CONSUMERS];
    uint64_t sums[CONSUMERS] = {0, 1};
    messages = 2000;
    memory = new_queue(world, 0);
    for (int index = 0; index < CONSUMERS; index++) {
        CHECK_SAME(pthread_create(&consumers[index], NULL, consume, &sums[index]), 0);
    }
    CHECK_SAME(pthread_create(&producer, NULL, produce, NULL), 0);
    pthread_join(producer, NULL);
    for (int index = 0; index < CONSUMERS; index++) {
        pthread_join(consumers[index], NULL);
    }
    CHECK_SAME(sums[0] + sums[1], (uint64_t)messages * (messages + 1) / 2);
    free(memory);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    world.geometry.item_size = 8192;
    if (world.geometry.capacity > 32) {
        world.geometry.capacity = 32;
    }
    stays_until_the_next_drain();
    what_is_long();
    no_more_are_held_than_there_is_room_for();
    is_freed_when_its_reader_dies();
    nobody_writes_where_it_is_read();
    return 0;
}
