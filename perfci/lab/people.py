"""Who somebody is: the operating system's user of this process."""

from __future__ import annotations

import os
import pwd


def me() -> str:
    """Return the name of the user that runs this process; its number where it has none.

    LOGNAME and USER don't count, as they do for `getpass`: anybody can say there that they are somebody else.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
