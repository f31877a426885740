"""The workflow files as a user gets them: what the page saves, complete, readable, with names that can be relied on."""

from __future__ import annotations

import itertools
import re

import pytest
from PIL import Image

from fast_animatediff.nodes import NODES
from fast_animatediff.tests.workflows.graphs import API_NAMES, FOLDER, TITLE_HEIGHT, Graph, read, ui_file
from nodes import NODE_DISPLAY_NAME_MAPPINGS

NOTES = ("MarkdownNote", "Note")
ALLOWED_HOSTS = ("https://huggingface.co/", "https://civitai.com/", "https://civitai.red/")
# The endpoints find nodes by these titles.
TITLES = {
    "Video to Video": {
        *("Load Checkpoint", "Load Motion Module", "Motion LoRA", "Apply Motion Module", "Prompt"),
        *("Negative Prompt", "Load Video Frames", "VAE Encode", "AnimateDiff Sampler", "VAE Decode"),
        "Export Video",
    },
    "Text to Video": {
        *("Load Checkpoint", "Load Motion Module", "Motion LoRA", "Apply Motion Module", "Prompt"),
        *("Negative Prompt", "Empty Video Latent", "AnimateDiff Sampler", "VAE Decode", "Export Video"),
    },
    "Turbo Video to Video": {
        *("Load Checkpoint", "Turbo LoRA", "Load Motion Module", "Apply Motion Module", "Prompt"),
        *("Negative Prompt", "Load Video Frames", "VAE Encode", "AnimateDiff Sampler", "VAE Decode"),
        "Export Video",
    },
    "Turbo Text to Video": {
        *("Load Checkpoint", "Turbo LoRA", "Load Motion Module", "Apply Motion Module", "Prompt"),
        *("Negative Prompt", "Empty Video Latent", "AnimateDiff Sampler", "VAE Decode", "Export Video"),
    },
    "Text to Video Prompt Travel": {
        *("Load Checkpoint", "Load Motion Module", "Apply Motion Module", "Context Windows (AnimateDiff)"),
        *("Prompt Schedule", "Negative Prompt", "Empty Video Latent", "AnimateDiff Sampler", "VAE Decode"),
        "Export Video",
    },
    "Text to Video Two Passes": {
        *("Load Checkpoint", "Load Motion Module", "Apply Motion Module", "Prompt", "Negative Prompt"),
        *("Empty Video Latent", "AnimateDiff Sampler", "Upscale Latent By", "Second Pass", "VAE Decode"),
        "Export Video",
    },
    "Text to Video Slow Motion": {
        *("Load Checkpoint", "Turbo LoRA", "Load Motion Module", "Apply Motion Module", "Prompt"),
        *("Negative Prompt", "Empty Video Latent", "AnimateDiff Sampler", "VAE Decode", "Export Video"),
        *("FrameInterpolationModelLoader", "FrameInterpolate"),
    },
    "Text to Video GIF Loop": {
        *("Load Checkpoint", "Load Motion Module", "Apply Motion Module", "Context Windows (AnimateDiff)"),
        *("Prompt", "Negative Prompt", "Empty Video Latent", "AnimateDiff Sampler", "VAE Decode"),
        "Export Video",
    },
    "Video to Video ControlNet": {
        *("Load Checkpoint", "Load Motion Module", "Apply Motion Module", "Prompt", "Negative Prompt"),
        *("Load Video Frames", "VAE Encode", "Canny", "Load ControlNet Model"),
        *("Apply ControlNet", "AnimateDiff Sampler", "VAE Decode", "Export Video"),
    },
    "Video to Video Unsampling": {
        *("Load Checkpoint", "Load Motion Module", "Apply Motion Module", "Source Prompt", "Prompt"),
        *("Negative Prompt", "Load Video Frames", "VAE Encode", "KSamplerSelect", "BasicScheduler"),
        *("FlipSigmas", "Unsample", "Re-animate", "VAE Decode", "Export Video"),
    },
}
DISPLAY_NAMES = NODE_DISPLAY_NAME_MAPPINGS | {
    schema.node_id: schema.display_name for schema in (node.define_schema() for node in NODES)
}
names = pytest.mark.parametrize("name", API_NAMES)

Box = tuple[float, float, float, float]  # left, top, right, bottom


def box_of_node(node: dict) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_HEIGHT, x + width, y + height


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def title_of(node: dict) -> str:
    """The title on the page, which a file holds only where it is not the kind's own name."""
    return node.get("title") or DISPLAY_NAMES.get(node["type"], node["type"])


def working_nodes(graph: Graph) -> list[dict]:
    return [node for node in graph["nodes"] if node["type"] not in NOTES]


def test_every_file_is_offered_as_a_template_and_has_an_api_prompt() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {ui_file(name).stem for name in API_NAMES}
    assert {path.stem for path in (FOLDER / "api").glob("*.json")} == set(API_NAMES.values())


@names
def test_a_file_is_of_schema_0_4_with_unique_ids(name: str) -> None:
    graph = read(ui_file(name))
    assert graph["version"] == 0.4
    assert "id" not in graph  # the page gives one: two tabs of a template would show each other's results
    ids = [node["id"] for node in graph["nodes"]]
    links = [link[0] for link in graph["links"]]
    assert len(set(ids)) == len(ids) and max(ids) <= graph["last_node_id"]
    assert len(set(links)) == len(links) and max(links) <= graph["last_link_id"]


