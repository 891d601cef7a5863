/*
 * What every test program here shares: CHECK, memory, the two geometries, and messages that say who they are.
 *
 * A program states one fact or a few. It exits 0 if they hold and 1 with a line on stderr if not; its first argument
 * is "normal" or "tiny". Those that hunt take a number of rounds behind it, for the figures, and then print what they
 * have seen.
 */

#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunk_map.h"
#include "queue.h"
#include "tracking.h"

#define CHECK(fact)                                                                                                    \
    do {                                                                                                               \
        if (!(fact)) {                                                                                                 \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #fact);                                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_SAME(left, right)                                                                                        \
    do {                                                                                                               \
        long long check_l = (long long)(left), check_r = (long long)(right);                                           \
        if (check_l != check_r) {                                                                                      \
            fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #left, check_l, #right, check_r);   \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define COUNT_OF(result) ((uint32_t)((result) & 0xffff))
#define STARVED_OF(result) ((int)((result) >> BRIDGE_STARVED_BIT & 1))
#define BATON_OF(result) ((int)((result) >> BRIDGE_BATON_SHIFT))

enum { ROUTER = 1, WORKER = 2, OTHER = 3 };

struct world {
    struct bridge_queue_geometry geometry;
    uint32_t slots;
    uint32_t chunks;
};

static inline struct world world_of(int argc, char **argv) {
    CHECK(argc >= 2);
    if (strcmp(argv[1], "tiny") == 0) {
        return (struct world){{.capacity = 4, .item_size = 32, .waiters = 3}, 4, 8};
    }
    CHECK(strcmp(argv[1], "normal") == 0);
    return (struct world){{.capacity = 256, .item_size = 1040, .waiters = 70}, 512, 640};
}

static inline void *memory_of(uint64_t bytes) {
    CHECK(bytes != 0);
    void *memory = aligned_alloc(128, (bytes + 127) / 128 * 128);
    CHECK(memory != NULL);
    memset(memory, 0, bytes);
    return memory;
}

/* A handle with a batch of its own; `close_queue` frees that. */
static inline bridge_queue open_queue(void *memory, struct world world, uint16_t owner) {
    bridge_queue queue;
    CHECK_SAME(bridge_queue_open(&queue, memory, &world.geometry, owner), 0);
    bridge_queue_use_batch(&queue, memory_of((uint64_t)64 * queue.stride), 64);
    return queue;
}

static inline void close_queue(bridge_queue *queue) {
    free(queue->batch);
}

static inline void *new_queue(struct world world, uint64_t first_ticket) {
    void *memory = memory_of(bridge_queue_bytes(&world.geometry));
    CHECK_SAME(bridge_queue_create(memory, &world.geometry, first_ticket), 0);
    return memory;
}

static inline int64_t push_number(bridge_queue *queue, uint64_t number) {
    return bridge_queue_push(queue, (const uint8_t *)&number, sizeof number);
}

static inline uint32_t length_at(const bridge_queue *queue, uint32_t index) {
    uint32_t length;
    memcpy(&length, queue->batch + (size_t)index * queue->stride, sizeof length);
    return length;
}

static inline uint64_t number_at(const bridge_queue *queue, uint32_t index) {
    uint64_t number;
    memcpy(&number, queue->batch + (size_t)index * queue->stride + BRIDGE_BATCH_HEADER, sizeof number);
    return number;
}

#endif
