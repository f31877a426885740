"""What is trained is what is run: the training's own networks against the host's, and its files against the pack's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import components
import pytest
import torch
from safetensors.torch import load_file, save_file

import comfy.sd
import comfy.utils
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.tiny.domain.captions import host_tokens
from fast_animatediff.tiny.domain.motions import CAMERA_RATES, content_flow
from fast_animatediff.tiny.domain.scenes import LENGTHS, seeded
from fast_animatediff.tiny.extension.family import UNET
from fast_animatediff.tiny.shipped import (
    CHECKPOINT,
    FOLDER,
    MOTION_MODULE,
    ROWS,
    SHIPPED,
    TOKENS,
    opposite,
    pack,
    read_metadata,
    unpack,
)
from fast_animatediff.tiny.training import train
from fast_animatediff.tiny.training.cameras import (
    GAIN,
    CameraLora,
    CameraStep,
    RestStep,
    kind_of_step,
)
from fast_animatediff.tiny.training.data import captioned_clips, picture_batch
from fast_animatediff.tiny.training.diffusion import draw_noise, expand, make_tables
from fast_animatediff.tiny.training.edits import TOO_LATE, EditStep, noise_to_take_away
from fast_animatediff.tiny.training.edits import kind_of_step as kind_of_edit_step
from fast_animatediff.tiny.training.export import LOG_LINES, export
from fast_animatediff.tiny.training.loop import Plan, Training
from fast_animatediff.tiny.training.low_rank import LowRank, unet_lora_names
from fast_animatediff.tiny.training.motion import FRAMES
from fast_animatediff.tiny.training.networks import TEXT_PREFIX as HOST_TEXT_PREFIX
from fast_animatediff.tiny.training.networks import (
    CaptionEncoder,
    FramePicker,
    causal_attention,
    denoise_clips,
    denoise_pictures,
    make_motion_module,
    make_unet,
    matrix_attention,
)
from fast_animatediff.tiny.training.readouts import FlowReadouts, PlaceReadouts
from fast_animatediff.tiny.training.restore import restore
from fast_animatediff.tiny.training.vae import VaeStage, encode_fast, load_vae

CPU = torch.device("cpu")
UNET_PREFIX, CLIP_PREFIX = "model.diffusion_model.", "cond_stage_model.transformer."


@pytest.fixture(scope="module")
def shipped_checkpoint() -> dict[str, torch.Tensor]:
    weights = load_file(FOLDER / SHIPPED[CHECKPOINT])
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


# ---- the loop


def small_vae_stage(steps: int = 4) -> VaeStage:
    return VaeStage(Plan(steps=steps, batch=2, learning_rate=1e-3, warm_up=2), 0, 64, CPU)


def test_training_stopped_and_taken_up_again_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = Training(small_vae_stage(), tmp_path / "whole")
    for _ in range(4):
        whole.advance()
    first = Training(small_vae_stage(), tmp_path / "parts")
    for _ in range(2):
        first.advance()
    first.save()
    second = Training(small_vae_stage(), tmp_path / "parts")
    assert second.resume() and second.step == 2
    for _ in range(2):
        second.advance()
    for name, weight in whole.parameters.items():
        assert torch.equal(weight, second.parameters[name]), name
        assert torch.equal(whole.average[name], second.average[name]), name


def test_parameters_with_a_rate_of_their_own_are_clipped_by_themselves_and_do_not_decay(
    tmp_path: Path,
) -> None:
    training = Training(StageOfTwoRates({"other.": 0.1}), tmp_path)
    training.advance()
    other = {id(p): group for group in training.optimizer.param_groups for p in group["params"]}[
        id(training.parameters["other.x"])
    ]
    assert other["lr"] == 0.1 and other["weight_decay"] == 0
    # Its gradient is a thousand times the other's, which clipped together with it would all but vanish.
    assert training.parameters["main.x"].grad.norm().item() == pytest.approx(0.5)
    with pytest.raises(ValueError, match="begin with 'none.'"):
        Training(StageOfTwoRates({"none.": 0.1}), tmp_path)


class StageOfTwoRates:
    name = "two rates"

    def __init__(self, other_rates: dict[str, float]) -> None:
        self.plan = Plan(steps=9, batch=1, learning_rate=0.01, warm_up=1, clip=0.5, other_rates=other_rates)
        self.weights = {name: torch.ones(1, requires_grad=True) for name in ("main.x", "other.x")}

    def parameters(self) -> dict[str, torch.Tensor]:
        return self.weights

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return (self.weights["main.x"] + 1000 * self.weights["other.x"]).sum(), {}


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    Training(small_vae_stage(), tmp_path).save()
    with pytest.raises(ValueError, match="another plan"):
        Training(small_vae_stage(steps=5), tmp_path).resume()


def test_a_stage_without_the_one_before_names_what_to_train_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["motion", "--out", str(tmp_path)]) == 1
    assert "needs stage vae" in capsys.readouterr().err


# ---- the networks


def test_matrix_attention_is_attention() -> None:
    q, k, v = torch.randn(3, 2, 10, 64, generator=seeded("attention"))
    heads = [t.view(2, 10, 2, 32).transpose(1, 2) for t in (q, k, v)]
    for ours, causal in (
        (matrix_attention(None, q, k, v, 2), False),
        (causal_attention(q, k, v, 2, None), True),
    ):
        expected = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=causal)
        assert (ours - expected.transpose(1, 2).flatten(2)).abs().max() < 1e-5


def test_the_caption_encoder_encodes_as_the_hosts_text_encoder(
    tiny_family: None, models: Path, shipped_checkpoint: dict[str, torch.Tensor]
) -> None:
    whole = unpack(shipped_checkpoint)
    tokens = host_tokens()
    text = {k.removeprefix(CLIP_PREFIX): v for k, v in whole.items() if k.startswith(CLIP_PREFIX)}
    encoder = CaptionEncoder(tokens.used, {k: v for k, v in text.items() if k.startswith(HOST_TEXT_PREFIX)})
    clip = comfy.sd.load_checkpoint_guess_config(str(models / CHECKPOINT))[1]
    caption = "a red circle moving left on a cloudy gray background"
    expected, _ = clip.encode_from_tokens(clip.tokenize(caption), return_pooled=True)
    with torch.no_grad():
        found = encoder(tokens([caption]))
    assert (found - expected.float()).abs().max() < 1e-3 * expected.abs().max()
    again = encoder.checkpoint()
    table = "text_model.embeddings.token_embedding.weight"
    assert torch.equal(again[table][tokens.used], text[table][tokens.used])


def test_clips_are_denoised_in_training_as_the_pack_does_it_in_the_host(
    tiny_family: None, models: Path, shipped_checkpoint: dict[str, torch.Tensor]
) -> None:
    model = comfy.sd.load_checkpoint_guess_config(str(models / CHECKPOINT))[0]
    model = apply_motion_module(model, load_motion_module(str(models / MOTION_MODULE)))
    unet = make_unet(
        {k.removeprefix(UNET_PREFIX): v for k, v in shipped_checkpoint.items() if k.startswith(UNET_PREFIX)}
    )
    weights = load_file(FOLDER / SHIPPED[MOTION_MODULE])
    module = make_motion_module({k: v.float() for k, v in weights.items() if "pos_encoder" not in k})
    x, context = (
        torch.randn(16, 4, 8, 8, generator=seeded("x")),
        torch.randn(1, 77, 128, generator=seeded("c")),
    )
    timestep = torch.tensor([500])
    sigma = make_tables()["sqrt_linear"][timestep]
    scaled = x * (1 + sigma**2).sqrt()
    with torch.no_grad():
        host = components.predict(model, scaled, sigma.item(), context=context)
        noise = denoise_clips(unet, module, x[None], timestep.float(), context)[0]
    ours = model.get_model_object("model_sampling").calculate_denoised(sigma, noise, scaled)
    assert (host - ours).abs().max() < 2e-3 * ours.abs().max()


def test_some_frames_of_a_clip_are_seen_at_their_own_positions() -> None:
    """Eight frames picked out of sixteen, all the same: as those frames of the whole where frames don't mix."""
    module = make_motion_module(None)
    tables = {
        name: part.positions.clone() for name, part in module.named_modules() if hasattr(part, "positions")
    }
    picker = FramePicker(module)
    picked = torch.tensor([1, 2, 5, 7, 8, 11, 14, 15])
    picker.pick(picked)
    for name, part in module.named_modules():
        if hasattr(part, "positions"):
            assert torch.equal(part.positions, tables[name][:, picked])
    picker.all()
    for name, part in module.named_modules():
        if hasattr(part, "positions"):
            assert torch.equal(part.positions, tables[name])


