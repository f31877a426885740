"""Memory that FFmpeg has freed, back to the system."""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Lets glibc return what it would keep for later: the frames of a closed decoder, dozens of megabytes at 1080p.

    Other systems return large blocks by themselves.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
