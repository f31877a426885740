"""A certificate for this machine's loopback names, issued by a certificate authority of its own that nobody else trusts."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

NAMES = ("localhost", "queue.localhost", "127.0.0.1", "::1")
VALID = datetime.timedelta(days=365)
RENEW = datetime.timedelta(days=30)  # before it expires


@dataclass(frozen=True)
class Certificate:
    """PEM files: `authority` is for the clients to trust, the other two are for the server."""

    authority: Path
    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Makes the files in a folder, or reuses those that are there unless they expire soon."""
    import trustme

    found = Certificate(folder / "authority.pem", folder / "server.pem", folder / "server-key.pem")
    now = datetime.datetime.now(datetime.timezone.utc)
    if found.key.is_file() and found.key.stat().st_mtime > (now - VALID + RENEW).timestamp():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="Fast AnimateDiff development server")
    issued = authority.issue_cert(*NAMES, not_after=now + VALID)
    authority.cert_pem.write_to_path(str(found.authority))
    found.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    found.key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(found.key))
    return found
