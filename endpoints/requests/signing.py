"""Signs webhooks as the service does, with a key of our own, where the package `cryptography` is installed."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    CAN_SIGN = True
except ImportError:
    CAN_SIGN = False

KEY_BYTES = 32
USER = "fast-animatediff"  # whose webhooks these are; the service puts an account here


class Signer:
    """file: where the key is kept, made at the first use. Where no key can be made, nothing is signed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._key: Ed25519PrivateKey | None = None
        self._making = threading.Lock()

    def headers(self, request_id: str, body: bytes) -> dict[str, str]:
        """The four headers of a message. Errors: OSError and ValueError from the file."""
        if not CAN_SIGN:
            return {}
        timestamp = str(int(time.time()))
        signed = "\n".join((request_id, USER, timestamp, hashlib.sha256(body).hexdigest()))
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": USER,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": self._load().sign(signed.encode()).hex(),
        }

    def key_set(self) -> dict[str, Any]:
        """The public key as a JWKS, in which receivers look it up."""
        if not CAN_SIGN:
            return {"keys": []}
        raw = self._load().public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "x": x}]}

    def _load(self) -> Ed25519PrivateKey:
        with self._making:
            if self._key is None:
                size = self._file.stat().st_size if self._file.exists() else 0
                if size != KEY_BYTES:  # there is none, or a full disk has cut it short
                    self._file.parent.mkdir(parents=True, exist_ok=True)
                    with tempfile.NamedTemporaryFile(dir=self._file.parent, delete=False) as file:  # mode 600
                        file.write(Ed25519PrivateKey.generate().private_bytes_raw())
                        file.flush()
                        os.fsync(file.fileno())
                    Path(file.name).replace(self._file)
                self._key = Ed25519PrivateKey.from_private_bytes(self._file.read_bytes())
            return self._key
