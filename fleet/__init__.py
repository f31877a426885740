"""Many requests, and many machines: a manifest rendered overnight, on one ComfyUI or on a fleet of them.

manifest.py reads what is to be rendered, ledger.py remembers what has been, render.py drives, progress.py shows it.
worker.py keeps one ComfyUI running, cluster.py one on each GPU of a Ray cluster (in a process and an environment of its
own), workers.py makes each of them a lane of the endpoints, and command.py is `python3 dev.py fleet`.
"""
