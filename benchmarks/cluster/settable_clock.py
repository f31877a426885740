"""A time of day for all processes of a cluster, which a fault sets. Linux with a C compiler."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("cc") if sys.platform == "linux" else None


class SettableClock:
    """env: what a process needs to go by it."""

    def __init__(self, folder: Path) -> None:
        assert COMPILER
        library, self._file = folder / "settable_clock.so", folder / "clock"
        command = [COMPILER, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-pthread"]
        subprocess.run(command, check=True)
        self._file.write_bytes(struct.pack("q", 0))
        self.env = {"LD_PRELOAD": str(library), "FAD_CLOCK_FILE": str(self._file)}

    def move(self, seconds: int) -> None:
        """Sets the time of day forward, or back, by so many seconds, at once for all."""
        with self._file.open("r+b") as file:
            (before,) = struct.unpack("q", file.read())
            file.seek(0)
            file.write(struct.pack("q", before + seconds))
