"""VideoHelperSuite's nodes, other packs' Video Combine, and frame interpolation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .graph import Graph, Node, Source, ranged

FORMATS = {
    "image/gif": "gif",
    "video/ffmpeg-gif": "gif",
    "video/gifski": "gif",
    "image/webp": "webp",
    "video/h264-mp4": "mp4",
    "video/nvenc_h264-mp4": "mp4",
    "video/webm": "webm",
    "video/av1-webm": "webm",
}
# The presets of Load Video Frames that fill a size and crop the rest evenly, as VideoHelperSuite does.
SIZES = {
    (512, 512): "square 512x512",
    (1024, 1024): "square_hd 1024x1024",
    (768, 1024): "portrait_4_3 768x1024",
    (576, 1024): "portrait_16_9 576x1024",
    (1024, 768): "landscape_4_3 1024x768",
    (1024, 576): "landscape_16_9 1024x576",
}
INPUT = "input/"
MOST_FPS, MOST_FRAMES = 120, 10_000  # that Load Video Frames takes; Export Video as many per second


def combine(graph: Graph, node: Node) -> None:
    """Video Combine: Export Video, or Decode and Export Video where it gets latents and a VAE."""
    chosen = node.inputs.get("format", "image/gif")
    format = FORMATS.get(chosen, "mp4")
    if chosen not in FORMATS:
        graph.note(node, f"format '{chosen}' has no counterpart; mp4 (H.264) was set.")
    crf = node.inputs.get("crf")
    if not isinstance(crf, int | Source) or format not in ("mp4", "webm") or chosen not in FORMATS:
        crf = -1
    elif isinstance(crf, int) and crf > (51 if format == "mp4" else 63):
        graph.note(node, f"crf {crf} is out of range; the quality 'high' was set.")
        crf = -1
    loop_count = node.inputs.get("loop_count", 0)
    if format in ("mp4", "webm") and loop_count:
        graph.note(node, f"loop_count is {loop_count}: the {format} is written once through.")
    if node.inputs.get("save_output", node.inputs.get("save_image", True)) is False:
        graph.note(
            node,
            "saving was off: Export Video writes into the output folder. Core's Preview Image shows frames without that.",
        )
    ordinary = {"pix_fmt": "yuv420p", "save_metadata": True, "trim_to_audio": False, "meta_batch": None}
    ordinary |= {"bitrate": None, "quality": 90, "dither": "sierra2_4a", "input_color_depth": "8bit"}
    for name, usual in ordinary.items():
        if node.inputs.get(name, usual) != usual:
            graph.note(node, f"not carried over: {name} ({node.inputs[name]}).")
    inputs = {
        "fps": ranged(graph, node, "frame_rate", 8.0, 0, MOST_FPS),
        "format": format,
        "quality": "maximum" if format == "webp" and node.inputs.get("lossless", True) else "high",
        "filename_prefix": node.inputs.get("filename_prefix", "AnimateDiff"),
        "crf": crf,
        "ping_pong": node.inputs.get("pingpong", False),
        "loop_count": loop_count,
        "audio": node.source("audio"),
    }
    if node.source("vae"):
        graph.add(
            "FAD_DecodeAndExport", node, samples=node.source("images"), vae=node.source("vae"), **inputs
        )
    else:
        graph.add("FAD_ExportVideo", node, images=node.source("images"), **inputs)
    for other, _ in graph.consumers(Source(node.id, 0)):
        if other.type == "VHS_PruneOutputs":
            graph.note(other, "left out: there is nothing to prune, as Export Video writes one file.")
            graph.replace(other, {})
    graph.replace(node, {})


def load_video(graph: Graph, node: Node) -> None:
    """Load Video: Load Video Frames, then core's nodes for a size of one's own and for latents."""
    size, scaled = wanted_size(node)
    loaded = graph.add(
        "FAD_LoadVideoFrames",
        node,
        file=inside_input(graph, node, node.inputs.get("video")),
        **selection(graph, node),
        size=size,
        max_frames=ranged(graph, node, "frame_load_cap", 0, 0, MOST_FRAMES),
    )
    images = loaded
    if scaled:
        images = graph.add(
            "ImageScale", node, image=images, upscale_method="lanczos", width=scaled[0], height=scaled[1], crop="center"
        )  # fmt: skip
    if node.source("meta_batch"):
        graph.note(
            node,
            "not carried over: the batch manager. Decode and Export Video writes long clips with little memory.",
        )
    if node.inputs.get("format") not in (None, "None", "AnimateDiff", ""):
        graph.note(node, f"not carried over: format '{node.inputs['format']}'.")
    fps, count, audio = (Source(loaded.node, slot) for slot in (1, 2, 3))
    for other, _ in list(graph.consumers(Source(node.id, 3))):
        if other.type == "VHS_VideoInfoLoaded":
            video_info(graph, other, fps, count, images)
        elif other.type in ("VHS_VideoInfoSource", "VHS_VideoInfo"):
            graph.note(
                other,
                "not carried over: the size, rate and length of the file itself. Get Video Components (core) has them.",
            )
            graph.replace(other, {})
    if node.source("vae"):
        images = graph.add("VAEEncode", node, pixels=images, vae=node.source("vae"))
    second = count
    if "FFmpeg" in node.type:  # which gives masks in place of the number of frames
        second = Source(loaded.node, 4)
        if scaled and any(graph.consumers(Source(node.id, 1))):
            graph.note(node, "the mask has the size of the video; only the frames are scaled.")
    graph.replace(node, {0: images, 1: second, 2: audio})


def load_images(graph: Graph, node: Node) -> None:
    """A folder of pictures: a clip of 8 frames per second to Load Video Frames, which takes each picture for a frame."""
    folder = inside_input(graph, node, node.inputs.get("directory"))
    skipped, nth = node.inputs.get("skip_first_images", 0), node.inputs.get("select_every_nth", 1)
    if nth != 1:
        graph.note(node, f"not carried over: select_every_nth ({nth}).")
    if not isinstance(skipped, int):
        graph.note(node, "skip_first_images is connected: set start_seconds to an eighth of it.")
        skipped = 0
    loaded = graph.add(
        "FAD_LoadVideoFrames",
        node,
        file=f"{folder.rstrip('/')}/" if isinstance(folder, str) else folder,
        first_n_seconds=0.0,
        fps=8.0,
        start_seconds=skipped / 8,
        size="source",
        max_frames=ranged(graph, node, "image_load_cap", 0, 0, MOST_FRAMES),
    )
    images = loaded
    if node.source("vae"):
        images = graph.add("VAEEncode", node, pixels=images, vae=node.source("vae"))
    graph.replace(node, {0: images, 1: Source(loaded.node, 4), 2: Source(loaded.node, 2)})


def inside_input(graph: Graph, node: Node, path: Any) -> Any:
    """A path of a (Path) node as a name in ComfyUI's input folder, with a note where it leads elsewhere."""
    if not node.type.endswith("Path") or not isinstance(path, str):
        return path
    found = path.strip(' "').replace("\\", "/")  # Windows copies paths in quotes
    if found.startswith(INPUT):
        return found[len(INPUT) :]
    graph.note(node, f"'{path}' lies outside of ComfyUI's input folder: copy it there and choose it.")
    return found.rstrip("/").rpartition("/")[2]


