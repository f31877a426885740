"""Transparent frames through the nodes: images on black, and a mask."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from test_video_nodes import WHOLE, export

from comfy_api.v0_0_2 import InputImpl, Types
from fast_animatediff.nodes.load_video import LoadVideoFrames, SampleVideoFrames

pytestmark = pytest.mark.usefixtures("folders")


def test_a_mask_comes_with_a_transparent_clip(folders) -> None:
    images = torch.ones(4, 64, 64, 4)
    images[:, :32, :, 3] = 0
    export(images, format="webm", filename_prefix="made")
    (folders / "output/made_00001_.webm").rename(folders / "input/clip.webm")
    pictures, _, _, _, mask = LoadVideoFrames.execute("clip.webm", **WHOLE).args
    assert mask.shape == (4, 64, 64) and mask[:, :28].min() > 0.9 and mask[:, 36:].max() < 0.1
    assert np.allclose(pictures[:, 2:28].numpy(), 0, atol=0.02)


@pytest.mark.parametrize("size", ["source", "fit 512x512 area"])
def test_a_video_of_transparent_images_keeps_its_transparency(size) -> None:
    """As Create Video makes it of images with alpha: black with a mask, like a transparent file."""
    images = torch.ones(2, 64, 64, 4)
    images[0, :, :32, 3], images[1, :, :, 3] = 0, 0.25
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(8)))
    pictures, _, _, _, mask = SampleVideoFrames.execute(video, **{**WHOLE, "size": size}).args
    edge = pictures.shape[2] // 8
    for plane in (*pictures[0].unbind(-1), 1 - mask[0]):
        assert plane[:, :edge].max() < 0.01 and plane[:, -edge:].min() > 0.99
    assert (pictures[1] - 0.25).abs().max() < 0.01 and (mask[1] - 0.75).abs().max() < 0.01


@pytest.mark.parametrize("format", ["mp4", "gif", "webp"])
def test_the_video_of_transparent_images_shows_them_on_black(format) -> None:
    images = torch.ones(2, 64, 64, 4)
    images[:, :, :32, 3] = 0
    (video,) = export(images, format=format).args
    shown = video.get_components().images
    assert shown.shape == (2, 64, 64, 3) and shown[:, :, :28].max() < 0.05 and shown[:, :, 36:].min() > 0.95
