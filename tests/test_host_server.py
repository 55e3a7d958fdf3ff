"""The host's addresses: what the canvas gets, and what is refused."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future
from pathlib import Path

import aiohttp
import pytest

from host.security import LARGEST_UPLOAD, is_loopback
from host.studio import serve_canvas

PACK = Path(__file__).parent / "host_pack"
NUMBER = {"class_type": "Test_Number", "inputs": {"value": 4, "kind": "plain", "seed": 0}}
SHOW = {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}}
SLOW = {"class_type": "Test_Slow", "inputs": {"steps": 400}}


class Client:
    def __init__(self, address: str, base: Path):
        self.address, self.base = address, base

    def ask(self, path, body=None, headers=None, method=None):
        """(status, text of the answer, its headers)."""
        if not isinstance(body, bytes | None):
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    def json(self, path, body=None):
        status, text, _ = self.ask(path, body)
        assert status == 200, text
        return json.loads(text) if text else None

    def upload(self, name, content, **fields):
        parts = [
            f'--B\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()
        ]
        parts.append(f'--B\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode())
        body = b"".join([*parts, content, b"\r\n--B--\r\n"])
        return self.ask("upload/image", body, {"Content-Type": "multipart/form-data; boundary=B"})

    def wait_for_end(self, prompt_id, seconds=20):
        deadline = time.monotonic() + seconds
        while not (entry := self.json(f"history/{prompt_id}")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return entry[prompt_id]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    base = tmp_path_factory.mktemp("studio")
    address, stopper = Future(), Future()

    def make_stop():
        event = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopper.set_result(lambda: loop.call_soon_threadsafe(event.set))
        return event

    serving = threading.Thread(
        target=lambda: asyncio.run(serve_canvas(base, "127.0.0.1", 0, address.set_result, make_stop, PACK))
    )
    serving.start()
    yield Client(address.result(timeout=60), base)
    stopper.result()()
    serving.join(timeout=30)
    assert not serving.is_alive()


def test_a_prompt_runs_and_is_in_the_history_and_the_job_list(client):
    prompt_id = client.json("prompt", {"prompt": {"1": NUMBER, "2": SHOW}})["prompt_id"]
    entry = client.wait_for_end(prompt_id)
    assert entry["outputs"] == {"2": {"text": ["2: 4"]}}
    assert entry["status"]["status_str"] == "success" and entry["prompt"][1] == prompt_id
    jobs = client.json("api/jobs?status=completed&limit=1")
    assert jobs["jobs"][0]["id"] == prompt_id and jobs["pagination"]["total"] >= 1
    assert client.json(f"api/jobs/{prompt_id}")["outputs"] == entry["outputs"]
    client.json("history", {"delete": [prompt_id]})
    assert client.json(f"history/{prompt_id}") == {}
    assert client.ask(f"jobs/{prompt_id}")[0] == 404


def test_a_wrong_prompt_is_answered_with_the_error_of_its_node(client):
    status, text, _ = client.ask("prompt", {"prompt": {"1": {"class_type": "Test_Number", "inputs": {}}, "2": SHOW}})
    assert status == 400
    assert json.loads(text)["node_errors"]["1"]["errors"][0]["type"] == "required_input_missing"
    for body in ({}, {"prompt": [1]}, b"{", [1]):
        assert client.ask("prompt", body)[0] == 400


def test_interrupt_and_queue(client):
    running = client.json("prompt", {"prompt": {"1": SLOW}})["prompt_id"]
    waiting = client.json("prompt", {"prompt": {"1": SLOW}})["prompt_id"]
    deleted = client.json("prompt", {"prompt": {"1": SLOW}})["prompt_id"]
    client.json("queue", {"delete": [deleted]})
    while not (queue := client.json("queue"))["queue_running"]:
        time.sleep(0.01)  # the worker may take a moment to begin
    assert [item[1] for item in queue["queue_pending"]] == [waiting]
    client.json("interrupt", {"prompt_id": waiting})  # not the running one: nothing stops
    assert client.json("queue")["queue_running"][0][1] == running
    client.json("interrupt", {"prompt_id": running})
    messages = dict(client.wait_for_end(running)["status"]["messages"])
    assert messages["execution_interrupted"]["node_id"] == "1"
    while [item[1] for item in client.json("queue")["queue_running"]] != [waiting]:
        time.sleep(0.01)  # an interrupt that comes before it has begun stops nothing
    client.json("interrupt", {})
    client.wait_for_end(waiting)
    assert client.json("prompt") == {"exec_info": {"queue_remaining": 0}}


def test_messages_go_to_the_client_that_queued(client):
    async def listen():
        async with (
            aiohttp.ClientSession(client.address) as session,
            session.ws_connect("/ws?clientId=me") as socket,
            session.ws_connect("/ws?clientId=other") as other,
        ):
            first = await socket.receive_json(timeout=10)
            await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            assert (await socket.receive_json(timeout=10))["type"] == "feature_flags"
            await session.post("/prompt", json={"prompt": {"1": NUMBER, "2": SHOW}, "client_id": "me"})
            events = []
            while not events or events[-1] != ("executing", None):
                message = await socket.receive_json(timeout=10)
                events.append((message["type"], message["data"].get("node")))
            others = [(await other.receive_json(timeout=10))["type"] for _ in range(3)]
            return first, events, others

    first, events, others = asyncio.run(listen())
    assert first["type"] == "status" and first["data"]["sid"] == "me"
    names = [name for name, _ in events]
    assert [n for n in names if n.startswith("execution")] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert ("executed", "2") in events and "progress_state" in names
    assert set(others) == {"status"}


def test_the_page_is_served_with_our_extension(client):
    status, page, _ = client.ask("")
    assert status == 200 and b"<title>ComfyUI</title>" in page
    info = client.json("api/object_info/Test_Number")["Test_Number"]
    assert info["python_module"] == "custom_nodes.llia" and info["input"]["required"]["value"][1]["max"] == 10
    assert client.json("api/workflow_templates") == {"llia": ["sum"]}
    assert client.json("api/workflow_templates/llia/sum.json")["version"] == 0.4
    assert any(path.startswith("/extensions/core/") for path in client.json("extensions"))


def test_a_foreign_page_is_refused(client):
    host = client.address.split("/")[2]
    assert client.ask("prompt", headers={"Origin": f"http://{host}"})[0] == 200
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Host": "evil.example"},  # a foreign name that was pointed at this machine
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ):
        assert client.ask("prompt", headers=headers)[0] == 403, headers
        assert client.ask("interrupt", {}, headers=headers)[0] == 403, headers

    async def connect():
        async with aiohttp.ClientSession(client.address) as session:
            await session.ws_connect("/ws", headers={"Origin": "http://evil.example"})

    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        asyncio.run(connect())


@pytest.mark.parametrize("kind", ["input", "output", "temp"])
def test_files_are_uploaded_and_viewed(client, kind):
    status, text, _ = client.upload("a.txt", b"one", type=kind, subfolder="sub")
    assert status == 200 and json.loads(text) == {"name": "a.txt", "subfolder": "sub", "type": kind}
    assert json.loads(client.upload("a.txt", b"one", type=kind, subfolder="sub")[1])["name"] == "a.txt"
    assert json.loads(client.upload("a.txt", b"two", type=kind, subfolder="sub")[1])["name"] == "a (1).txt"
    client.upload("a.txt", b"three", type=kind, subfolder="sub", overwrite="true")
    assert client.ask(f"view?filename=a.txt&subfolder=sub&type={kind}")[1] == b"three"
    assert client.ask(f"view?filename=b.txt&subfolder=sub&type={kind}")[0] == 404


def test_paths_outside_of_their_folders_are_refused(client):
    secret = client.base.parent / "secret.txt"
    secret.write_text("secret")
    (client.base / "input" / "link.txt").symlink_to(secret)
    (client.base / "input" / "door").symlink_to(client.base.parent)
    for query in (
        "filename=../../secret.txt&type=input",
        f"filename={secret}&type=input",
        "filename=secret.txt&subfolder=../..&type=input",
        f"filename=secret.txt&subfolder={secret.parent}&type=input",
        "filename=link.txt&type=input",
        "filename=secret.txt&subfolder=door&type=input",
        "filename=%00&type=input",
        "filename=comfy.settings.json&subfolder=default&type=user",
        "filename=&type=input",
        "type=input",
    ):
        status, text, _ = client.ask(f"view?{query}")
        assert status in (400, 403) and text != b"secret", query
    for name, fields in (
        ("x.txt", {"subfolder": "../.."}),
        ("x.txt", {"subfolder": "door"}),
        ("x.txt", {"type": "user"}),
    ):
        assert client.upload(name, b"x", **fields)[0] in (400, 403), fields
    for name in ("../x.txt", "..", "a/../../x.txt"):
        assert client.upload(name, b"x")[0] in (400, 403), name
    assert not list(client.base.parent.glob("x.txt")) and not (client.base / "x.txt").exists()
    for path in ("userdata/..%2F..%2F..%2Fsecret.txt", f"userdata/{urllib.request.quote(str(secret), safe='')}"):
        assert client.ask(path)[0] == 403
        assert client.ask(path, b"x")[0] == 403
        assert client.ask(path, method="DELETE")[0] == 403
    assert client.ask("userdata?dir=..")[0] == 403
    assert client.ask("..%2F..%2Fsecret.txt")[0] in (403, 404)
    assert client.ask("extensions/llia/..%2F..%2F__init__.py")[0] in (403, 404)
    assert secret.read_text() == "secret"


def test_nodes_read_inputs_from_their_folder_only(client):
    (client.base / "output" / "o.wav").write_bytes(b"")
    for name in ("../output/o.wav", "/etc/passwd", "link.txt", "../../secret.txt [output]"):
        prompt = {"1": {"class_type": "LoadAudio", "inputs": {"audio": name}}}
        prompt["2"] = {"class_type": "PreviewAudio", "inputs": {"audio": ["1", 0]}}
        status, text, _ = client.ask("prompt", {"prompt": prompt})
        assert status == 400 and "custom_validation_failed" in text.decode(), name


def test_oversized_uploads_are_refused(client):
    status, *_ = client.upload("large.bin", bytes(LARGEST_UPLOAD + 1))
    assert status == 413 and not (client.base / "input" / "large.bin").exists()


def test_an_uploaded_page_is_never_shown(client):
    for name in ("page.html", "picture.svg", "code.js", "data.xml", "page.xhtml"):
        client.upload(name, b"<script>alert(1)</script>")
        headers = client.ask(f"view?filename={name}&type=input")[2]
        assert headers["Content-Type"] == "application/octet-stream", name


def test_user_files_and_settings(client):
    assert client.ask("userdata/workflows%2Fmine.json", b"{}")[0] == 200
    assert client.json("userdata?dir=workflows&recurse=true&full_info=true")[0]["path"] == "mine.json"
    assert client.ask("userdata/workflows%2Fmine.json?overwrite=false", b"{}")[0] == 409
    assert client.ask("userdata/workflows%2Fmine.json/move/workflows%2Fyours.json", b"")[0] == 200
    assert client.json("userdata?dir=workflows") == ["yours.json"]
    assert client.ask("userdata/workflows%2Fyours.json", method="DELETE")[0] == 204
    assert client.ask("userdata/workflows%2Fyours.json")[0] == 404
    client.json("settings/Some.Id", 3)
    client.json("settings", {"Other": [1]})
    assert client.json("settings")["Some.Id"] == 3 and client.json("settings/Other") == [1]


def test_loopback_names():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.1.2.3", "::1"]))
    assert not any(map(is_loopback, ["evil.example", "0.0.0.0", "192.168.0.1", "", None, "localhost.evil.example"]))
