"""Addresses in other spellings: the same server is the same."""

from __future__ import annotations

import pytest

from fast_animatediff.endpoints.inputs.videos import own_path
from fast_animatediff.endpoints.protocol.spelling import identity, is_address


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8188/",
        "HTTP://LOCALHOST.:8188",
        "http://[::1]:8188",
        "http://[0:0:0:0:0:0:0:1]:8188",
        "http://[::ffff:127.0.0.1]:8188",
        "http://0.0.0.0:8188",
        "http://[::]:8188",
    ],
)
def test_all_names_of_this_machine_are_one_comfyui_and_one_place_of_files(address: str) -> None:
    assert identity(address) == identity("http://127.0.0.1:8188")
    url = f"{address.rstrip('/')}/fal/files/1/a.mp4"
    assert own_path(url, ["http://127.0.0.1:8188"]) == "/fal/files/1/a.mp4"


def test_a_name_means_the_same_with_a_dot_at_its_end_and_with_the_usual_port() -> None:
    assert identity("http://gpu.lan.") == identity("http://GPU.lan:80/") != identity("https://gpu.lan")
    assert identity("http://gpu.lan/a") != identity("http://gpu.lan/b")
    assert (
        identity("http://[fe80:0::1]:1") == identity("http://[FE80::1]:1") != identity("http://[fe80::2]:1")
    )


@pytest.mark.parametrize("text", ["http://a:x188", "http://a:99999", "http://[::", "a", "", "ftp://a"])
def test_what_is_no_address_is_its_own_identity(text: str) -> None:
    assert not is_address(text)
    assert identity(text) == identity(text) != identity("http://127.0.0.1:8188")
