"""Memory and time of long clips: a 1080p file into latents, and the latents into a file, with the tiny VAE.

Run it as `COMFYUI_PATH=... python benchmarks/long_clips.py`. The peak of each minute of the clip is that of the whole
process, native libraries included, above what it held once the VAE was loaded and a short clip had gone both ways.
Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from video import ROOT, make_clip, peak, use_host

FPS, SIZE = 8, "square 512x512"
SELECTION = {"first_n_seconds": 0.0, "fps": float(FPS), "start_seconds": 0.0, "size": SIZE, "max_frames": 0}
EXPORT = {
    "fps": float(FPS),
    "format": "mp4",
    "quality": "high",
    "crf": -1,
    "ping_pong": False,
    "loop_count": 0,
}


def tiny_vae() -> object:
    """The VAE of the tiny checkpoint."""
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(str(ROOT / "tiny" / "trained" / "checkpoint.safetensors"))
    prefix = "first_stage_model."
    return comfy.sd.VAE(
        sd={name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
    )


def watched(
    action: Callable[[Tensor], Tensor], minutes: list[tuple[float, int]], frames: int
) -> Callable[[Tensor], Tensor]:
    """The action, which notes the time and the peak of memory after each minute of the clip."""
    done = 0

    def run(batch: Tensor) -> Tensor:
        nonlocal done
        result = action(batch)
        before, done = done, done + len(batch)
        if done // frames > before // frames:
            minutes.append((time.perf_counter(), peak()))
            peak(reset=True)
        return result

    return run


def both_ways(vae: object, file: str) -> None:
    """One clip into latents and back, with a line for each minute of it."""
    import folder_paths
    from fast_animatediff.nodes.decode_and_export import DecodeAndExport
    from fast_animatediff.nodes.load_video_latents import LoadVideoLatents

    base = peak(reset=True)
    print(f"\n{file}: {'above the models':>20}", flush=True)
    minutes: list[tuple[float, int]] = []
    started = time.perf_counter()
    encode, decode = vae.encode, vae.decode
    vae.encode = watched(encode, minutes, 60 * FPS)
    vae.decode = watched(decode, minutes, 60 * FPS)
    try:
        with torch.inference_mode():
            samples, _, count, _ = LoadVideoLatents.execute(file, **SELECTION, vae=vae).args
            report("load", minutes, started, base)
            minutes.clear()
            started = time.perf_counter()
            node = DecodeAndExport.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
            node.execute(samples, vae, filename_prefix=Path(file).stem, frames_at_once=4, **EXPORT)
            report("export", minutes, started, base)
    finally:
        vae.encode, vae.decode = encode, decode
    size = samples["samples"].nbytes
    print(f"{count} frames; their latents take {size / 1e6:.0f} MB; in {folder_paths.get_output_directory()}")


def report(stage: str, minutes: list[tuple[float, int]], started: float, base: int) -> None:
    for minute, (moment, most) in enumerate(minutes, start=1):
        print(
            f"{stage:7} minute {minute:3} {moment - started:8.0f} s {(most - base) / 1e6:8.0f} MB", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    options = parser.parse_args()
    use_host()
    import folder_paths

    with tempfile.TemporaryDirectory() as folder:
        folder_paths.set_input_directory(folder)
        folder_paths.set_output_directory(folder)
        vae = tiny_vae()
        for name, frames in (("warm", 24), ("long", options.minutes * 60 * FPS)):
            make_clip(Path(folder) / f"{name}.mp4", frames, 1080, 1920, Fraction(FPS))
            both_ways(vae, f"{name}.mp4")


if __name__ == "__main__":
    main()
