"""The files of the page: sent without a token, with a policy that allows nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from starlette.testclient import TestClient

from masklet.app.run_app import PAGE
from masklet.server import ServerOptions
from masklet.server.application import make_app

TOKEN = "a-token-of-this-test"
BASE = "http://127.0.0.1:8700"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    options = ServerOptions(tmp_path_factory.mktemp("page") / "projects", token=TOKEN, page=PAGE)
    with TestClient(make_app(options, lambda: None), base_url=BASE, raise_server_exceptions=False) as client:
        yield client


def test_the_page_is_sent_without_a_token_and_the_projects_are_not(client: TestClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert client.post("/api/sessions", json={}).status_code == 401
    assert client.get("/page/../api/files").status_code == 401
    assert client.get("/page/..%2f..%2f__init__.py").status_code == 404
    assert client.get("/page/js/gone.js").status_code == 404


def test_all_that_the_page_names_is_there_and_of_this_server(client: TestClient) -> None:
    for address in re.findall(r'(?:href|src)="([^"]+)"', client.get("/").text):
        assert address.startswith("/page/")
        assert client.get(address).status_code == 200
    modules = {path.name: path.read_text() for path in (PAGE / "js").glob("*.js")}
    imports = {
        name for text in modules.values() for name in re.findall(r'^import .*"\./([^"]+)";$', text, re.MULTILINE)
    }
    assert imports <= modules.keys()
    assert imports == modules.keys() - {"main.js"}, "every module is used"
    assert not [name for name, text in modules.items() if re.search(r"innerHTML|outerHTML|insertAdjacentHTML", text)]


def test_the_policy_allows_no_inline_script_and_the_files_follow_it(client: TestClient) -> None:
    sent = client.get("/page/js/main.js")
    policy = dict(part.strip().split(" ", 1) for part in sent.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in sent.headers["content-security-policy"]
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", html)
    elsewhere = re.compile(r"https?://(?!www\.w3\.org/)")
    assert not [path.name for path in PAGE.rglob("*") if path.is_file() and elsewhere.search(path.read_text())]


def test_a_browser_asks_whether_a_file_has_changed(client: TestClient) -> None:
    first = client.get("/page/js/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/page/js/main.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert (
        client.get("/api/health", headers={"authorization": f"Bearer {TOKEN}"}).headers["cache-control"] == "no-store"
    )
