"""What somebody who knows both packs would build for each of the workflows in peers/, as API prompts."""

from __future__ import annotations

from typing import Any

from fast_animatediff.tests.workflows.graphs import Prompt, add

CHECKPOINT, MODULE = "v1-5-pruned-emaonly-fp16.safetensors", "mm_sd15_v2.safetensors"
APPLY = {
    "strength": 1.0,
    "motion_scale": 1.0,
    "beta_schedule": "auto",
    "start_percent": 0.0,
    "end_percent": 1.0,
}
WINDOWS = {
    "context_length": 4, "context_overlap": 2, "context_schedule": "looped_uniform", "fuse_method": "flat",
    "closed_loop": False, "freenoise": False, "context_stride": 1,
}  # fmt: skip


class Made:
    """A prompt that grows node by node."""

    def __init__(self, positive: str = "a red circle moving left", negative: str = "blurry") -> None:
        self.prompt: Prompt = {
            "0": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}, "_meta": {}}
        }
        self.model: list = ["0", 0]
        self.positive = self("CLIPTextEncode", text=positive, clip=["0", 1])
        self.negative = self("CLIPTextEncode", text=negative, clip=["0", 1])

    def __call__(self, class_type: str, **inputs: Any) -> list:
        return add(self.prompt, class_type, **inputs)

    def apply(self, **settings: Any) -> None:
        module = self("FAD_LoadMotionModule", motion_module=MODULE)
        self.model = self(
            "FAD_ApplyMotionModule", model=self.model, motion_module=module, **{**APPLY, **settings}
        )

    def windows(self, **settings: Any) -> None:
        self.model = self("FAD_ContextWindows", model=self.model, **{**WINDOWS, **settings})

    def lora(self, name: str, strength: float, **previous: list) -> list:
        return self("FAD_MotionLora", motion_lora=f"v2_lora_{name}.ckpt", strength=strength, **previous)

    def empty(self, frames: int) -> list:
        return self("EmptyLatentImage", width=64, height=64, batch_size=frames)

    def sample(
        self,
        latent: list,
        seed: int,
        cfg: float,
        steps: int = 2,
        sampler: str = "euler",
        denoise: float = 1.0,
    ) -> list:
        return self(
            "KSampler", model=self.model, positive=self.positive, negative=self.negative, latent_image=latent, seed=seed,
            steps=steps, cfg=cfg, sampler_name=sampler, scheduler="sgm_uniform" if sampler == "lcm" else "normal",
            denoise=denoise,
        )  # fmt: skip

    def decode(self, latent: list) -> list:
        return self("VAEDecode", samples=latent, vae=["0", 2])

    def export(self, images: list, **settings: Any) -> Prompt:
        usual = {"fps": 8, "format": "mp4", "quality": "high", "filename_prefix": "ours/clip", "crf": 19}
        more = {"ping_pong": False, "loop_count": 0}
        self("FAD_ExportVideo", images=images, **{**usual, **more, **settings})
        return self.prompt

    def load(self, **settings: Any) -> list:
        usual = {
            "file": "moving circle.mp4",
            "first_n_seconds": 0,
            "fps": 8,
            "start_seconds": 0,
            "size": "source",
            "max_frames": 0,
        }
        return self("FAD_LoadVideoFrames", **{**usual, **settings})

    def scale(self, images: list, width: int, height: int) -> list:
        return self(
            "ImageScale", image=images, upscale_method="lanczos", width=width, height=height, crop="center"
        )


def text_to_video() -> Prompt:
    made = Made()
    made.apply(motion_scale=1.2, beta_schedule="sqrt_linear (AnimateDiff)")
    made.windows()
    return made.export(made.decode(made.sample(made.empty(8), 7, 7.5)), ping_pong=True)


def camera_moves() -> Prompt:
    made = Made()
    loras = made.lora("ZoomIn", 0.5, previous=made.lora("PanLeft", 0.8))
    made.apply(strength=0.9, motion_scale=1.15, end_percent=0.9, motion_lora=loras)
    made.windows(context_schedule="standard_uniform", fuse_method="pyramid", freenoise=True)
    return made.export(made.decode(made.sample(made.empty(8), 8, 7)))


def video_to_video() -> Prompt:
    made = Made()
    clip = made.load(start_seconds=0.5, max_frames=6)
    latent = made("VAEEncode", pixels=made.scale(clip, 64, 64), vae=["0", 2])
    made.apply()
    images = made.decode(made.sample(latent, 9, 7, steps=3, denoise=0.6))
    return made.export(images, fps=[clip[0], 1], audio=[clip[0], 3])


