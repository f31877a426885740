"""A tiny SD1.5-shaped model family, and a real ComfyUI server to run it in: for the demo, the tests and the benchmarks."""
