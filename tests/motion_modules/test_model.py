from __future__ import annotations

import components

from comfy.ldm.modules.attention import SpatialTransformer
from fast_animatediff.motion_modules import families
from fast_animatediff.motion_modules.model import follows_attention, last_block


def unet_blocks():
    unet = components.sd15_model().model.diffusion_model
    yield from ((("input", i), block) for i, block in enumerate(unet.input_blocks))
    yield ("middle", 0), unet.middle_block
    yield from ((("output", i), block) for i, block in enumerate(unet.output_blocks))


def test_motion_layers_stand_where_animatediff_put_them():
    module = components.motion_module(families.V2).model
    placed = {block: module.at(block) for block, _ in unet_blocks() if module.at(block) is not None}
    down = [("input", i) for i in (1, 2, 4, 5, 7, 8, 10, 11)]
    assert list(placed) == [*down, ("middle", 0), *(("output", i) for i in range(12))]
    assert placed["input", 5] is module.down_blocks[1].motion_modules[1].temporal_transformer
    assert placed["input", 10] is module.down_blocks[3].motion_modules[0].temporal_transformer
    assert placed["middle", 0] is module.mid_block.motion_modules[0].temporal_transformer
    assert placed["output", 2] is module.up_blocks[0].motion_modules[2].temporal_transformer
    assert placed["output", 9] is module.up_blocks[3].motion_modules[0].temporal_transformer


def test_v1_and_v3_have_no_mid_block():
    for family in (families.V1, families.V3):
        assert components.motion_module(family).model.at(("middle", 0)) is None


def test_the_rule_for_attention_agrees_with_the_hosts_unet():
    for block, layers in unet_blocks():
        has_attention = any(isinstance(layer, SpatialTransformer) for layer in layers)
        if block not in [("input", i) for i in (0, 3, 6, 9)]:
            assert follows_attention(block, 4) == has_attention, block


def test_the_last_block_is_the_hosts_last():
    assert list(unet_blocks())[-1][0] == last_block(4)


def test_widths_of_motion_layers_are_those_of_the_unet():
    unet = components.sd15_model()
    widths = {}

    def remember(layer, x, emb, context, options, *_):
        x = layer(x, context, options) if isinstance(layer, SpatialTransformer) else layer(x, emb)
        widths[options["block"]] = x.shape[1]
        return x

    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

    options = {"patches": {"forward_timestep_embed_patch": [((ResBlock, SpatialTransformer), remember)]}}
    context = components.conditioning()[0][0]
    x = components.noise(1)
    unet.model.diffusion_model(x, timesteps=x.new_zeros(1), context=context, transformer_options=options)
    module = components.motion_module(families.V2).model
    for block, width in widths.items():
        if module.at(block) is not None:
            assert module.at(block).norm.num_channels == width, block