def prompt_travel() -> Prompt:
    made = Made()
    travel = {"clip": ["0", 1], "num_frames": 6, "interpolation": "linear"}
    made.positive = made(
        "FAD_PromptSchedule", **travel, schedule='0: a red circle\n5: a green square, "sharp"', before="moving left,",
        after='on a "plain" background',
    )  # fmt: skip
    made.negative = made(
        "FAD_PromptSchedule", **travel, schedule='"0": "blurry", "5": ""', before="", after=""
    )
    made.apply(beta_schedule="lcm 50 linear (AnimateDiff-Evolved)")
    images = made.decode(made.sample(made.empty(6), 10, 2, sampler="lcm"))
    return made.export(images, format="gif", loop_count=2, crf=-1)


def sliding_windows() -> Prompt:
    made = Made()
    made.apply(beta_schedule="sqrt_linear (AnimateDiff)", motion_lora=made.lora("TiltUp", 0.7))
    made.windows(closed_loop=True)
    images = made.decode(made.sample(made.empty(8), 345029849956677, 8))
    return made.export(images, format="webp", quality="maximum", crf=-1)


def values_by_position() -> Prompt:
    made = Made()
    clip = made.scale(made.load(fps=4, max_frames=8), 64, 64)
    three = made("ImageFromBatch", image=clip, batch_index=0, length=3)
    made.apply(beta_schedule="sqrt_linear (AnimateDiff)")
    latent = made("VAEEncode", pixels=three, vae=["0", 2])
    images = made.decode(made.sample(latent, 11, 7, denoise=0.5))
    return made.export(made("RepeatImageBatch", image=images, amount=2), fps=12, crf=-1)


def guidance_and_schedule() -> Prompt:
    made = Made()
    made.apply(beta_schedule="lcm 50 (LCM-LoRA)")
    made.model = made("FreeU_V2", model=made.model, b1=1.1, b2=1.2, s1=0.9, s2=0.2)
    return made.export(made.decode(made.sample(made.empty(4), 12, 3.5, sampler="lcm")), crf=-1)


def second_pass() -> Prompt:
    made = Made()
    plain = made.model
    made.apply()
    made.windows(
        context_length=3, context_overlap=1, context_schedule="standard_static", fuse_method="relative"
    )
    first = made.sample(made.empty(4), 13, 7)
    made.model = plain
    return made.export(made.decode(made.sample(first, 14, 7, denoise=0.5)))


def api_text_to_video() -> Prompt:
    made = Made("a blue square", "")
    made.apply(motion_scale=1.1, beta_schedule="linear (SD1.5)")
    made.windows(context_overlap=1, fuse_method="pyramid", closed_loop=True, context_stride=2)
    return made.export(made.decode(made.sample(made.empty(6), 15, 6)), format="webm", crf=20)


def api_video_to_latents() -> Prompt:
    made = Made("a yellow triangle", "")
    clip = made.scale(made.load(fps=4, max_frames=4), 64, 0)
    made.apply()
    latent = made("VAEEncode", pixels=clip, vae=["0", 2])
    return made.export(made.decode(made.sample(latent, 16, 6, denoise=0.7)), fps=4, crf=23)


def api_controlnet_keyframes() -> Prompt:
    made = Made("a green triangle")
    edges = made("Canny", image=made.load(max_frames=6), low_threshold=0.1, high_threshold=0.3)
    control = made("ControlNetLoader", control_net_name="control_v11p_sd15_canny_fp16.safetensors")
    apply = {"image": edges, "strength": 0.9, "start_percent": 0.0, "end_percent": 1.0}
    prompts = {"positive": made.positive, "negative": made.negative}
    controlled, _ = made("ControlNetApplyAdvanced", **prompts, control_net=control, **apply)
    keys = "0: 2, 1: 1.5, 2: 1, 3: 0.2, 5: 0.4"
    ramp = made("FAD_ValueSchedule", schedule=keys, num_frames=6, interpolation="hold")
    weighted, _ = made(
        "FAD_ControlNetStrength", positive=[controlled, 0], negative=[controlled, 1], strength=1.0, strength_per_frame=ramp,
    )  # fmt: skip
    made.positive, made.negative = [weighted, 0], [weighted, 1]
    made.apply()
    return made.export(made.decode(made.sample(made.empty(6), 17, 6)))


HAND_MADE = {
    "text to video": text_to_video,
    "camera moves": camera_moves,
    "video to video": video_to_video,
    "inside a subgraph": video_to_video,
    "prompt travel": prompt_travel,
    "sliding windows": sliding_windows,
    "values by position": values_by_position,
    "guidance and schedule": guidance_and_schedule,
    "second pass": second_pass,
    "api text to video": api_text_to_video,
    "api video to latents": api_video_to_latents,
    "api controlnet keyframes": api_controlnet_keyframes,
}
