"""The latent of an empty clip, and the sampler."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES
from comfy_api.v0_0_2 import io

from ..motion_modules.empty_latent import LATENT_PIXELS, empty_latent
from ..motion_modules.sampler_settings import SamplerSettings
from ..motion_modules.sampling import MODES, OWN_SCHEDULERS, sample
from ..video import SIZES
from .asking_page import workflow_id
from .moving_preview import moving_preview

CATEGORY = "Fast AnimateDiff/sampling"

# The hosted service's presets, label to (width, height).
VIDEO_SIZES = {label: size for label, size in SIZES.items() if size}
CUSTOM_SIZE = "custom"


class EmptyVideoLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_EmptyVideoLatent",
            display_name="Empty Video Latent",
            category=CATEGORY,
            description="An empty clip to sample from a prompt. The frames are the latent's batch.",
            search_aliases=[
                "视频",
                "empty latent video",
                "empty latent image",
                "text to video",
                "animatediff latent",
            ],
            inputs=[
                io.Combo.Input(
                    "video_size",
                    options=[*VIDEO_SIZES, CUSTOM_SIZE],
                    default="square 512x512",
                    tooltip="Width x height. SD1.5 works best at about 512x512; much larger sizes repeat the subject.",
                ),
                io.Int.Input(
                    "width",
                    default=512,
                    min=64,
                    max=4096,
                    step=LATENT_PIXELS,
                    tooltip="Width in pixels, a multiple of 8. Used only if video_size is custom.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=64,
                    max=4096,
                    step=LATENT_PIXELS,
                    tooltip="Height in pixels, a multiple of 8. Used only if video_size is custom.",
                ),
                io.Int.Input(
                    "num_frames",
                    default=16,
                    min=1,
                    max=4096,
                    tooltip="Frames in the clip. Motion modules were trained on 16; more than 32 are rendered in "
                    "context windows.",
                ),
            ],
            outputs=[io.Latent.Output("latent", tooltip="For the latent_image of a sampler.")],
        )

    @classmethod
    def execute(cls, video_size: str, width: int, height: int, num_frames: int) -> io.NodeOutput:
        samples = empty_latent(*VIDEO_SIZES.get(video_size, (width, height)), num_frames)
        return io.NodeOutput({"samples": samples, "downscale_ratio_spacial": LATENT_PIXELS})


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_Sampler",
            display_name="AnimateDiff Sampler",
            category=CATEGORY,
            description="Samples a clip the way its motion module was trained. Unlike KSampler's denoise, strength "
            "shortens the run: 25 steps at 0.7 are 17.",
            search_aliases=[
                "采样",
                "动画",
                "animatediff ksampler",
                "turbo",
                "lcm",
                "lightning",
                "video to video",
                "denoise",
            ],
            inputs=[
                io.Model.Input("model", tooltip="A model from Apply Motion Module."),
                io.Conditioning.Input("positive", tooltip="The prompt: what to show."),
                io.Conditioning.Input(
                    "negative", tooltip="The negative prompt: what to avoid. It has no effect when cfg is 1."
                ),
                io.Latent.Input(
                    "latent_image",
                    tooltip="The frames: from Empty Video Latent, or a video encoded by VAE Encode.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed and settings give the same clip.",
                ),
                io.Int.Input(
                    "steps",
                    default=25,
                    min=1,
                    max=1000,
                    tooltip="25 for ordinary motion modules, 4 to 12 with AnimateLCM or LCM-LoRA; "
                    "for Lightning, the number in its file name.",
                ),
                io.Float.Input(
                    "cfg",
                    default=7.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How closely to follow the prompt: 7 to 8 for ordinary motion modules, 1 to 2 for turbo "
                    "ones. At 1 each step takes half the time.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How far a video is re-animated: 0.7 keeps its composition, 0 returns it unchanged. "
                    "Use 1 for an empty latent.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="auto",
                    tooltip="auto follows the motion module and the model's schedule. Choose lcm for LCM-LoRA on an ordinary module.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=["auto", *SAMPLER_NAMES],
                    default="auto",
                    advanced=True,
                    tooltip="auto is euler, or lcm in lcm mode.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=["auto", *OWN_SCHEDULERS, *SCHEDULER_NAMES],
                    default="auto",
                    advanced=True,
                    tooltip="Which noise levels to visit. auto is linspace, lcm or trailing, depending on the mode, "
                    "spaced as in diffusers.",
                ),
                io.Float.Input(
                    "cfg_until",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="The fraction of the steps that use guidance; the others run at cfg 1 in half the time. "
                    "Lower is faster but follows the negative prompt less.",
                ),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The sampled frames, for VAE Decode.")],
            hidden=[io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: list,
        negative: list,
        latent_image: dict,
        seed: int,
        steps: int,
        cfg: float,
        strength: float,
        mode: str,
        sampler_name: str,
        scheduler: str,
        cfg_until: float,
    ) -> io.NodeOutput:
        settings = SamplerSettings(seed, steps, cfg, strength, mode, sampler_name, scheduler, cfg_until)
        preview = moving_preview(model, workflow_id(cls.hidden))
        return io.NodeOutput(sample(model, positive, negative, latent_image, settings, preview))


NODES: list[type[io.ComfyNode]] = [EmptyVideoLatent, Sampler]
