"""Who is served: programs on this machine without keys, holders of a key with keys, pages of allowed origins."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from fast_animatediff.fleet.worker import free_port
from fast_animatediff.tests.endpoints.served import SMALL, TURBO, Front, Served

pytestmark = pytest.mark.server
KEY = "id-of-a-key:0123456789abcdef"
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def keyed(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Endpoints with keys, also with TLS, for which the ComfyUI of `served` works."""
    port, certificate = free_port(), served.certificate
    tls = {"tls_certfile": str(certificate.certificate), "tls_keyfile": str(certificate.key)}
    settings = {"keys": [KEY], "origins": [ORIGIN], "listen": f"127.0.0.1:{port}", **tls}
    with Front(tmp_path_factory.mktemp("keyed") / "front", served.address, settings) as front:
        front.secure = f"localhost:{port}"
        yield front


def test_without_keys_foreign_names_relayed_requests_and_foreign_pages_are_refused(served: Served) -> None:
    url = f"{served.address}/fal/run/{TURBO}"
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.7"}, {"Host": "[::"}):
        assert served.http.post(url, json=SMALL, headers=headers).status_code in (400, 401), headers
    secure = f"https://{served.secure}/fal/run/{TURBO}"
    verify = served.trust
    foreign = httpx.post(secure, json=SMALL, headers={"Origin": ORIGIN}, verify=verify)
    assert foreign.status_code == 403 and "Access-Control-Allow-Origin" not in foreign.headers


def test_headers_that_are_no_urls_are_refused_in_the_services_shape(served: Served) -> None:
    url = f"{served.address}/fal"
    hook = f"{url}/queue/{TURBO}?fal_webhook="
    for answer in (
        served.http.post(f"{url}/proxy", headers={"x-fal-target-url": "http://["}),
        served.http.post(f"{url}/run/{TURBO}", json=SMALL, headers={"x-fal-request-timeout": "nan"}),
        served.http.post(f"{url}/run/{TURBO}", json=SMALL, headers={"x-fal-request-id": "a"}),
        served.http.post(f"{hook}http://[", json=SMALL),
        served.http.post(f"{hook}ftp://a/b", json=SMALL),
        httpx.post(f"https://{served.secure}/fal/proxy", headers={"Origin": "http://["}, verify=served.trust),
    ):
        assert answer.status_code in (400, 403, 422) and answer.json()["detail"], answer.text


def test_with_keys_only_the_right_key_opens(keyed: Front) -> None:
    assert keyed.run(SMALL).json() == {"detail": "Authentication is required to access this application."}
    for wrong in ("Key no", f"Key {KEY}x", f"Basic {KEY}", "Key \u00e9".encode().decode("latin-1")):
        answer = keyed.http.post(
            f"{keyed.address}/fal/queue/{TURBO}",
            json=SMALL,
            headers={"Authorization": wrong.encode("latin-1")},
        )
        assert (answer.status_code, answer.json()) == (401, {"detail": "No user found for Key ID and Secret"})
    assert keyed.run(SMALL, Authorization=f"Key {KEY}").status_code == 200
    assert keyed.http.post(f"{keyed.address}/fal/proxy").status_code == 401
    assert keyed.http.get(f"{keyed.address}/fal/openapi.json").status_code == 200


def test_a_page_of_an_allowed_origin_may_send_the_clients_headers(keyed: Front, served: Served) -> None:
    url, verify = f"https://{keyed.secure}/fal/queue/{TURBO}", served.trust
    asked = "authorization,content-type,x-fal-queue-priority,x-fal-target-url"
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    preflight = httpx.options(url, headers=ask, verify=verify)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert preflight.headers["Access-Control-Allow-Headers"] == asked
    for key, status in ((KEY, 422), ("wrong", 401)):
        answer = httpx.post(
            url, json={}, headers={"Origin": ORIGIN, "Authorization": f"Key {key}"}, verify=verify
        )
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "x-fal-request-id" in answer.headers["Access-Control-Expose-Headers"]
    other = httpx.options(url, headers=ask | {"Origin": "https://other.example"}, verify=verify)
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_public_name_that_begins_with_queue_is_not_taken_for_the_python_clients(keyed: Front) -> None:
    answers = [
        keyed.run(SMALL, Authorization=f"Key {KEY}", Host=host).json()
        for host in ("queue.localhost", "queue.example.com")
    ]
    assert [answer.get("status") for answer in answers] == ["IN_QUEUE", None]
    assert answers[1]["video"]
