"""Ray and ComfyUI on this machine, with requests of fixed duration: what benchmarks/fleet.py and tests/fleet stand on."""
