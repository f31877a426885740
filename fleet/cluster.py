"""The workers of a Ray cluster, kept at the wanted number: a process of its own, in the environment that has Ray.

It reads JSON lines (`Order`) and prints JSON lines (`{"workers": [report], "room": int}`), and ends with its input. So
Ray, which ends its process when it loses the head, can't end the one that holds the requests.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TextIO

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from . import worker
from .worker import Comfy, Worker

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.5
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 2.0  # for a worker to report; one that is silent is not reported

Report = dict[str, Any]


@dataclass
class Order:
    """What the reader wants: so many workers beside those that are leaving, these drained or ended; and what it knows of
    each, by name."""

    wanted: int | None = None
    leaving: list[str] = field(default_factory=list)
    end: list[str] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)
    lanes: dict[str, dict[str, Any]] = field(default_factory=dict)


class RayWorker:
    """The actor around a Worker. Ray restarts it, with a new ComfyUI, for as long as it is not killed.

    front: the machine that gives it requests. On the same one, ComfyUI, which asks for no password, can be reached from
    there only.
    """

    def __init__(self, comfy: Comfy, front: str) -> None:
        own = ray.util.get_node_ip_address()
        self._front, self._worker = front, Worker(comfy, LOOPBACK if own == front else own)

    def report(self) -> Report:
        return self._worker.report() | {"front": self._front}

    def tell(self, lane: dict[str, Any]) -> None:
        self._worker.tell(lane)

    def drain(self) -> None:
        self._worker.drain()


class Cluster:
    """The named actors of one fleet. per_node: workers on each node; None: one for each GPU, wherever Ray finds one."""

    def __init__(self, comfy: Comfy | None, per_node: int | None) -> None:
        self._comfy, self._per_node = comfy, per_node
        self._pending: dict[str, Any] = {}  # by name, the answer that is waited for

    def room(self) -> int:
        """How many workers the cluster has a place for now."""
        if self._per_node is None:
            return int(ray.cluster_resources().get("GPU", 0))
        return self._per_node * len(alive_nodes())

    def keep(self, wanted: int, leaving: Collection[str]) -> None:
        """Starts workers until there are as many as wanted, and drops those whose node is gone for good."""
        assert self._comfy is not None
        names, places = set(list_named_actors()), self._places(wanted)
        if self._per_node is not None:
            for name in names - set(places):  # bound to its node, it can't be started elsewhere
                if name.rpartition("-")[0] not in alive_nodes():
                    self.end(name)
                    names.discard(name)
        names -= set(leaving)
        for name, node in places.items():
            if len(names) >= wanted:
                return
            if name not in names and name not in leaving:
                self._start(name, node)
                names.add(name)

    def _places(self, wanted: int) -> dict[str, str | None]:
        """By name, the node that a worker is bound to."""
        if self._per_node is None:
            return {f"gpu-{number}": None for number in range(1, wanted + 1)}
        numbers = range(1, self._per_node + 1)
        return {f"{short}-{number}": node for number in numbers for short, node in alive_nodes().items()}

    def _start(self, name: str, node: str | None) -> None:
        options: dict[str, Any] = {"num_gpus": 1}
        if node is not None:
            options = {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
        actor = ray.remote(RayWorker).options(
            name=name,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=4,
            **options,
        )
        try:
            actor.remote(self._comfy, ray.util.get_node_ip_address())
        except ValueError:  # another fleet process was faster with this name
            pass

    def _is_out_of_reach(self, report: Report) -> bool:
        """Whether it was started for a front on another machine, when this process serves a front here."""
        is_local = LOOPBACK in report["address"]
        return is_local and self._comfy is not None and report["front"] != ray.util.get_node_ip_address()

    def end(self, name: str) -> None:
        self._pending.pop(name, None)
        if actor := find(name):
            ray.kill(actor, no_restart=True)

    def drain(self, name: str) -> None:
        if actor := find(name):
            actor.drain.remote()

    def tell(self, name: str, lane: dict[str, Any]) -> None:
        if actor := find(name):
            actor.tell.remote(lane)

    def reports(self) -> list[Report]:
        """Of every worker; one that Ray has not started or can't reach now has the state `pending` and no address."""
        names = list_named_actors()
        for name in names:
            if name not in self._pending and (actor := find(name)):
                self._pending[name] = actor.report.remote()
        answers = {ref: name for name, ref in self._pending.items()}
        done, _ = (
            ray.wait(list(answers), num_returns=len(answers), timeout=ANSWER_SECONDS) if answers else ([], [])
        )
        told: dict[str, Report] = {}
        for ref in done:
            name = answers[ref]
            del self._pending[name]
            try:
                told[name] = ray.get(ref)
            except RayError:
                continue
            if self._is_out_of_reach(told[name]):
                self.end(name)  # `keep` starts another
                del told[name]
        return [
            {"name": name, "state": "pending", "address": None} | told.get(name, {}) for name in sorted(names)
        ]


def find(name: str) -> Any:
    try:
        return ray.get_actor(name)
    except ValueError:
        return None


def alive_nodes() -> dict[str, str]:
    """Ids of the nodes by the short name that a worker's begins with."""
    return {node["NodeID"][:8]: node["NodeID"] for node in ray.nodes() if node["Alive"]}


def connect(address: str, fleet: str) -> None:
    """Errors: OSError, RuntimeError or ValueError."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():  # Ray itself goes on trying for minutes
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    ray.cloudpickle.register_pickle_by_value(worker)  # the nodes have no checkout to import it from
    ray.init(address, namespace=fleet, log_to_driver=False, logging_level="error")


def serve(cluster: Cluster, orders: TextIO, out: TextIO) -> None:
    """Until the orders end, carries them out and reports."""
    latest: list[Order] = []
    threading.Thread(target=read_orders, args=(orders, latest), daemon=True).start()
    wanted, leaving = None, []
    while True:
        while latest:
            order = latest.pop(0)
            if order.wanted is not None:
                wanted, leaving = order.wanted, order.leaving
            for name in order.end:
                cluster.end(name)
            for name in order.drain:
                cluster.drain(name)
            for name, lane in order.lanes.items():
                cluster.tell(name, lane)
        if wanted is not None:
            cluster.keep(wanted, leaving)
        print(json.dumps({"workers": cluster.reports(), "room": cluster.room()}), file=out, flush=True)
        time.sleep(LOOK_SECONDS)


def read_orders(orders: TextIO, latest: list[Order]) -> None:
    for line in orders:
        latest.append(Order(**json.loads(line)))
    os._exit(0)  # Ray may be in the middle of something that never returns


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", required=True)
    parser.add_argument("--fleet", required=True, help="the namespace of the workers' names")
    parser.add_argument("--per-node", type=int)
    parser.add_argument(
        "--comfy", action="store_true", help="the first line of the input says how to run one"
    )
    options = parser.parse_args()
    # Whatever Ray prints must not get among the lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    comfy = None
    if options.comfy:
        comfy = Comfy(**json.loads(sys.stdin.readline()))
    try:
        connect(options.ray, options.fleet)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"Ray at {options.ray}: {error}", file=sys.stderr)
        return 1
    serve(Cluster(comfy, options.per_node), sys.stdin, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
