/*
 * What lies in shared memory, byte for byte. No pointers, no bit fields, nothing that a compiler could place elsewhere.
 *
 * Words that different processes write often stand on lines of their own, two lines apart because processors fetch
 * lines in pairs. Geometry (capacity, item size, count) is not stored: every process gets it by message and keeps
 * it in private memory, where its peers cannot change it.
 */

#ifndef BRIDGE_LAYOUT_H
#define BRIDGE_LAYOUT_H

#include <stddef.h>

#include "atomic.h"

#define BRIDGE_VERSION 1u /* of the layouts in this file; the first word of each structure */
#define BRIDGE_APART 128u /* bytes between hot words */

/* One of these, then the sleeping bits (a bit per waiter, padded to BRIDGE_APART), then the cells. */
struct bridge_queue_shared {
    bridge_u32 version;
    uint8_t pad0[BRIDGE_APART - 4];
    bridge_u64 tail; /* ticket of the next message to be published */
    uint8_t pad1[BRIDGE_APART - 8];
    bridge_u64 head; /* ticket of the next message to be taken */
    uint8_t pad2[BRIDGE_APART - 8];
    bridge_u32 starved; /* a producer met a full queue and wants to be rung */
    bridge_u32 ready;   /* advisory: consumers that share the work */
    uint8_t pad3[BRIDGE_APART - 8];
    bridge_u64 sleeping[];
};

_Static_assert(offsetof(struct bridge_queue_shared, version) == 0, "layout");
_Static_assert(offsetof(struct bridge_queue_shared, tail) == 128, "layout");
_Static_assert(offsetof(struct bridge_queue_shared, head) == 256, "layout");
_Static_assert(offsetof(struct bridge_queue_shared, starved) == 384, "layout");
_Static_assert(offsetof(struct bridge_queue_shared, ready) == 388, "layout");
_Static_assert(offsetof(struct bridge_queue_shared, sleeping) == 512, "layout");
_Static_assert(sizeof(struct bridge_queue_shared) == 512, "layout");

#define BRIDGE_BITS 64u /* waiters per sleeping word */

static inline uint32_t bridge_sleeping_words(uint32_t waiters) {
    return (waiters + BRIDGE_BITS - 1) / BRIDGE_BITS;
}

/* {cycle:40 | state:8 | owner:16} */
struct bridge_cell {
    bridge_u64 word;
    bridge_u32 length; /* bytes of the message that follows */
    uint32_t pad0;
    uint8_t bytes[];
};

_Static_assert(offsetof(struct bridge_cell, word) == 0, "layout");
_Static_assert(offsetof(struct bridge_cell, length) == 8, "layout");
_Static_assert(offsetof(struct bridge_cell, bytes) == 16, "layout");
_Static_assert(sizeof(struct bridge_cell) == 16, "layout");

/* {generation:32 | state:8 | zero:8 | owner:16} per slot */
struct bridge_tracking_shared {
    bridge_u32 version;
    uint8_t pad0[BRIDGE_APART - 4];
    bridge_u64 words[];
};

_Static_assert(offsetof(struct bridge_tracking_shared, version) == 0, "layout");
_Static_assert(offsetof(struct bridge_tracking_shared, words) == 128, "layout");
_Static_assert(sizeof(struct bridge_tracking_shared) == 128, "layout");

struct bridge_chunk_map_shared {
    bridge_u32 version;
    uint8_t pad0[BRIDGE_APART - 4];
    bridge_u32 waiting; /* somebody found no chunks and wants to be rung */
    uint8_t pad1[BRIDGE_APART - 4];
    bridge_u16 owners[]; /* per chunk: 0 = free, else who holds it; one more at the end, for ever busy */
};

_Static_assert(offsetof(struct bridge_chunk_map_shared, version) == 0, "layout");
_Static_assert(offsetof(struct bridge_chunk_map_shared, waiting) == 128, "layout");
_Static_assert(offsetof(struct bridge_chunk_map_shared, owners) == 256, "layout");
_Static_assert(sizeof(struct bridge_chunk_map_shared) == 256, "layout");

_Static_assert(sizeof(bridge_u64) == 8 && sizeof(bridge_u32) == 4 && sizeof(bridge_u16) == 2, "layout");

/* What calls return where success is zero or more. FULL, CANCELLED, NONE and LOST are outcomes, the others faults. */
enum {
    BRIDGE_FULL = -1,
    BRIDGE_NONE = -1,
    BRIDGE_CANCELLED = -2,
    BRIDGE_LOST = -3,
    BRIDGE_FAULT = -4,   /* the shared memory holds what no honest process writes */
    BRIDGE_TOO_LONG = -5 /* the caller's message does not fit an item */
};

/*
 * Every failed attempt on a shared word means that somebody else moved on, so honest processes are far below this;
 * it ends the dance with one that writes garbage for ever, within a few milliseconds.
 */
#define BRIDGE_ATTEMPTS (1u << 16)

/* The same for words of the dead, which nobody honest moves. */
#define BRIDGE_FEW_ATTEMPTS 16u

#endif
