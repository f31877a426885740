"""Loading and exporting side by side with the host's own nodes: ratios of time and of memory.

Run it as `COMFYUI_PATH=... python benchmarks/video.py`. Every measurement has a process of its own, the two sides take
turns, and the best of several runs counts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".dev" / "ComfyUI")
FPS, SECONDS = Fraction(8), Fraction(3)
CRF = 18


def use_host() -> None:
    """Makes the host and this checkout's `video` importable."""
    sys.path.insert(0, str(COMFYUI))
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    package = types.ModuleType("fast_animatediff")
    package.__path__ = [str(ROOT)]
    sys.modules["fast_animatediff"] = package


def scenery(frames: int, height: int, width: int) -> torch.Tensor:
    """Frames that pan over a picture with smooth and rough parts, [frames, height, width, 3]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 18, 32, generator=generator)
    fine = torch.rand(1, 3, height // 4, width // 2, generator=generator)
    size = (height, 2 * width)
    wide = 0.8 * torch.nn.functional.interpolate(coarse, size, mode="bicubic")
    wide += 0.2 * torch.nn.functional.interpolate(fine, size, mode="bilinear")
    picture = wide[0].movedim(0, -1).clamp(0, 1)
    return torch.stack([picture[:, 3 * k : 3 * k + width] for k in range(frames)])


def make_clip(path: Path, frames: int, height: int, width: int) -> None:
    """A 24 fps mp4 of scenery; long ones repeat themselves forth and back."""
    import av

    from fast_animatediff.video.colour import ToYuv, tag_bt709

    pictures = (scenery(min(frames, 96), height, width) * 255).byte().numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": str(CRF), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        tag_bt709(stream.codec_context)
        to_yuv = ToYuv(width, height, "yuv420p")
        for k in range(frames):
            frame = to_yuv(pictures[abs((k + 95) % 190 - 95)])
            frame.pts, frame.time_base = k, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def load_ours(path: str) -> torch.Tensor:
    from fast_animatediff.video import FIT, Selection, load_clip, open_source

    with open_source(path, "clip") as source:
        return load_clip(source, Selection(FPS, SECONDS), FIT).images


def load_host(path: str) -> torch.Tensor:
    """What a graph of core nodes does: all components, every third frame, resized in torch."""
    from comfy_api.v0_0_2 import InputImpl

    from fast_animatediff.video.size import fit_area

    parts = InputImpl.VideoFromFile(path, duration=float(SECONDS)).get_components()
    chosen = parts.images[:: round(parts.frame_rate / FPS)]
    width, height = fit_area(chosen.shape[2], chosen.shape[1])
    return torch.nn.functional.interpolate(chosen.movedim(-1, 1), (height, width), mode="area").movedim(1, -1)


def save_ours(images: torch.Tensor, path: str) -> None:
    from fast_animatediff.video import Export, export_video

    target = Path(path)
    export_video(images, target.parent, target.stem, 1, Export(FPS, crf=CRF))


def save_host(images: torch.Tensor, path: str) -> None:
    from comfy_api.v0_0_2 import InputImpl, Types

    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=FPS))
    video.save_to(path, format=Types.VideoContainer.MP4, codec=Types.VideoCodec.H264, crf=CRF)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measured(action: Callable[[], object], result_bytes: Callable[[object], int]) -> dict[str, float]:
    before, started = peak(), time.perf_counter()
    result = action()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": (peak() - before) / max(result_bytes(result), 1)}


def run_one(kind: str, path: str, frames: int) -> dict[str, float]:
    """One measurement, in this process."""
    use_host()
    import comfy_api.v0_0_2  # noqa: F401  # not part of what is measured
    import fast_animatediff.video  # noqa: F401

    torch.zeros(8).div_(255)
    if kind.startswith("load"):
        load = load_ours if kind == "load ours" else load_host
        return measured(lambda: load(path), lambda images: images.numel() * images.element_size())
    images = scenery(frames, 512, 512)
    save = save_ours if kind == "save ours" else save_host
    target = Path(path).parent / f"{kind.split()[1]}.mp4"
    return measured(lambda: save(images, str(target)), lambda _: images.numel() * images.element_size())


def best(kinds: list[tuple[str, str, int]], runs: int) -> list[dict[str, float]]:
    """The best of several interleaved runs of each measurement."""
    found: list[list[dict[str, float]]] = [[] for _ in kinds]
    for _ in range(runs):
        for results, (kind, path, frames) in zip(found, kinds, strict=True):
            command = [sys.executable, __file__, "--one", kind, path, str(frames)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    return [{key: min(result[key] for result in results) for key in ("seconds", "memory")} for results in found]


def compare(title: str, first: tuple[str, str, int], second: tuple[str, str, int], runs: int) -> None:
    ours, other = best([first, second], runs)
    print(
        f"{title:44}  {ours['seconds']:7.2f} s  {other['seconds']:7.2f} s  {other['seconds'] / ours['seconds']:6.1f}x"
        f"  {ours['memory']:6.2f}  {other['memory']:6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "PATH", "FRAMES"), help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one[0], options.one[1], int(options.one[2]))))
        return
    use_host()
    with tempfile.TemporaryDirectory() as folder:
        clips = {"1080p": (96, 1080, 1920), "512x512": (96, 512, 512), "200 s": (4800, 512, 512), "4 s": (96, 512, 512)}
        paths = {name: str(Path(folder) / f"{name}.mp4") for name in clips}
        for name, (frames, height, width) in clips.items():
            make_clip(Path(paths[name]), frames, height, width)
        print(f"{'':44}  {'ours':>9}  {'other':>9}  {'faster':>7}  peak memory / result, ours and other")
        for name in ("1080p", "512x512"):
            title = f"load 3 s of {name} at 8 fps, host"
            compare(title, ("load ours", paths[name], 0), ("load host", paths[name], 0), options.runs)
        compare(
            "load 3 s of a file of 200 s, file of 4 s",
            ("load ours", paths["200 s"], 0),
            ("load ours", paths["4 s"], 0),
            options.runs,
        )
        for frames in (16, 96):
            title = f"export {frames} frames of 512x512, host"
            clip = paths["4 s"]
            compare(title, ("save ours", clip, frames), ("save host", clip, frames), options.runs)


if __name__ == "__main__":
    main()
