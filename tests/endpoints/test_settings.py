"""The owner's settings: file, environment, and clear words for what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fast_animatediff.endpoints.settings import FILE_NAME, Settings, load

V2V = "fal-ai/fast-animatediff/video-to-video"


def write(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    return folder


def complaint(folder: Path, text: str = "", environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        load(write(folder, text), environ or {})
    return str(caught.value)


def test_without_a_file_the_endpoints_are_off_and_open_to_nobody_else(tmp_path: Path) -> None:
    settings = load(tmp_path, {"PATH": "/bin"})
    assert (
        not settings.enabled
        and settings.keys == ()
        and settings.allowed_hosts == ()
        and settings.origins == ()
    )
    assert settings.database.parent == tmp_path


def test_a_file_is_read_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    text = f"""
    enabled = true
    keys = ["first-key", "second-key"]
    comfyui = ["http://127.0.0.1:8188/", "http://gpu2:8188"]
    allowed_hosts = ["nas.local", "192.168.1.5:8080", "[::1]", "::1"]
    keep_hours = 1.5
    tls_certfile = "cert.pem"
    tls_keyfile = "/keys/key.pem"
    listen = "0.0.0.0:8190"
    [workflows]
    "{V2V}" = "mine.json"
    [motion_loras]
    zoom-in = "mine/zoom.safetensors"
    """
    settings = load(write(tmp_path, text), {})
    assert settings.enabled and settings.keys == ("first-key", "second-key") and settings.keep_hours == 1.5
    assert settings.comfyui == ("http://127.0.0.1:8188", "http://gpu2:8188")
    assert settings.workflows == {V2V: tmp_path / "mine.json"}
    assert settings.tls_certfile == tmp_path / "cert.pem"
    assert settings.tls_keyfile == Path("/keys/key.pem")
    assert settings.motion_loras == {"zoom-in": "mine/zoom.safetensors"}


def test_a_file_saved_by_windows_notepad_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("enabled = true", encoding="utf-8-sig")
    assert load(tmp_path, {}).enabled


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    environ = {
        "FAD_ENDPOINTS_ENABLED": "1",
        "FAD_ENDPOINTS_KEYS": "key-one-1, key-two-2,",
        "FAD_ENDPOINTS_MAX_QUEUED": "5",
        "FAD_ENDPOINTS_LISTEN": "",
    }
    settings = load(write(tmp_path, 'enabled = false\nmax_queued = 7\nkeys = ["from-the-file"]'), environ)
    assert settings.enabled and settings.max_queued == 5 and settings.listen is None
    assert settings.keys == ("key-one-1", "key-two-2")


def test_keys_are_not_shown_when_settings_are_printed() -> None:
    assert "very-secret" not in repr(Settings(keys=("very-secret",)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("enabled = ", "is not TOML"),
        ("enable = true", "enable is not a setting; did you mean enabled?"),
        ("zzz = 1", "zzz is not a setting; there are enabled, keys"),
        ('enabled = "perhaps"', "enabled: Input should be a valid boolean"),
        ("keep_hours = 0", "keep_hours: Input should be greater than 0"),
        ("max_queued = 0", "max_queued: Input should be greater than or equal to 1"),
        ('keys = "abcdefgh"', "keys: Input should be a valid tuple"),
        ('keys = [""]', "at least 8 characters"),
        ('comfyui = ["127.0.0.1:8188"]', "comfyui: '127.0.0.1:8188' is not an address such as http://"),
        ('allowed_hosts = ["http://nas"]', "allowed_hosts: 'http://nas' is not a host"),
        ('origins = ["example.com"]', "origins: 'example.com' is not an origin"),
        ('origins = ["https://a.example", "*"]', "origins with * needs keys"),
        ('address = "gpu.example.com"', "address: 'gpu.example.com' is not an address"),
        ('listen = "8190"', "listen: '8190' is not host:port"),
        ('tls_certfile = "a"', "tls_certfile and tls_keyfile must be set together"),
        ('tls_certfile = "a"\ntls_keyfile = "b"', "TLS needs listen"),
        ('[workflows]\nvideo-to-video = "a.json"', "'video-to-video' is not one of fal-ai/"),
        ('[motion_loras]\nroll = "a"', "'roll' is not one of zoom-out"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_should_be(tmp_path: Path, text: str, words: str) -> None:
    found = complaint(tmp_path, text)
    assert words in found and str(tmp_path) not in found


def test_a_wrong_key_is_not_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in complaint(tmp_path, 'keys = ["hunter2"]')


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "FAD_ENDPOINTS_ENABLE",
            "1",
            "FAD_ENDPOINTS_ENABLE is not a setting; did you mean FAD_ENDPOINTS_ENABLED?",
        ),
        ("FAD_ENDPOINTS_MAX_QUEUED", "many", "FAD_ENDPOINTS_MAX_QUEUED: Input should be a valid integer"),
        ("FAD_ENDPOINTS_WORKFLOWS", "a.json", "FAD_ENDPOINTS_WORKFLOWS is not a setting"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str, words: str) -> None:
    assert words in complaint(tmp_path, "", {name: value})


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
