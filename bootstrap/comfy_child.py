"""Runs ComfyUI's main.py in this process, and ends with the process that started it, however that one ends.

`python comfy_child.py MAIN [main's arguments]`. The parent holds the other end of standard input, which closes when
it asks for the end or is gone itself; no signal has to arrive for that, on any system.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

MAIN_THREAD = threading.get_ident()
GRACE_SECONDS = 5.0  # to stop in good order


def end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    # What Ctrl-C does: the server leaves in good order. Its loop wakes only if the signal is the main thread's.
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(MAIN_THREAD, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def collect_garbage_from_now_on(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: the server is loaded when it binds its port.

    Looking through the growing heap of imported modules again and again takes a fifth of the start. They are kept until
    the end, where looking through them once more takes two seconds; frozen, they are left out.
    """
    if event == "socket.bind" and not gc.isenabled():
        gc.enable()
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    main = Path(sys.argv[1])
    sys.argv[:] = sys.argv[1:]
    sys.path[0] = str(main.parent)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs start with it ignored
    threading.Thread(target=end_with_parent, daemon=True).start()
    gc.disable()
    sys.addaudithook(collect_garbage_from_now_on)
    runpy.run_path(str(main), run_name="__main__")