# ---- the files


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_motion_lora_files_of_an_axis_change_the_module_as_training_did(
    tmp_path: Path, sign: float
) -> None:
    module = make_motion_module(None).requires_grad_(False)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    lora = CameraLora(module, 4, "seed")
    for number, part in enumerate([*lora.common.parts, *lora.direction.parts]):
        torch.nn.init.normal_(part.up, generator=seeded("up", number))
    file = {key: value.detach().contiguous() for key, value in lora.file().items()}
    save_file(file if sign > 0 else opposite(file), tmp_path / "lora.safetensors")
    lora.set_strength(1.0, sign)
    loaded = load_motion_lora(str(tmp_path / "lora.safetensors"), 1.0)
    assert len(loaded.layers) == 21 * 2 * 4
    for layer in loaded.layers:
        change = loaded.weights[f"{layer}.lora_up.weight"] @ loaded.weights[f"{layer}.lora_down.weight"]
        assert change.abs().max() > 0.01
        trained = module.get_submodule(layer).weight
        assert torch.allclose(trained, before[f"{layer}.weight"] + change, atol=1e-5), layer


def test_the_shipped_unet_tells_where_a_place_is_and_readouts_leave_its_picture_alone(
    shipped_checkpoint: dict[str, torch.Tensor],
) -> None:
    unet = make_unet(
        {
            key.removeprefix(UNET_PREFIX): value
            for key, value in shipped_checkpoint.items()
            if key.startswith(UNET_PREFIX)
        }
    )
    rng = seeded("places")
    x, context = torch.randn(8, 4, 8, 8, generator=rng), torch.randn(8, 77, 128, generator=rng)
    timesteps = torch.linspace(0, 900, 8).long()
    readouts = PlaceReadouts()
    untold = []
    optimizer = torch.optim.Adam(readouts.parameters(), lr=0.02)
    with torch.no_grad():
        alone = denoise_pictures(unet, x, timesteps, context)
    for _ in range(60):
        with torch.no_grad():
            heard = denoise_pictures(unet, x, timesteps, context, **readouts.patches())
        assert torch.equal(heard, alone)
        loss = readouts.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        untold.append(loss.item())
    # Before stage `places` 0.30 were left.
    assert untold[0] == pytest.approx(1.0, rel=1e-4) and untold[-1] < 0.1