def wanted_size(node: Node) -> tuple[str, tuple[Any, Any] | None]:
    """The `size` of Load Video Frames, and the width and height to scale to where it has none such; 0 keeps the aspect."""
    width, height = node.inputs.get("custom_width", 0), node.inputs.get("custom_height", 0)
    forced = str(node.inputs.get("force_size", "Custom"))
    if "x" in forced:
        width, height = (0 if side == "?" else int(side) for side in forced.split("x"))
    elif not forced.startswith("Custom"):
        width = height = 0
    elif forced == "Custom Width":
        height = 0
    elif forced == "Custom Height":
        width = 0
    if not width and not height:
        return "source", None
    preset = SIZES.get((width, height))
    return (preset, None) if preset else ("source", (width, height))


def selection(graph: Graph, node: Node) -> dict[str, Any]:
    """fps, start and length. VideoHelperSuite counts in frames of force_rate, this pack in seconds."""
    rate, nth = ranged(graph, node, "force_rate", 0.0, 0, MOST_FPS), node.inputs.get("select_every_nth", 1)
    skipped = node.inputs.get("skip_first_frames", 0)
    chosen: dict[str, Any] = {
        "first_n_seconds": 0.0,
        "fps": rate,
        "start_seconds": node.inputs.get("start_time", 0.0),
    }
    has_rate = isinstance(rate, int | float) and rate > 0
    if nth != 1 and has_rate and isinstance(nth, int):
        chosen["fps"] = rate / nth
    elif nth != 1:
        graph.note(
            node,
            f"select_every_nth ({nth}) needs the rate of the video: set fps to that rate divided by it.",
        )
    if skipped and has_rate and isinstance(skipped, int):
        chosen["start_seconds"] = skipped / rate
    elif skipped:
        graph.note(
            node,
            f"skip_first_frames ({skipped}): set start_seconds to it divided by the rate of the video.",
        )
    return chosen


