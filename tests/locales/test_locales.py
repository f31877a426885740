"""Every string of the pack in every language: none missing, none left over, none from before a change.

locales/en holds the English that the other languages were translated from. After a change of a node's texts, or a new
node: `python3 dev.py test tests/locales --update-golden`, then translate what `git diff locales/en` shows in each
language, in the same commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.nodes import NODES

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "locales"
LANGUAGES = ["zh", "zh-TW", "ja", "ko", "fr", "es", "ru", "pt-BR", "de", "tr", "ar", "fa"]
FILES = ("nodeDefs.json", "main.json")


def node_strings() -> dict[str, Any]:
    """The texts of all nodes, in the form of nodeDefs.json."""
    found = {}
    for node in NODES:
        schema = node.GET_SCHEMA()
        inputs = {entry.id: {"name": entry.id, "tooltip": entry.tooltip} for entry in schema.inputs}
        outputs = {
            str(place): {"name": output.display_name or output.id, "tooltip": output.tooltip}
            for place, output in enumerate(schema.outputs)
        }
        found[schema.node_id] = {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": inputs,
            "outputs": outputs,
        }
    return found


def main_strings() -> dict[str, Any]:
    """Categories and the titles of the templates, in the form of main.json."""
    parts = {part for node in NODES for part in node.GET_SCHEMA().category.split("/")}
    titles = {path.stem: path.stem for path in (ROOT / "workflows").glob("*.json")}
    return {
        "nodeCategories": {part: part for part in sorted(parts)},
        "templateWorkflows": {"template": {"fast-animatediff": dict(sorted(titles.items()))}},
    }


def leaves(strings: dict[str, Any], *above: str) -> Iterator[tuple[str, str]]:
    for key, value in strings.items():
        if isinstance(value, dict):
            yield from leaves(value, *above, key)
        else:
            yield " > ".join((*above, key)), value


def read(language: str, file: str) -> dict[str, str]:
    return dict(leaves(json.loads((LOCALES / language / file).read_text(encoding="utf-8"))))


def test_the_english_is_what_the_nodes_say(request: pytest.FixtureRequest) -> None:
    for file, strings in zip(FILES, (node_strings(), main_strings()), strict=True):
        text = json.dumps(strings, indent=1, ensure_ascii=False) + "\n"
        if request.config.getoption("--update-golden"):
            (LOCALES / "en" / file).write_text(text, encoding="utf-8")
        assert (LOCALES / "en" / file).read_text(encoding="utf-8") == text, "see the top of this file"


def test_there_are_no_other_languages() -> None:
    assert sorted(path.name for path in LOCALES.iterdir()) == sorted([*LANGUAGES, "en"])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_string_is_missing_or_left_over(language: str, file: str) -> None:
    english, translated = read("en", file), read(language, file)
    assert list(translated) == list(english)
    for place, text in translated.items():
        assert text.strip(), place
        assert text[-1] not in " \n" and text.count("`") == english[place].count("`"), place


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_translated(language: str) -> None:
    english, translated = read("en", "nodeDefs.json"), read(language, "nodeDefs.json")
    sentences = [place for place, text in english.items() if " " in text]
    assert [place for place in sentences if translated[place] == english[place]] == []


@pytest.mark.parametrize(
    "word, node",
    [
        ("视频", "FAD_LoadVideoFrames"),
        ("视频", "FAD_ExportVideo"),
        ("动画", "FAD_LoadMotionModule"),
        ("采样", "FAD_Sampler"),
    ],
)
def test_chinese_words_find_the_nodes_in_every_language(word: str, node: str) -> None:
    found = [entry.GET_SCHEMA().node_id for entry in NODES if word in entry.GET_SCHEMA().search_aliases]
    assert node in found


def test_the_host_serves_the_languages(comfy_server: ComfyServer) -> None:
    served = comfy_server.client.get("/i18n")
    for language in LANGUAGES:
        strings = served[language]
        assert (
            strings["nodeDefs"]["FAD_Sampler"]["display_name"]
            == read(language, "nodeDefs.json")["FAD_Sampler > display_name"]
        )
        assert strings["nodeCategories"]["Fast AnimateDiff"] == "Fast AnimateDiff"
