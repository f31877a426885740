from __future__ import annotations

from fast_animatediff.tests.server import comfy_server  # noqa: F401
