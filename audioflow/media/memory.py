"""Memory of a process that decodes, or computes on a CPU: what was freed is kept for later.

The C library gives large blocks back to the system at once and asks for them again a moment later,
and the system clears every page of them. That is a sixth of the time of decoding, and up to a third
of that of networks on a CPU.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""
_NEVER = 2**30


def keep_freed_memory() -> bool:
    """Keep freed memory for what comes next, for as long as this process lives.

    Whether that could be set up: only the GNU C library is known to have this.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, _NEVER) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
