"""Memory and time of long clips: a 1080p file into latents, and the latents into a file.

Run it as `COMFYUI_PATH=... python benchmarks/long_clips.py`. The peak of each tenth of the clip is that of the whole
process, native libraries included, above what it held once the VAE was loaded and a short clip had gone both ways.
`--vae means` takes means of 8x8 pixels for latents, where a network would take hours. Linux only.
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

from video import ROOT, scenery, use_host

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


def make_clip(path: Path, frames: int) -> None:
    """A 1080p mp4 of scenery, in which the same second comes again and again."""
    import av

    pictures = (scenery(FPS, 1080, 1920) * 255).byte().numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        second = [packet for each in pictures for packet in stream.encode(av.VideoFrame.from_ndarray(each))]
        second = [(bytes(packet), packet.is_keyframe) for packet in [*second, *stream.encode(None)]]
        for k in range(frames):
            data, is_keyframe = second[k % FPS]
            packet = av.Packet(data)
            packet.stream, packet.is_keyframe, packet.duration = stream, is_keyframe, 1
            packet.pts = packet.dts = k
            packet.time_base = Fraction(1, FPS)
            container.mux(packet)


def tiny_vae() -> object:
    """The VAE of the tiny checkpoint."""
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(str(ROOT / "tiny" / "trained" / "checkpoint.safetensors"))
    prefix = "first_stage_model."
    return comfy.sd.VAE(
        sd={name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
    )


class Means:
    """Stands in for a VAE."""

    latent_dim, latent_channels = 2, 3

    def spacial_compression_encode(self) -> int:
        return 8

    spacial_compression_decode = spacial_compression_encode

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 8)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents, scale_factor=8).movedim(1, -1)


def watched(
    action: Callable[[Tensor], Tensor], tenths: list[tuple[float, int]], frames: int
) -> Callable[[Tensor], Tensor]:
    """The action, which notes the time and the peak of memory after each tenth of the clip."""
    from fast_animatediff.benchmarks.compare.machine import process_peak

    done = 0

    def run(batch: Tensor) -> Tensor:
        nonlocal done
        result = action(batch)
        before, done = done, done + len(batch)
        if done // frames > before // frames:
            tenths.append((time.perf_counter(), process_peak()))
            process_peak(reset=True)
        return result

    return run


def both_ways(vae: object, file: str, frames: int) -> None:
    """One clip into latents and back, with a line for each tenth of it."""
    import folder_paths
    from fast_animatediff.benchmarks.compare.machine import process_peak
    from fast_animatediff.nodes.decode_and_export import DecodeAndExport
    from fast_animatediff.nodes.load_video_latents import LoadVideoLatents

    base = process_peak(reset=True)
    print(f"\n{file}: {'above the models':>20}", flush=True)
    tenths: list[tuple[float, int]] = []
    started = time.perf_counter()
    encode, decode = vae.encode, vae.decode
    vae.encode = watched(encode, tenths, frames // 10)
    vae.decode = watched(decode, tenths, frames // 10)
    try:
        with torch.inference_mode():
            samples, _, count, _ = LoadVideoLatents.execute(file, **SELECTION, vae=vae).args
            report("load", tenths, started, base)
            tenths.clear()
            started = time.perf_counter()
            node = DecodeAndExport.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
            node.execute(samples, vae, filename_prefix=Path(file).stem, frames_at_once=4, **EXPORT)
            report("export", tenths, started, base)
    finally:
        vae.encode, vae.decode = encode, decode
    size = samples["samples"].nbytes
    print(f"{count} frames; their latents take {size / 1e6:.0f} MB; in {folder_paths.get_output_directory()}")


def report(stage: str, tenths: list[tuple[float, int]], started: float, base: int) -> None:
    for tenth, (moment, most) in enumerate(tenths, start=1):
        print(
            f"{stage:7} tenth {tenth:3} {moment - started:8.0f} s {(most - base) / 1e6:8.0f} MB", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--vae", choices=("tiny", "means"), default="tiny")
    options = parser.parse_args()
    use_host()
    import folder_paths

    with tempfile.TemporaryDirectory() as folder:
        folder_paths.set_input_directory(folder)
        folder_paths.set_output_directory(folder)
        vae = tiny_vae() if options.vae == "tiny" else Means()
        for name, frames in (("warm", 16), ("long", options.seconds * FPS)):
            make_clip(Path(folder) / f"{name}.mp4", frames)
            both_ways(vae, f"{name}.mp4", frames)


if __name__ == "__main__":
    main()
