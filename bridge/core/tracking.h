/*
 * One word per request in flight: which generation of its slot it is, in which state, and who holds it.
 *
 * A *stream* names a request: generation << 32 | slot. Every move is one compare-and-swap of the whole word, so
 * whoever comes second changes nothing, whatever it believed: a worker that claims against a router that cancels, or
 * anybody who still holds the name of a request whose slot has been armed again.
 *
 * The owner is written by the CLAIM and stays until the slot is armed again or recovered, also in DONE: a worker that
 * dies between FINISH and the publishing of its answer is found that way.
 */

#ifndef BRIDGE_TRACKING_H
#define BRIDGE_TRACKING_H

#include "layout.h"

enum bridge_state {
    BRIDGE_FREE_SLOT = 0,
    BRIDGE_QUEUED,
    BRIDGE_CLAIMED,
    BRIDGE_RUNNING,
    BRIDGE_RESPONDING,
    BRIDGE_CANCELLED_SLOT,
    BRIDGE_CANCELLING,
    BRIDGE_DONE,
    BRIDGE_STATES
};

enum bridge_event {
    BRIDGE_NO_EVENT = 0,
    BRIDGE_CLAIM,
    BRIDGE_START,
    BRIDGE_RESPOND,
    BRIDGE_FINISH,
    BRIDGE_CANCEL,
    BRIDGE_CONFIRM,
    BRIDGE_DIE,
    BRIDGE_ARM,
    BRIDGE_EVENTS
};

/* One process's private handle. */
typedef struct bridge_tracking {
    struct bridge_tracking_shared *shared;
    uint32_t slots;
    uint16_t owner;
    uint64_t found_stream; /* what bridge_tracking_recover found */
    int found_state;
} bridge_tracking;

uint64_t bridge_tracking_bytes(uint32_t slots);

/* Lays the words out in zeroed or reused memory (create), or joins. FAULT = other version. */
int bridge_tracking_open(bridge_tracking *tracking, void *memory, uint32_t slots, uint16_t owner, int create);

/* A slot that is free or in a final state becomes QUEUED in its next generation. The stream, or LOST. */
int64_t bridge_tracking_arm(bridge_tracking *tracking, uint32_t slot);

/*
 * Move by `event`. CLAIM writes `owner` into the word; any other event is lost if `owner` is not 0 and differs from the
 * word's. The new state, or LOST with nothing changed.
 */
int bridge_tracking_move(bridge_tracking *tracking, uint64_t stream, int event, uint16_t owner);

/*
 * Move for an answer of this owner: RESPOND, FINISH, or no event for a message that only a running request sends (a
 * claimed one is running from then on). The new state; CANCELLED if nobody waits for the answer; else LOST.
 */
int bridge_tracking_answer(bridge_tracking *tracking, uint64_t stream, int event);

/* What bridge_tracking_answer would return, at this moment; moves nothing. */
int bridge_tracking_may_answer(bridge_tracking *tracking, uint64_t stream, int event);

/* LOST = the slot is in another generation. */
int bridge_tracking_state(bridge_tracking *tracking, uint64_t stream);
int bridge_tracking_owner(bridge_tracking *tracking, uint64_t stream);

/*
 * The next word at or after slot `from` that the dead `owner` held becomes DONE and nobody's; its stream and former
 * state are left in the handle. The slot to go on from, or 0 when there is no more.
 */
uint32_t bridge_tracking_recover(bridge_tracking *tracking, uint16_t owner, uint32_t from);

#endif
