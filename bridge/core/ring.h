/*
 * The ring of cells in which a queue keeps its messages: tickets, cells, and the steps from one state to the next.
 *
 * Tickets. `tail` and `head` are 64-bit tickets, the next message to publish and to take. Ticket t belongs to cell
 * t mod capacity, in cycle (t / capacity) mod 2^40. The capacity is a power of two of at most 2^24, so both divide
 * 2^64 evenly and nothing special happens where a ticket wraps.
 *
 * Cells. Each has one word {cycle:40 | state:8 | owner:16}, and every step of a message is one compare-and-swap of it:
 *
 *     FREE ─► FILLING(producer) ─► READY ─► TAKEN(consumer) ─► FREE of the next cycle
 *                       └────────► VOID ─────────────────────────────┘
 *
 * VOID is a message that was given up before it was published: readers pass over it. The owner is written in the
 * same swap that takes the cell, so there is no moment at which a dead process holds a cell that nobody can
 * attribute. Head and tail move after the cell has, by whoever notices first; a process that dies in between
 * is overtaken. A cell that its owner left FILLING or TAKEN blocks until it is recovered, nothing else does.
 *
 * Trust. Everything read from shared memory is checked before use, loops are bounded, and geometry is private.
 */

#ifndef BRIDGE_RING_H
#define BRIDGE_RING_H

#include "layout.h"

#define BRIDGE_CELL_HEADER 16u

struct bridge_queue_geometry {
    uint32_t capacity;  /* messages: a power of two, at most 2^24 */
    uint32_t item_size; /* bytes of a cell with its header: a multiple of 16 */
    uint32_t waiters;   /* sleeping bits */
};

typedef struct bridge_ring {
    struct bridge_queue_shared *shared;
    uint8_t *cells;
    uint32_t capacity;
    uint32_t shift; /* log2 of capacity */
    uint32_t item_size;
    uint16_t owner;
} bridge_ring;

/* A cell that is ours for the moment, and the word that says so. */
struct bridge_hold {
    struct bridge_cell *cell;
    uint64_t word;
    uint64_t ticket; /* set by a reservation */
};

/* Bytes of a queue's memory; 0 = impossible geometry. */
uint64_t bridge_queue_bytes(const struct bridge_queue_geometry *geometry);

/* Lays an empty queue out. Zeroed memory and ticket 0 leave the pages of its cells untouched. FAULT = geometry. */
int bridge_queue_create(void *memory, const struct bridge_queue_geometry *geometry, uint64_t first_ticket);

/* Joins a ring that was laid out. FAULT = impossible geometry or other version. */
int bridge_ring_open(bridge_ring *ring, void *memory, const struct bridge_queue_geometry *geometry, uint16_t owner);

/* The cell of the tail: FREE → FILLING(us). 0, FULL or FAULT. */
int bridge_ring_reserve(bridge_ring *ring, struct bridge_hold *hold);

/* FILLING → READY or VOID. False = we were taken for dead, the cell was recovered. */
bool bridge_ring_publish(const struct bridge_hold *hold);
bool bridge_ring_give_up(const struct bridge_hold *hold);

/* The message at the head: READY → TAKEN(us). 1, 0 = there is none, or FAULT. */
int bridge_ring_take(bridge_ring *ring, struct bridge_hold *hold);

/* TAKEN → FREE of the next cycle. */
void bridge_ring_release(const struct bridge_hold *hold);

/* 1 = there is something at the head, 0 = nothing, or FAULT. */
int bridge_ring_visible(bridge_ring *ring);

/* Between head and tail: advisory. */
uint32_t bridge_ring_length(bridge_ring *ring);

/*
 * For the only producer of a ring, whose next message gets the ticket `next`: could honest consumers have left what
 * lies there? 0 = yes, and nothing is taken; n > 0 = yes, and somebody holds the message of ticket next - n, the oldest
 * of those that are held; or FAULT.
 */
int64_t bridge_ring_audit(const bridge_ring *ring, uint64_t next);

/*
 * Looks from cell `from` on for what the dead `owner` held: FILLING cells become VOID on the way; stops at a TAKEN one,
 * which is left in `hold` to be copied and released. The cell to go on from after that, or 0 = the end.
 */
uint32_t bridge_ring_recover(bridge_ring *ring, uint16_t owner, uint32_t from, struct bridge_hold *hold);

#endif
