"""diffusers' AnimateDiff pipelines on the same weights, converted by diffusers' own converters. Needs no host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .contender import Setting, SkippedError, level_of
from .host import CHECKPOINT, MOTION_MODULE
from .jobs import CRF, FPS, LATENT_SCALE, Job, Size, conditions, noise, train_sigmas
from .recording import UNetInput
from .weights import POSITIONS, read

WINDOW, OVERLAP = 16, 4
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "auto": torch.float32}
PE = ".attention_blocks.{}.pos_encoder.pe"


class Diffusers:
    latent_scale = 1.0

    def __init__(self, setting: Setting) -> None:
        self.prepare_import(setting)
        if setting.dtype not in DTYPES:
            raise SkippedError(f"no {setting.dtype} here")
        try:
            import diffusers
        except ImportError as error:
            raise SkippedError(f"diffusers can't be imported ({error})") from error
        self.device, self.dtype = torch.device(setting.device), DTYPES[setting.dtype]
        on_gpu_in_half = setting.dtype != "fp32" and setting.device != "cpu"
        vae_dtype = torch.bfloat16 if on_gpu_in_half else torch.float32  # what the host chooses
        checkpoint = read(setting.folder / CHECKPOINT)
        motion = read(setting.folder / MOTION_MODULE)
        self.vae = build_vae(setting.size, checkpoint).to(self.device, vae_dtype)
        self.unet: nn.Module = build_unet(setting.size, checkpoint, motion).to(self.device, self.dtype)
        adapter = diffusers.MotionAdapter(  # FreeNoise reads its length; the weights are in the UNet
            (32,), motion_num_attention_heads=1, motion_max_seq_length=POSITIONS, use_motion_mid_block=False
        )
        parts: dict[str, Any] = {
            "vae": self.vae,
            "unet": self.unet,
            "motion_adapter": adapter.to(self.device),
        }
        parts |= {"text_encoder": None, "tokenizer": None}
        kinds = (
            (diffusers.AnimateDiffPipeline, "trailing"),
            (diffusers.AnimateDiffVideoToVideoPipeline, "linspace"),
        )
        self.from_noise, self.from_clip = (
            self._without_text(kind)(**parts, scheduler=scheduler(spacing)) for kind, spacing in kinds
        )
        for pipeline in (self.from_noise, self.from_clip):
            pipeline.set_progress_bar_config(disable=True)
        self.is_windowed = False

    @staticmethod
    def prepare_import(setting: Setting) -> None:
        if setting.peer:
            sys.path.insert(0, str(setting.peer))

    @staticmethod
    def import_code(setting: Setting) -> None:
        from diffusers import AnimateDiffPipeline, AnimateDiffVideoToVideoPipeline  # noqa: F401

    def version(self) -> str:
        import diffusers

        return diffusers.__version__

    def _without_text(self, pipeline: type) -> type:
        """The pipeline with the embeddings that every contender is given, and the UNet's type and device as its own."""

        def encode_prompt(_: Any, prompt: str | list[str], *__: Any, **___: Any) -> tuple[Tensor, Tensor]:
            count = len(prompt) if isinstance(prompt, list) else 1
            positive, negative = (c.to(self.device, self.dtype).expand(count, -1, -1) for c in conditions())
            return positive, negative

        own = {"encode_prompt": encode_prompt, "device": self.device, "dtype": self.dtype}
        return type(pipeline.__name__, (pipeline,), own)

    def motion_layers(self) -> list[tuple[int, nn.Module]]:
        named = self.unet.named_modules()
        return [(level_of(name), m) for name, m in named if type(m).__name__ == "AnimateDiffTransformer3D"]

    def read_input(self, args: tuple, kwargs: dict) -> UNetInput:
        return UNetInput(by_frames(args[0]), args[1], kwargs["encoder_hidden_states"])

    def frames_first(self, x: Any, frames: int) -> Tensor:
        return by_frames(x[0] if isinstance(x, tuple) else x.sample)

    def sample(self, job: Job, latent: Tensor | None = None) -> Tensor:
        self._set_windows(job.frames > POSITIONS)
        start = noise(job).to(self.device) if latent is None else self._noisy(job, latent)
        arguments = {
            "prompt": "", "height": job.height, "width": job.width, "num_inference_steps": job.steps,
            "guidance_scale": job.cfg, "output_type": "latent", "latents": by_clips(start).to(self.dtype),
        }  # fmt: skip
        if latent is not None:
            return by_frames(self.from_clip(**arguments, strength=job.strength).frames)
        arguments["latents"] = arguments["latents"] * full_noise(self.from_noise.scheduler)
        return by_frames(self.from_noise(**arguments, num_frames=job.frames).frames)

    def _noisy(self, job: Job, latent: Tensor) -> Tensor:
        levels = self.from_clip.scheduler
        levels.set_timesteps(job.steps)
        first = levels.timesteps[job.steps - min(int(job.steps * job.strength), job.steps)]
        return levels.add_noise(
            latent.to(self.device), noise(job).to(self.device), first[None].to(self.device)
        )

    def _set_windows(self, wanted: bool) -> None:
        if wanted and not self.is_windowed:
            self.from_noise.enable_free_noise(context_length=WINDOW, context_stride=WINDOW - OVERLAP)
        elif self.is_windowed and not wanted:
            self.from_noise.disable_free_noise()
        self.is_windowed = wanted

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        pixels = (images.movedim(-1, 1) * 2 - 1).to(self.device, self.vae.dtype)
        return self.vae.encode(pixels).latent_dist.sample().float() * LATENT_SCALE

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        video = self.from_noise.decode_latents(by_clips(latents).to(self.vae.dtype))
        return (video[0].movedim(0, -1) / 2 + 0.5).clamp(0, 1).cpu()

    def export(self, latents: Tensor, path: Path) -> None:
        write_mp4(self.decode(latents), path)

    def per_frame_norms(self) -> None:
        """For the check: the norm that the weights were trained with. The pipeline's runs across the frames."""
        for _, layer in self.motion_layers():
            layer.norm = PerFrameNorm(layer.norm)

    def own_norms(self) -> None:
        for _, layer in self.motion_layers():
            layer.norm = layer.norm.norm


