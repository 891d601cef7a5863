"""How many files this process may have open, and how many of them clients may cost."""

from __future__ import annotations

import resource

from bridge import config

MOST_FILES = 1 << 20  #: open files that the router asks the kernel for, if its hard limit allows
OWN_FILES = 32  #: files of the router itself, workers, listeners and segments not counted
#: Files of a connection to WSGI: socket, request body, and response; or socket, file, duplicate of the socket.
FILES_OF_ONE = 3
#: Files of a worker without its threads' bells: link, two bells, what hears one, segment, and two mappings, for the
#: segment and for the port's block: Python keeps a file for each.
FILES_OF_WORKER = 7


def room_for_clients(settings: config.Settings) -> int:
    """Raise the limit of open files as far as it may be raised, and say how many of them clients may cost.

    Some files are kept back: a router without any could not take a new worker in, in whose place one has died.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    memory = settings.memory
    own = OWN_FILES + 2 * len(settings.listeners)
    for application in settings.applications.values():
        limit = application.limits.shm or memory.limit
        own += 2 * application.processes * (FILES_OF_WORKER + application.threads)  # there may be two generations
        own += 2 * (limit // (memory.chunk_size * memory.chunks) * 9 // 8 + 2)  # a segment's, and its mapping's
    return most - min(own, most * 3 // 4)