def video_info(graph: Graph, node: Node, fps: Source, count: Source, images: Source) -> None:
    outputs: dict[int, Source | None] = {0: fps, 1: count}
    if any(any(graph.consumers(Source(node.id, slot))) for slot in (3, 4)):
        size = graph.add("GetImageSize", node, image=images)
        outputs |= {3: size, 4: Source(size.node, 1)}
    graph.replace(node, outputs)


def load_audio(graph: Graph, node: Node) -> None:
    audio = graph.add("LoadAudio", node, audio=node.inputs.get("audio"))
    start, length = node.inputs.get("start_time", 0), node.inputs.get("duration", 0)
    if start or length:
        audio = graph.add(
            "TrimAudioDuration", node, audio=audio, start_index=start, duration=length or 1_000_000
        )
    graph.replace(node, {0: audio})


def split_images(graph: Graph, node: Node) -> None:
    index, images = node.inputs.get("split_index", 0), node.source("images")
    if not isinstance(index, int) or index < 1:
        graph.note(
            node,
            f"split_index ({index}) can't be carried over: set both Get Image from Batch nodes.",
        )
        index = 1
    parts: dict[int, Source | None] = {}
    for slot, start, length in ((0, 0, index), (2, index, 4096)):
        if any(any(graph.consumers(Source(node.id, used))) for used in (slot, slot + 1)):
            part = graph.add("ImageFromBatch", node, image=images, batch_index=start, length=length)
            parts |= {slot: part, slot + 1: counted(graph, node, slot + 1, part)}
    graph.replace(node, parts)


def counted(graph: Graph, node: Node, slot: int, images: Source | None) -> Source | None:
    """The number of images, where an output of `node` that gave it is used."""
    if not any(graph.consumers(Source(node.id, slot))):
        return None
    return Source(graph.add("GetImageSize", node, image=images).node, 2)


def image_count(graph: Graph, node: Node) -> None:
    graph.replace(node, {0: counted(graph, node, 0, node.source("images"))})


def duplicate_images(graph: Graph, node: Node) -> None:
    images = node.source("images")
    made = graph.add("RepeatImageBatch", node, image=images, amount=node.inputs.get("multiply_by", 1))
    graph.replace(node, {0: made, 1: counted(graph, node, 1, made)})


def interpolate(graph: Graph, node: Node) -> None:
    """RIFE or FILM: core's loader and node. Core's weights are other files than the pack's."""
    name = node.inputs.get("ckpt_name")
    graph.note(node, f"core reads models/frame_interpolation: put '{name}' there, or choose another file.")
    for setting, usual in (
        ("scale_factor", 1.0),
        ("ensemble", True),
        ("optional_interpolation_states", None),
    ):
        if node.inputs.get(setting, usual) != usual:
            graph.note(node, f"not carried over: {setting} ({node.inputs[setting]}).")
    multiplier = node.inputs.get("multiplier", 2)
    if isinstance(multiplier, int) and not 2 <= multiplier <= 16:
        graph.note(node, f"multiplier is {multiplier}, but 2 to 16 is possible here.")
        multiplier = min(max(multiplier, 2), 16)
    weights = graph.add("FrameInterpolationModelLoader", node, model_name=name)
    images = node.source("frames")
    graph.replace(
        node,
        {0: graph.add("FrameInterpolate", node, interp_model=weights, images=images, multiplier=multiplier)},
    )


VIDEO_RULES: dict[str, Callable[[Graph, Node], None]] = {
    "VHS_VideoCombine": combine,
    "ADE_AnimateDiffCombine": combine,
    "AnimateDiffCombine": combine,
    "VHS_LoadVideo": load_video,
    "VHS_LoadVideoPath": load_video,
    "VHS_LoadVideoFFmpeg": load_video,
    "VHS_LoadVideoFFmpegPath": load_video,
    "VHS_LoadImages": load_images,
    "VHS_LoadImagesPath": load_images,
    "VHS_LoadAudioUpload": load_audio,
    "VHS_SplitImages": split_images,
    "VHS_GetImageCount": image_count,
    "VHS_DuplicateImages": duplicate_images,
    "RIFE VFI": interpolate,
    "FILM VFI": interpolate,
}
