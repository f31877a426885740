"""What skipping work costs: video to video with steps that are skipped or run without guidance, on the tiny family.

`python3 dev.py bench less_work [--clips 16]`. Each row is one way to do less, through the video-to-video workflow in a real
ComfyUI: how much of the UNet's work is left, and how the clips compare with those of the whole work. The work of EasyCache is what the
host's log counts, that of cfg_until follows from its steps; nothing is timed. The tiny family is a toy: real weights may
tolerate more or less.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from run import name_checkout

STEPS = 17  # of 25 at strength 0.7
SKIPPED = re.compile(r"skipped (\d+)/(\d+) steps")


@dataclass(frozen=True)
class Way:
    """cfg_until: of the sampler. reuse_threshold: of the host's EasyCache between Apply Motion Module and sampler."""

    name: str
    cfg_until: float = 1.0
    reuse_threshold: float | None = None


WAYS = (
    Way("all of it"),
    Way("cfg_until 0.7", cfg_until=0.7),
    Way("cfg_until 0.5", cfg_until=0.5),
    Way("EasyCache 0.05", reuse_threshold=0.05),
    Way("EasyCache 0.1", reuse_threshold=0.1),
    Way("EasyCache 0.2", reuse_threshold=0.2),
)


def with_less_work(prompt: dict[str, Any], way: Way) -> dict[str, Any]:
    from fast_animatediff.dev_server.demo import nodes

    (sampler,) = nodes(prompt, "FAD_Sampler")
    sampler["cfg_until"] = way.cfg_until
    if way.reuse_threshold is not None:
        inputs = {"reuse_threshold": way.reuse_threshold, "start_percent": 0.15, "end_percent": 0.95}
        inputs |= {"verbose": False, "model": sampler["model"]}
        prompt["cache"] = {"class_type": "EasyCache", "inputs": inputs}
        sampler["model"] = ["cache", 0]
    return prompt


def measure(clips: int) -> Iterator[str]:
    """Lines of a table, each as soon as it is known."""
    name_checkout()
    from fast_animatediff.dev_server.clip import SIZE
    from fast_animatediff.dev_server.host import base_folder, host_folder
    from fast_animatediff.dev_server.server import ComfyServer
    from fast_animatediff.dev_server.set_up import set_up
    from fast_animatediff.tiny.domain.captions import plain_caption
    from fast_animatediff.tiny.domain.measures import judge, mean, psnr, share
    from fast_animatediff.tiny.domain.subjects import find_subject, path_correlation
    from fast_animatediff.tiny.scoring.score_card import Request, in_another_colour, input_clip
    from fast_animatediff.tiny.scoring.workflow_maker import WorkflowMaker

    class Maker(WorkflowMaker):
        way = WAYS[0]

        def video_to_video(self, request: Request) -> dict[str, Any]:
            return with_less_work(super().video_to_video(request), self.way)

    base = base_folder()
    set_up(base)
    yield "| | UNet work | likeness to all of it | colour | shape | path kept: correlation | change a frame |"
    yield "|---|---|---|---|---|---|---|"
    with ComfyServer(host_folder(), base) as server:
        make = Maker(server.client, base.resolve(), SIZE)
        whole = []
        for make.way in WAYS:
            before = len(server.log_text())
            verdicts, likeness, paths = [], [], []
            for number in range(clips):
                scenes, video = input_clip(number, SIZE)
                asked = in_another_colour(scenes.attributes)
                caption = plain_caption(asked, 0, motion=False)
                clip = make(Request(caption, asked, 3000 + number, video=video))
                if make.way == WAYS[0]:
                    whole.append(clip)
                verdicts.append(judge(clip, asked))
                likeness.append(psnr(clip, whole[number]))
                paths.append(path_correlation(find_subject(video), find_subject(clip)))
            work = work_left(make.way, server.log_text()[before:], clips)
            yield (
                f"| {make.way.name} | {100 * work:.0f} % | {mean(likeness):.1f} dB "
                f"| {share([v.colour for v in verdicts]):.0f} % | {share([v.shape for v in verdicts]):.0f} % "
                f"| {mean(paths):.2f} | {100 * mean([v.jitter for v in verdicts]):.2f} % |"
            )


def work_left(way: Way, log: str, clips: int) -> float:
    """Part of the UNet passes that ran. log: the host's, in which EasyCache tells what it left out of each clip."""
    if way.reuse_threshold is None:
        return (STEPS + round(STEPS * way.cfg_until)) / (2 * STEPS)
    told = [(int(skipped), int(steps)) for skipped, steps in SKIPPED.findall(log)]
    if [steps for _, steps in told] != [STEPS] * clips:
        raise RuntimeError(
            f"EasyCache told of {told} in the host's log, not of {clips} clips in {STEPS} steps."
        )
    return 1 - sum(skipped for skipped, _ in told) / (STEPS * clips)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16)
    for line in measure(parser.parse_args().clips):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