def test_readouts_learn_a_cameras_flow_from_a_module_and_only_while_they_listen() -> None:
    module = make_motion_module(None).requires_grad_(False)
    readouts = FlowReadouts(module)
    layer = module.at(("input", 1))
    x = torch.randn(2 * 16, 64, 8, 8, generator=seeded("readouts"))
    x[:, :2] = torch.stack(torch.meshgrid(torch.linspace(-3, 3, 8), torch.linspace(-3, 3, 8), indexing="xy"))
    zoom = content_flow("zoom", 8) / CAMERA_RATES["pan"]
    optimizer = torch.optim.Adam(readouts.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        readouts.listen()
        layer(x, 16)
        loss = readouts.loss(
            2, lambda side: (content_flow("zoom", side) / CAMERA_RATES["pan"], torch.ones(1))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(zoom.square().mean().item(), rel=1e-4) and losses[-1] < 0.2 * losses[0]
    layer(x, 16)
    with pytest.raises(RuntimeError, match="heard nothing"):
        readouts.loss(2, lambda side: (content_flow("zoom", side), torch.ones(1)))


def test_the_token_table_survives_being_shipped(shipped_checkpoint: dict[str, torch.Tensor]) -> None:
    assert pack(unpack(shipped_checkpoint)).keys() == shipped_checkpoint.keys()
    for key, value in pack(unpack(shipped_checkpoint)).items():
        assert torch.equal(value, shipped_checkpoint[key])


# ---- the stages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


# In their order: each needs what the ones before it wrote.
STAGES = ("vae", "images", "subjects", "places", "motion", "cameras", "edits", "rolls", "turbo")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_takes_a_step_that_changes_its_weights_and_writes_its_file(name: str, folder: Path) -> None:
    batch = 8 if name in ("images", "subjects", "places") else 2
    steps = {"cameras": 24, "edits": 32}.get(name, 1)  # each of their LoRAs has steps of its own
    plan = replace(train.PLANS[name], steps=steps, batch=batch, warm_up=1)
    stage = train.make_stage(name, plan, 0, 64, CPU, folder)
    before = {key: value.detach().clone() for key, value in stage.parameters().items()}
    training = Training(stage, folder)
    for _ in range(steps):
        training.advance()
    changed = [key for key, value in stage.parameters().items() if not torch.equal(value, before[key])]
    assert len(changed) > len(before) / 4
    training.finish()


@pytest.mark.parametrize(
    "stage_name, without_a_camera", [("cameras", {"rest"}), ("edits", {"rest", "edits"})]
)
def test_a_camera_step_trains_the_lora_of_its_axis_alone_and_no_other_step_one(
    folder: Path, stage_name: str, without_a_camera: set[str]
) -> None:
    plan = replace(train.PLANS[stage_name], steps=100, batch=2, warm_up=1)
    stage = train.make_stage(stage_name, plan, 0, 64, CPU, folder)
    trained = {}
    for step in range(48):
        kind = (kind_of_edit_step if stage_name == "edits" else kind_of_step)(step)
        name = (
            kind.axis if isinstance(kind, CameraStep) else "edits" if isinstance(kind, EditStep) else "rest"
        )
        if name not in trained:
            for parameter in stage.parameters().values():
                parameter.grad = None
            stage.loss(step)[0].backward()
            trained[name] = {key for key, p in stage.parameters().items() if p.grad is not None}
    assert set(trained) == without_a_camera | set(CAMERA_RATES)
    for name, keys in trained.items():
        axes = {key.split(".")[1] for key in keys if key.startswith("lora.")}
        assert axes == ({name} - without_a_camera)
        parts = {key.split(".")[2] for key in keys if key.startswith("lora.")}
        assert parts == ({"common", "direction"} if axes else set())
        assert any(not key.startswith(("lora.", "readouts.")) for key in keys)


@pytest.mark.parametrize(
    "of_step, at_rest, with_words", [(kind_of_step, 1 / 2, 1 / 4), (kind_of_edit_step, 3 / 8, 3 / 8)]
)
def test_every_camera_goes_both_ways_as_often_and_so_many_steps_are_at_rest(
    of_step: Callable[[int], object], at_rest: float, with_words: float
) -> None:
    steps = 960
    kinds = [of_step(step) for step in range(steps)]
    for axis in CAMERA_RATES:
        forwards, backwards = (kinds.count(CameraStep(axis, sign)) for sign in (1.0, -1.0))
        assert forwards == backwards > 0.03 * steps
    rests = [kind for kind in kinds if isinstance(kind, RestStep)]
    assert len(rests) == at_rest * steps and sum(kind.words for kind in rests) == with_words * steps


def test_three_eighths_of_the_steps_of_edits_are_edits_of_clips_of_every_length() -> None:
    edits = [kind for kind in map(kind_of_edit_step, range(80)) if isinstance(kind, EditStep)]
    assert len(edits) == 30 and {kind.frames for kind in edits} == set(LENGTHS)


def test_edits_goes_on_with_the_module_and_the_loras_of_cameras_and_turbo_distils_from_edits(
    folder: Path,
) -> None:
    edits = train.make_stage("edits", replace(train.PLANS["edits"], batch=2), 0, 64, CPU, folder)
    for key, value in load_file(folder / "cameras.safetensors").items():
        assert torch.equal(edits.weights[key], value), key
    for axis, lora in edits.loras.items():
        expected = load_file(folder / f"cameras-{axis}.safetensors")
        assert lora.file().keys() == expected.keys()
        assert all(torch.allclose(value, expected[key]) for key, value in lora.file().items())
    turbo = train.make_stage("turbo", replace(train.PLANS["turbo"], batch=2), 0, 64, CPU, folder)
    expected = load_file(folder / "edits.safetensors")
    assert all(torch.equal(turbo.teacher.state_dict()[key], value) for key, value in expected.items())


def test_rolls_goes_on_with_the_lora_of_edits_and_trains_it_alone_both_ways(folder: Path) -> None:
    stage = train.make_stage("rolls", replace(train.PLANS["rolls"], batch=2), 0, 64, CPU, folder)
    for key, value in load_file(folder / "edits.safetensors").items():
        assert torch.equal(stage.weights[key], value), key
    lora = stage.loras["roll"]
    for key, value in load_file(folder / "edits-roll.safetensors").items():
        assert torch.allclose(lora.file()[key], value), key
    for step, sign in enumerate((1.0, -1.0)):
        loss, numbers = stage.loss(step)
        loss.backward()
        assert set(numbers) == {"roll", "flow of roll"} and lora.direction.parts[0].strength == sign
    rolling = {id(p) for p in lora.parameters()}
    assert {id(p) for p in stage.module.parameters() if p.grad is not None} == rolling
    readouts = {id(p) for p in stage.readouts.parameters()}
    assert {id(p) for p in stage.parameters().values()} == rolling | readouts


def test_an_edit_step_wants_what_is_shown_at_little_noise_and_what_is_asked_for_at_much() -> None:
    rng = seeded("wanted")
    asked, shown = (torch.randn(2, 3, 4, 8, 8, generator=rng) for _ in range(2))
    noise, sigma = torch.randn(shown.shape, generator=rng), torch.tensor([0.5, 5.0])
    wanted = noise_to_take_away(shown, asked, noise, torch.tensor([TOO_LATE - 1, TOO_LATE]), sigma)
    left = shown + (sigma.view(-1, 1, 1, 1, 1)) * (noise - wanted)
    assert torch.allclose(left[0], shown[0], atol=1e-5) and torch.allclose(left[1], asked[1], atol=1e-5)


def test_a_camera_lora_comes_back_from_its_file_and_another_is_refused(tmp_path: Path) -> None:
    one, other = (CameraLora(make_motion_module(None), 4, seed) for seed in ("one", "other"))
    for number, part in enumerate(part for part in one.modules() if isinstance(part, LowRank)):
        torch.nn.init.normal_(part.up, generator=seeded("up", number))
    save_file({key: value.contiguous() for key, value in one.file().items()}, tmp_path / "one.safetensors")
    other.load(tmp_path / "one.safetensors")
    for (name, expected), found in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(found, expected), name
    with pytest.raises(
        ValueError, match="one.safetensors holds a LoRA .* rank than 8: delete it and train its stage again"
    ):
        CameraLora(make_motion_module(None), 8, "third").load(tmp_path / "one.safetensors")


@torch.no_grad()
def test_the_teacher_of_turbo_goes_down_by_eulers_method_and_leaves_finished_clips_alone(
    folder: Path,
) -> None:
    stage = train.make_stage("turbo", replace(train.PLANS["turbo"], batch=2), 0, 64, CPU, folder)
    batch = captioned_clips(0, "go down", 0, 3, FRAMES, 64, CPU)
    latents, context = stage.networks.prepare(batch)
    sigmas = torch.cat([torch.zeros(1), stage.sampling.sigmas])
    entry = torch.tensor([100, 9, 3])
    x = latents + expand(sigmas[entry], latents) * draw_noise(batch.rng, latents)
    once = stage.teach(x, sigmas[entry], context)
    once += (x - once) * expand(sigmas[[94, 3, 0]] / sigmas[entry], x)
    twice = stage.teach(once, sigmas[[94, 3, 1]], context)
    twice += (once - twice) * expand(sigmas[[88, 0, 0]] / sigmas[[94, 3, 1]], x)
    nearer, lower = stage.go_down(x, entry, context)
    assert torch.equal(lower, sigmas[[88, 0, 0]])
    assert torch.allclose(nearer[:2], twice[:2], atol=1e-3) and torch.allclose(nearer[2], once[2], atol=1e-3)
    assert not torch.allclose(once[2], twice[2], atol=1e-3)


def test_the_layers_of_the_turbo_lora_have_one_order_whatever_that_of_the_hosts_table() -> None:
    """Its parts are saved by number; the host's table has another order in each process."""
    table = comfy.utils.unet_to_diffusers(UNET)
    reversed_table = dict(reversed(table.items()))
    assert list(table) != list(reversed_table)
    assert list(unet_lora_names(table)) == list(unet_lora_names(reversed_table))


def test_what_was_trained_is_exported_as_it_ships(folder: Path, tmp_path: Path) -> None:
    written = export(folder, 0, tmp_path)
    assert {path.name for path in written} == set(SHIPPED.values())
    for path in written:
        ours, theirs = (load_file(where / path.name) for where in (tmp_path, FOLDER))
        assert {key: value.shape for key, value in ours.items() if key not in (ROWS, TOKENS)} == {
            key: value.shape for key, value in theirs.items() if key not in (ROWS, TOKENS)
        }


def test_what_is_exported_is_of_edits_rolls_and_turbo(folder: Path, tmp_path: Path) -> None:
    export(folder, 0, tmp_path)
    sources = {"motion_module": "edits", "turbo_motion_module": "turbo", "turbo_lora": "turbo-lora"}
    sources |= {f"motion_lora_{axis}": f"edits-{axis}" for axis in CAMERA_RATES}
    sources["motion_lora_roll"] = "rolls-roll"
    for name, source in sources.items():
        exported = load_file(tmp_path / f"{name}.safetensors")
        for key, value in load_file(folder / f"{source}.safetensors").items():
            gain = GAIN if name.startswith("motion_lora") and ".up." in key else 1.0
            assert torch.equal(exported[key], (gain * value).half()), (name, key)


def test_long_logs_are_exported_thinned_up_to_their_last_line(folder: Path, tmp_path: Path) -> None:
    for lines in (3, LOG_LINES, LOG_LINES + 1, 5 * LOG_LINES):
        (folder / "long.jsonl").write_text("".join(f"{number}\n" for number in range(lines)))
        export(folder, 0, tmp_path)
        exported = (tmp_path / "logs" / "long.jsonl").read_text().split()
        assert min(lines, LOG_LINES) / 2 < len(exported) <= LOG_LINES
        assert exported[-1] == str(lines - 1) and exported == sorted(exported, key=int)


def test_stages_out_of_their_order_are_refused(tmp_path: Path) -> None:
    train.check_order(tmp_path, "export")  # nothing trained here: restored, perhaps
    (tmp_path / "edits.training.pt").touch()
    train.check_order(tmp_path, "edits")
    with pytest.raises(ValueError, match="edits .* is not done: finish it before turbo"):
        train.check_order(tmp_path, "turbo")
    (tmp_path / "edits.done").touch()
    for stage in ("rolls", "turbo"):
        train.check_order(tmp_path, stage)
        with pytest.raises(ValueError, match=f"{stage} .* was not trained since edits"):
            train.check_order(tmp_path, "export")
        (tmp_path / f"{stage}.done").touch()
    train.check_order(tmp_path, "export")
    os.utime(tmp_path / "turbo.done", (1, 1))
    for stage in ("turbo", "export"):
        with pytest.raises(ValueError, match="turbo .* was not trained since edits"):
            train.check_order(tmp_path, stage)
    train.check_order(tmp_path, "rolls")
    (tmp_path / "turbo.done").unlink()
    (tmp_path / "motion.done").touch()
    os.utime(tmp_path / "edits.done", (1, 1))
    with pytest.raises(ValueError, match="cameras .* was not trained since motion"):
        train.check_order(tmp_path, "turbo")


def test_rolls_and_turbo_can_each_be_trained_again_without_the_other(tmp_path: Path) -> None:
    for again in ("rolls", "turbo"):
        folder = tmp_path / again
        folder.mkdir()
        (folder / f"{again}.done").touch()  # the other one was restored
        train.check_order(folder, "export")


def test_export_without_a_stage_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "turbo-lora.safetensors").rename(folder / "away")
    with pytest.raises(FileNotFoundError, match="turbo-lora"):
        export(folder, 0, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_shipped_weights_that_are_restored_and_exported_again_are_the_same(tmp_path: Path) -> None:
    training, again = tmp_path / "training", tmp_path / "again"
    training.mkdir()
    restore(training, 0, 64, CPU, steps=60)
    for path in export(training, 0, again):
        # The digest of the weights is in there.
        assert read_metadata(path) == read_metadata(FOLDER / path.name)
    vae, fast = load_vae(training, CPU)
    pictures, _ = picture_batch(0, "test", 0, 16, 64, CPU)
    latents = vae.taesd_encoder(pictures)
    assert (encode_fast(fast, pictures) - latents).square().mean() < 0.8 * latents.var()
    with pytest.raises(ValueError, match="another seed than 1"):
        restore(tmp_path, 1, 64, CPU)
    with pytest.raises(FileExistsError, match="vae.safetensors already"):
        restore(training, 0, 64, CPU)


def test_a_folder_with_another_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["motion", "--out", str(tmp_path)]) == 1
    assert train.main(["motion", "--seed", "1", "--out", str(tmp_path)]) == 1
    assert "'seed': 0" in capsys.readouterr().err
