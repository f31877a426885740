"""Loading and exporting side by side with the host's own nodes: ratios of time and of memory.

Run it as `COMFYUI_PATH=... python benchmarks/video.py`. Every measurement has a process of its own, the two sides take
turns, and the shortest time and the highest peak of several runs count. The peak is that of the whole process, native
libraries included, less what it held before; a small clip is loaded first, so that their code is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
from run import name_checkout

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".dev" / "ComfyUI")
FPS, SECONDS = Fraction(8), Fraction(3)
CRF = 18


def use_host() -> None:
    """Makes the host and this checkout's `video` importable."""
    sys.path.insert(0, str(COMFYUI))
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    name_checkout()


def back_and_forth(frames: int) -> list[int]:
    """Indices that swing between 0 and 95."""
    return [95 - abs(k % 190 - 95) for k in range(frames)]


def scenery(frames: int, height: int, width: int) -> torch.Tensor:
    """Frames that pan over a picture with smooth and rough parts, [frames, height, width, 3]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 18, 32, generator=generator)
    fine = torch.rand(1, 3, height // 4, width // 2, generator=generator)
    size = (height, width + 3 * 96)
    wide = 0.8 * torch.nn.functional.interpolate(coarse, size, mode="bicubic")
    wide += 0.2 * torch.nn.functional.interpolate(fine, size, mode="bilinear")
    picture = wide[0].movedim(0, -1).clamp(0, 1)
    return torch.stack([picture[:, 3 * k : 3 * k + width] for k in back_and_forth(frames)])


def make_clip(path: Path, frames: int, height: int, width: int) -> None:
    """A 24 fps mp4 of scenery; long ones repeat themselves back and forth."""
    import av

    from fast_animatediff.video.colour import ToYuv, tag_bt709

    pictures = (scenery(96, height, width) * 255).byte().numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": str(CRF), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        tag_bt709(stream.codec_context)
        to_yuv = ToYuv(width, height, "yuv420p")
        for k, index in enumerate(back_and_forth(frames)):
            frame = to_yuv(pictures[index])
            frame.pts, frame.time_base = k, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def load_ours(path: str, seconds: Fraction = SECONDS) -> torch.Tensor:
    from fast_animatediff.video import FIT, Selection, load_clip, open_source

    with open_source(path, "clip") as source:
        return load_clip(source, Selection(FPS, seconds), FIT).images


def load_whole(path: str) -> torch.Tensor:
    from fast_animatediff.video import Selection, load_clip, open_source

    with open_source(path, "clip") as source:
        return load_clip(source, Selection(Fraction(0)), "source").images


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


def measured(action: Callable[[], object], result_bytes: Callable[[object], int]) -> dict[str, float]:
    from fast_animatediff.benchmarks.compare.machine import process_peak

    before, started = process_peak(reset=True), time.perf_counter()
    result = action()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": (process_peak() - before) / max(result_bytes(result), 1)}


def run_one(kind: str, path: str, frames: int) -> dict[str, float]:
    """One measurement, in this process."""
    use_host()
    import comfy_api.v0_0_2  # noqa: F401  # not part of what is measured
    import fast_animatediff.video  # noqa: F401

    load_ours(str(Path(path).parent / "warm.mp4"))  # the libraries' own pages are in memory from here on
    if kind.startswith("load"):
        load = {
            "load ours": load_ours,
            "load host": load_host,
            "load all": lambda p: load_ours(p, Fraction(0)),
        }[kind]
        return measured(lambda: load(path), lambda images: images.numel() * images.element_size())
    images = scenery(frames, 512, 512)
    save = save_ours if kind == "save ours" else save_host
    target = Path(path).parent / f"{kind.split()[1]}.mp4"
    return measured(lambda: save(images, str(target)), lambda _: images.numel() * images.element_size())


def best(kinds: list[tuple[str, str, int]], runs: int) -> list[dict[str, float]]:
    """The shortest time and the highest peak of several interleaved runs of each measurement."""
    found: list[list[dict[str, float]]] = [[] for _ in kinds]
    for _ in range(runs):
        for results, (kind, path, frames) in zip(found, kinds, strict=True):
            command = [sys.executable, __file__, "--one", kind, path, str(frames)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    return [
        {"seconds": min(r["seconds"] for r in results), "memory": max(r["memory"] for r in results)}
        for results in found
    ]


def compare(title: str, ours: tuple[str, str, int], other: tuple[str, str, int] | None, runs: int) -> None:
    results = best([ours, other] if other else [ours], runs)
    line = f"{title:46} {results[0]['seconds']:6.2f} s {results[0]['memory']:6.2f}"
    if other:
        ratio = results[1]["seconds"] / results[0]["seconds"]
        line += f"   | {results[1]['seconds']:6.2f} s {results[1]['memory']:6.2f}   | {ratio:5.1f}x"
    print(line, flush=True)


def generations(save: Callable[[torch.Tensor, str], None], load: Callable[[str], torch.Tensor]) -> str:
    """Mean change of red, green and blue (levels) and likeness after saving and loading eight times."""
    original = images = scenery(4, 256, 384)
    with tempfile.TemporaryDirectory() as folder:
        for generation in range(8):
            path = str(Path(folder) / f"{generation}.mp4")
            save(images, path)
            images = load(next(str(p) for p in Path(folder).glob(f"{generation}*.mp4")))
    drift = ((images - original).mean((0, 1, 2)) * 255).tolist()
    likeness = 10 * torch.log10(1 / ((images - original) ** 2).mean())
    return f"{', '.join(f'{value:+.2f}' for value in drift)} levels, {likeness:.1f} dB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "PATH", "FRAMES"), help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one[0], options.one[1], int(options.one[2]))))
        return
    use_host()
    from comfy_api.v0_0_2 import InputImpl

    clips = {
        "warm": (4, 64, 64),
        "1080p": (96, 1080, 1920),
        "long 1080p": (480, 1080, 1920),
        "512x512": (96, 512, 512),
        "200 s": (4800, 512, 512),
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder) / f"{name}.mp4") for name in clips}
        for name, size in clips.items():
            make_clip(Path(paths[name]), *size)
        print(f"{'':46} {'ours: time, peak/result':17} | {'other':16}   | faster")
        runs = options.runs
        for name in ("1080p", "512x512"):
            ours, host = ("load ours", paths[name], 0), ("load host", paths[name], 0)
            compare(f"load 3 s of {name} at 8 fps | host", ours, host, runs)
        compare("load 20 s of 1080p at 8 fps", ("load all", paths["long 1080p"], 0), None, runs)
        long, short = ("load ours", paths["200 s"], 0), ("load ours", paths["512x512"], 0)
        compare("load 3 s of a file of 200 s | of 4 s", long, short, runs)
        for frames in (16, 96, 384):
            ours, host = ("save ours", paths["warm"], frames), ("save host", paths["warm"], frames)
            compare(f"export {frames} frames of 512x512, crf {CRF} | host", ours, host, runs)
    print("eight generations at crf 18, ours:", generations(save_ours, load_whole))
    print(
        "eight generations at crf 18, host:",
        generations(save_host, lambda path: InputImpl.VideoFromFile(path).get_components().images),
    )


if __name__ == "__main__":
    main()
