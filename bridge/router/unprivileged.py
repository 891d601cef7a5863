"""The router under another user: `python -P -m bridge.router.unprivileged UID GID GROUPS FD`.

Whoever starts it may be root, for the sake of a privileged address or of its workers; the process that reads what
strangers send must not be. GROUPS are the supplementary groups, separated by commas. Rights are given up before
anything else happens, so logs and temporary files belong to that user.
"""

from __future__ import annotations

import os
import sys

from bridge.router.process import main


def give_up_rights(uid: int, gid: int, groups: list[int]) -> None:
    """Become this user for good, and nobody else besides.

    Raises:
        OSError: this process may not.
    """
    if os.geteuid() == 0:
        os.setgroups(groups)
    if gid != os.getgid():
        os.setgid(gid)
    if uid != os.getuid():
        os.setuid(uid)


if __name__ == "__main__":
    uid, gid, groups, *rest = sys.argv[1:]
    give_up_rights(int(uid), int(gid), [int(group) for group in groups.split(",") if group])
    sys.exit(main(rest))
