"""The face in LLIA Edit Expression and LLIA Avatar follows the sliders, and nothing is queued for it."""

import io
from pathlib import Path
from urllib import request

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "llia_core" / "assets" / "demo_portrait.png"
ADD_NODES = """types => {
    app.graph.clear()
    let x = 40
    for (const type of types) {
        const node = LiteGraph.createNode(type)
        node.pos = [x, 80]
        app.graph.add(node)
        x += node.size[0] + 60
    }
    app.graph.nodes.forEach((node, k) => k && app.graph.nodes[k - 1].connect(0, node, 0))
}"""
MIDDLE = """canvas => {
    const {width, height} = canvas
    const {data} = canvas.getContext('2d').getImageData(0, 0, width, height)
    return [width, height, ...data.filter((_, k) => k % 97 == 0)]
}"""


def face(canvas, of="LLIA_EditExpression"):
    """The preview of the first node of a type."""
    at = canvas.page.evaluate(
        """type => app.graph.nodes.filter(node => ['LLIA_EditExpression', 'LLIA_Avatar'].includes(node.type))
                .findIndex(node => node.type === type)""",
        of,
    )
    return canvas.page.locator(".llia-face").nth(at)


def wait_until_shown(canvas, element, more_than=0):
    canvas.page.wait_for_function(
        "([element, count]) => element.dataset.state === 'shown' && Number(element.dataset.shown) > count",
        arg=[element.element_handle(), more_than],
    )
    canvas.page.wait_for_timeout(150)  # a newer request may be under way
    return int(canvas.data(element)["shown"])


def pixels(element):
    return element.locator("canvas").evaluate(MIDDLE)


@pytest.fixture
def queued(page):
    """Prompts that the page has sent."""
    sent = []
    page.on("request", lambda r: sent.append(r.url) if r.url.endswith("/prompt") and r.method == "POST" else None)
    return sent


def test_face_follows_the_sliders_of_both_nodes(canvas, queued):
    canvas.page.evaluate(ADD_NODES, ["LLIA_Avatar", "LLIA_EditExpression"])
    edited, avatar = face(canvas), face(canvas, "LLIA_Avatar")
    count, drawn = wait_until_shown(canvas, edited), wait_until_shown(canvas, avatar)
    plain, person = pixels(edited), pixels(avatar)
    canvas.set_widget("LLIA_EditExpression", "smile", 0.8)
    count = wait_until_shown(canvas, edited, count)
    smiling = pixels(edited)
    assert smiling[:2] == plain[:2] == [512, 512] and smiling != plain
    assert pixels(avatar) == person and int(canvas.data(avatar)["shown"]) == drawn
    canvas.screenshot("expression-smile")
    canvas.set_widget("LLIA_EditExpression", "smile", 0)
    count = wait_until_shown(canvas, edited, count)
    assert pixels(edited) == plain
    canvas.set_widget("LLIA_Avatar", "seed", 12)  # upstream: both follow
    wait_until_shown(canvas, edited, count)
    wait_until_shown(canvas, avatar, drawn)
    assert pixels(edited) != plain and pixels(avatar) != person
    canvas.screenshot("expression-seed")
    assert queued == []


def test_dragging_gives_many_pictures_and_ends_on_the_last_values(canvas, queued):
    canvas.page.evaluate(ADD_NODES, ["LLIA_Avatar", "LLIA_EditExpression"])
    element = face(canvas)
    count = wait_until_shown(canvas, element)
    for step in range(41):
        canvas.set_widget("LLIA_EditExpression", "yaw", step / 4)
        canvas.page.wait_for_timeout(30)
    last = wait_until_shown(canvas, element, count)
    assert last - count >= 8, "too few pictures while the slider moved"
    dragged = pixels(element)
    canvas.set_widget("LLIA_EditExpression", "yaw", 0)
    last = wait_until_shown(canvas, element, last)
    canvas.set_widget("LLIA_EditExpression", "yaw", 10)
    wait_until_shown(canvas, element, last)
    assert pixels(element) == dragged
    assert queued == []


def test_source_that_only_a_run_can_tell(canvas):
    """Behind another node the face is unknown until a run; afterwards it follows without another one."""
    upload(canvas, DEMO, "llia_e2e.png")
    canvas.page.evaluate(ADD_NODES, ["LoadImage", "LLIA_EditExpression", "LLIA_EditExpression", "PreviewImage"])
    canvas.set_widget("LoadImage", "image", "llia_e2e.png")
    first, second = canvas.page.locator(".llia-face").nth(0), canvas.page.locator(".llia-face").nth(1)
    wait_until_shown(canvas, first)
    assert canvas.data(second)["state"] == "empty" and "Run once" in second.inner_text()
    canvas.set_widget("LLIA_EditExpression", "smile", 0.6)
    canvas.run()
    count = wait_until_shown(canvas, second)
    before = pixels(second)
    canvas.page.evaluate(
        """() => { const node = app.graph.nodes.filter(n => n.type === 'LLIA_EditExpression')[1]
                   node.widgets.find(w => w.name === 'jaw').value = 0.5 }"""
    )
    wait_until_shown(canvas, second, count)
    assert pixels(second) != before
    canvas.screenshot("expression-chain")


def test_a_picture_without_a_face_says_so(canvas):
    canvas.expected_errors.append("422: POST .*/llia/expression")
    upload(canvas, Image.new("RGB", (200, 200), "grey"), "llia_e2e_grey.png")
    canvas.page.evaluate(ADD_NODES, ["LoadImage", "LLIA_EditExpression"])
    canvas.set_widget("LoadImage", "image", "llia_e2e_grey.png")
    element = face(canvas)
    canvas.page.wait_for_function("e => e.dataset.state === 'refused'", arg=element.element_handle())
    assert "face" in element.inner_text()


def test_removed_nodes_ask_no_more(canvas):
    canvas.page.evaluate(ADD_NODES, ["LLIA_Avatar", "LLIA_EditExpression"])
    wait_until_shown(canvas, face(canvas))
    canvas.page.evaluate("app.graph.clear()")
    asked = []
    canvas.page.on("request", lambda r: asked.append(r.url) if "/llia/" in r.url else None)
    canvas.page.wait_for_timeout(500)
    assert asked == [] and canvas.page.locator(".llia-face").count() == 0


def upload(canvas, picture, name):
    """Puts a picture into the input folder as the page does."""
    data = io.BytesIO()
    (Image.open(picture) if isinstance(picture, Path) else picture).save(data, "PNG")
    body = b"".join(
        f'--x\r\nContent-Disposition: form-data; name="{field}"{more}\r\n\r\n'.encode() + value + b"\r\n"
        for field, more, value in (("image", f'; filename="{name}"', data.getvalue()), ("overwrite", "", b"true"))
    )
    header = {"Content-Type": "multipart/form-data; boundary=x"}
    with request.urlopen(request.Request(canvas.server + "upload/image", body + b"--x--\r\n", header)) as answer:
        assert answer.status == 200