class PerFrameNorm(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        b, c, f, h, w = x.shape
        frames = self.norm(x.movedim(2, 1).reshape(b * f, c, h, w))
        return frames.reshape(b, f, c, h, w).movedim(1, 2)


def by_frames(x: Tensor) -> Tensor:
    """(b, c, f, h, w) to (b * f, c, h, w)."""
    return x.movedim(2, 1).flatten(0, 1)


def by_clips(x: Tensor) -> Tensor:
    """The frames of one clip, (f, c, h, w), to (1, c, f, h, w)."""
    return x.movedim(0, 1)[None]


def scheduler(spacing: str) -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_schedule="linear", beta_start=0.00085, beta_end=0.012, timestep_spacing=spacing, steps_offset=1
    )


def full_noise(levels: Any) -> float:
    """The host starts from sqrt(1 + sigma^2) times the noise, this scheduler from sigma times, 0.08 % less."""
    sigma = train_sigmas()[-1].item()
    return (1 + sigma**2) ** 0.5 / float(levels.init_noise_sigma)


def build_unet(size: Size, checkpoint: dict[str, Tensor], motion: dict[str, Tensor]) -> nn.Module:
    from diffusers import UNetMotionModel

    with torch.device("meta"):
        unet = UNetMotionModel(
            block_out_channels=size.channels,
            num_attention_heads=size.heads,
            cross_attention_dim=768,
            motion_max_seq_length=POSITIONS,
        )
    return load(unet, unet_weights(checkpoint) | motion_weights(motion))


def unet_weights(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    return convert_ldm_unet_checkpoint(dict(checkpoint), {"layers_per_block": 2})


def motion_weights(motion: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the position table, which diffusers' converter drops: diffusers keeps one for both attentions."""
    from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers

    tables = {
        key.replace(".temporal_transformer", "").replace(PE.format(0), ".pos_embed.pe"): value
        for key, value in motion.items()
        if key.endswith(PE.format(0))
    }
    return convert_animatediff_checkpoint_to_diffusers(motion) | tables


def build_vae(size: Size, checkpoint: dict[str, Tensor]) -> nn.Module:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=tuple(size.vae_channels * m for m in (1, 2, 4, 4)),
            layers_per_block=2,
            latent_channels=4,
            force_upcast=False,
        )
    return load(vae, vae_weights(vae, checkpoint))


def vae_weights(vae: nn.Module, checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return convert_ldm_vae_checkpoint(dict(checkpoint), vae.config)


def load(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Key by key, none missing and none left over."""
    module.load_state_dict(weights, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def write_mp4(images: Tensor, path: Path) -> None:
    """As the host saves one: libx264 with its defaults, 4:2:0."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(CRF)})
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in (images * 255).round().byte().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