@names
def test_links_agree_with_the_nodes_at_both_ends(name: str) -> None:
    graph = read(ui_file(name))
    nodes = {node["id"]: node for node in graph["nodes"]}
    for link, source, source_slot, target, target_slot, kind in graph["links"]:
        output, taken = nodes[source]["outputs"][source_slot], nodes[target]["inputs"][target_slot]
        assert link in output["links"] and output["type"] == kind
        assert taken["link"] == link and taken["type"] == kind
    ends = [i["link"] for node in graph["nodes"] for i in node["inputs"] if i["link"] is not None]
    assert sorted(ends) == sorted(link[0] for link in graph["links"])


@names
def test_titles_are_those_that_the_endpoints_look_for(name: str) -> None:
    titles = [title_of(node) for node in working_nodes(read(ui_file(name)))]
    assert sorted(titles) == sorted(TITLES[name])


@names
def test_no_node_covers_another_and_none_sticks_out_of_its_group(name: str) -> None:
    graph = read(ui_file(name))
    boxes = {title_of(node): box_of_node(node) for node in graph["nodes"]}
    for first, second in itertools.combinations(boxes, 2):
        assert not overlap(boxes[first], boxes[second]), f"{first} and {second}"
    for group in graph["groups"]:
        x, y, width, height = group["bounding"]
        for title, box in boxes.items():
            inside = x <= box[0] and y <= box[1] and x + width >= box[2] and y + height >= box[3]
            assert inside or not overlap(box, (x, y, x + width, y + height)), f"{title}, {group['title']}"


@names
def test_the_graph_reads_from_left_to_right(name: str) -> None:
    graph = read(ui_file(name))
    left = {node["id"]: node["pos"][0] for node in graph["nodes"]}
    for _, source, _, target, _, _ in graph["links"]:
        assert left[source] <= left[target]


@names
def test_every_model_says_where_it_can_be_had(name: str) -> None:
    listed = {entry["name"]: entry for entry in read(FOLDER / "models" / "models.json")["models"]}
    for node in working_nodes(read(ui_file(name))):
        files = [v for v in node.get("widgets_values", []) if str(v).endswith((".safetensors", ".ckpt"))]
        models = {model["name"]: model for model in node["properties"].get("models", [])}
        assert sorted(models) == sorted(files), title_of(node)
        for file, model in models.items():
            assert model["url"] == listed[file]["url"]
            assert model["url"].startswith(ALLOWED_HOSTS) and "/resolve/main/" in model["url"]
            assert model["directory"] == listed[file]["folder"]
            sha256 = listed[file]["sha256"]
            expected = {"hash": sha256, "hash_type": "SHA256"} if sha256 else {}
            assert {key: model[key] for key in ("hash", "hash_type") if key in model} == expected


@names
def test_the_notes_link_every_model_and_name_its_folder(name: str) -> None:
    graph = read(ui_file(name))
    text = "\n".join(node["widgets_values"][0] for node in graph["nodes"] if node["type"] in NOTES)
    for node in working_nodes(graph):
        for model in node["properties"].get("models", []):
            assert f"]({model['url']})" in text
            assert f"**models/{model['directory']}**" in text
    assert all(url.startswith(ALLOWED_HOSTS) for url in re.findall(r"\]\((.*?)\)", text))


@names
def test_our_nodes_say_which_pack_they_come_from(name: str) -> None:
    project = (FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8")
    pack, now = (re.search(rf'^{key} = "(.*)"', project, re.M)[1] for key in ("name", "version"))
    for node in working_nodes(read(ui_file(name))):
        properties = node["properties"]
        assert properties["Node name for S&R"] == node["type"]
        if node["type"].startswith("FAD_"):
            assert properties["cnr_id"] == pack
            assert version(properties["ver"]) <= version(now)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("name", ["Video to Video", "Text to Video"])
def test_the_motion_lora_waits_bypassed_and_a_note_says_how_to_enable_it(name: str) -> None:
    graph = read(ui_file(name))
    (lora,) = (node for node in graph["nodes"] if title_of(node) == "Motion LoRA")
    assert lora["mode"] == 4 and lora["outputs"][0]["links"]
    assert any("Ctrl+B" in node["widgets_values"][0] for node in graph["nodes"] if node["type"] in NOTES)
    assert all(node["mode"] == 0 for node in graph["nodes"] if node is not lora)


@names
def test_the_template_card_has_a_small_square_picture_that_moves(name: str) -> None:
    path = ui_file(name).with_suffix(
        ".jpg"
    )  # the only ending that the page looks for; browsers go by what is inside
    assert path.stat().st_size < 150_000
    with Image.open(path) as picture:
        assert picture.format == "WEBP" and picture.n_frames >= 8
        assert picture.width == picture.height >= 256


@pytest.mark.parametrize(
    "word",
    [
        *("animatediff", "sd1.5", "gif", "text to video", "video to video", "turbo"),
        *("controlnet", "prompt travel", "slow motion", "two passes", "unsampling"),
    ],
)
def test_the_words_that_people_search_for_stand_early_in_the_names(word: str) -> None:
    # The page's search takes a word that begins within a third of 100 letters.
    assert any(0 <= ui_file(name).stem.lower().find(word) <= 33 for name in API_NAMES)


def test_the_alphabet_puts_the_simplest_first() -> None:
    assert min(path.stem for path in FOLDER.glob("*.json")) == ui_file("Text to Video").stem
