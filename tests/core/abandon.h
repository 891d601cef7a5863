/*
 * A process that is killed between two instructions, played in one process: the core, compiled with BRIDGE_STEP, calls
 * bridge_step() after each of its changes to memory and ordered looks, and after the n-th of them we never return to it.
 *
 * Instead of a death, something else may happen at that moment (`interlude`): what another process does in between.
 */

#ifndef ABANDON_H
#define ABANDON_H

#include "check.h"

#include <setjmp.h>

static jmp_buf abandoned;
static int steps_left; /* 0 = nobody dies */
static void (*interlude)(void);

void bridge_step(void) {
    if (steps_left == 0 || --steps_left > 0) {
        return;
    }
    if (interlude == NULL) {
        longjmp(abandoned, 1);
    }
    interlude();
}

/* Runs the operation up to its n-th step. False = it has fewer than that and came to its end. */
static inline bool dies_after(int step, void (*operation)(void)) {
    interlude = NULL;
    steps_left = step;
    if (setjmp(abandoned) != 0) {
        return true;
    }
    operation();
    bool survived = steps_left > 0;
    steps_left = 0;
    CHECK(survived);
    return false;
}

/* Runs the whole operation, and `what` after its n-th step. False = it has fewer. */
static inline bool happens_after(int step, void (*what)(void), void (*operation)(void)) {
    interlude = what;
    steps_left = step;
    operation();
    bool happened = steps_left == 0;
    steps_left = 0;
    interlude = NULL;
    return happened;
}

#endif
