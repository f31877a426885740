"""Example calls with curl and the hosted service's two clients, ready to paste into a shell."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

ENDPOINT = "fal-ai/fast-animatediff/turbo/text-to-video"
INPUT = {
    "prompt": "a red circle moving left",
    "num_frames": 8,
    "video_size": {"width": 64, "height": 64},
}

CURL = """curl --request POST \\
  --url {address}/fal/run/{endpoint} \\
  --header "Content-Type: application/json" \\
  --data {data}"""

# Older versions of the Python client do not know FAL_QUEUE_RUN_HOST, and need the name queue.localhost to resolve.
PYTHON = """cd "$(mktemp -d)" && python3 -m venv fal && fal/bin/pip install 'fal-client>=0.11'
export FAL_RUN_HOST={secure}/fal/run FAL_QUEUE_RUN_HOST={secure}/fal/queue
export SSL_CERT_FILE={authority} FAL_KEY=any
fal/bin/python - <<'END'
import fal_client

shown = 0

def on_queue_update(update):
    global shown
    if isinstance(update, fal_client.InProgress):
        for log in update.logs[shown:]:
            print(log["message"])
        shown = len(update.logs)

result = fal_client.subscribe(
    "{endpoint}",
    arguments={arguments!r},
    with_logs=True,
    on_queue_update=on_queue_update,
)
print(result)
END"""

JAVASCRIPT = """cd "$(mktemp -d)" && npm install '@fal-ai/client@>=1.10'
node --input-type=module - <<'END'
import {{ fal }} from "@fal-ai/client"; // older than 1.10, it ignores proxyUrl and calls the hosted service

fal.config({{ proxyUrl: {{ url: "{address}/fal/proxy", when: "always" }} }});
let shown = 0;
const result = await fal.subscribe("{endpoint}", {{
  input: {data},
  logs: true,
  onQueueUpdate: (update) => {{
    if (update.status === "IN_PROGRESS") {{
      update.logs.slice(shown).forEach((log) => console.log(log.message));
      shown = update.logs.length;
    }}
  }},
}});
console.log(result.data);
console.log(result.requestId);
END"""


def snippets(address: str, secure: str, authority: Path) -> dict[str, str]:
    """Calls by client. address: http://host:port. secure: host:port with TLS, whose certificate `authority` signed."""
    shell_data = shlex.quote(json.dumps(INPUT))
    return {
        "cURL": CURL.format(address=address, endpoint=ENDPOINT, data=shell_data),
        "Python": PYTHON.format(
            secure=secure, authority=shlex.quote(str(authority)), endpoint=ENDPOINT, arguments=INPUT
        ),
        "JavaScript": JAVASCRIPT.format(address=address, endpoint=ENDPOINT, data=json.dumps(INPUT)),
    }
