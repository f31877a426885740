"""Many clients at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fast_animatediff.tests.endpoints.served import SMALL, Served

pytestmark = [pytest.mark.server, pytest.mark.slow]
CLIENTS, EACH = 20, 10
# Each has a seed of its own, so that ComfyUI makes every video instead of giving the first one again.
TINY = SMALL | {"num_frames": 1, "num_inference_steps": 1, "guidance_scale": 1}


def resident_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_200_requests_of_20_clients_all_end_in_their_order_in_steady_memory(served: Served) -> None:
    def client(number: int) -> list[str]:
        return [served.submitted(TINY | {"seed": 1000 * number + k}) for k in range(EACH)]

    served.run(TINY)
    before = resident_megabytes(served.server.pid)
    with ThreadPoolExecutor(CLIENTS) as clients:
        sent = list(clients.map(client, range(CLIENTS)))
    began = {}
    for each in (request_id for ids in sent for request_id in ids):
        began[each] = served.until(each, "COMPLETED")["logs"][0]["timestamp"]
        assert served.result(each).status_code == 200
    assert len(began) == CLIENTS * EACH
    for ids in sent:
        assert sorted(ids, key=began.get) == ids
    assert resident_megabytes(served.server.pid) - before < 100
