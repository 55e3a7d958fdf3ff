"""What any server with this pack refuses, asked over the network: this host, and ComfyUI alike."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

LARGEST_UPLOAD = 100 * 2**20


def ask(server: str, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> int:
    """The answer's status. The path is sent as it is: urllib would tidy it."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # refused before all of it was read
        return 413
    finally:
        connection.close()


def form(name: str, content: bytes, **fields: str) -> tuple[bytes, dict]:
    parts = [f'--B\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    parts.append(f'--B\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode())
    return b"".join([*parts, content, b"\r\n--B--\r\n"]), {"Content-Type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize(
    "query",
    [
        "filename=../../../../etc/passwd&type=input",
        "filename=/etc/passwd&type=input",
        "filename=passwd&subfolder=/etc&type=input",
        "filename=passwd&subfolder=../../../../../../../../etc&type=output",
        "filename=..%2F..%2Fetc%2Fpasswd&type=temp",
    ],
)
def test_view_stays_in_its_folders(server, query):
    assert ask(server, "GET", f"/view?{query}") in (400, 403, 404)
    assert ask(server, "GET", f"/api/view?{query}") in (400, 403, 404)


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/extensions/..%2F..%2F..%2Fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd"]
)
def test_static_files_stay_in_their_folders(server, path):
    assert ask(server, "GET", path) in (400, 403, 404)


def test_uploads_stay_in_their_folder(server):
    for fields in ({"subfolder": "../../x"}, {"subfolder": "/tmp"}):
        body, headers = form("x.txt", b"x", **fields)
        assert ask(server, "POST", "/upload/image", body, headers) in (400, 403)


def test_an_oversized_upload_is_refused(server):
    body, headers = form("large.bin", bytes(LARGEST_UPLOAD))
    assert ask(server, "POST", "/upload/image", body, headers) == 413


@pytest.mark.parametrize("path", ["/prompt", "/interrupt", "/upload/image", "/queue"])
def test_a_foreign_page_cannot_use_the_server(server, path):
    headers = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    assert ask(server, "POST", path, json.dumps({}).encode(), headers) == 403


def test_a_foreign_page_cannot_listen(server):
    headers = {
        "Origin": "http://evil.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert ask(server, "GET", "/ws", headers=headers) == 403
