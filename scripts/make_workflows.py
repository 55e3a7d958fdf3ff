"""Writes workflows/*.json (for the canvas), workflows/api/*.json (the same as prompts), and their pictures.

    python -m scripts.make_workflows [--pictures]

Where a node stands and what it is connected to is written in `scripts/workflow_layouts.py`; slots and widgets come from
the nodes' own schemas, so run this again whenever an input of a node changes. The pictures are frames of the videos
that the workflows make.
"""

import argparse
import json
import sys
import tempfile
import uuid
from pathlib import Path

from host.pack import Pack
from host.studio import open_host, run_file
from host.workflow import flatten
from llia_core.media import contact_sheet, write_image

from .workflow_layouts import LAYOUTS, Layout, Node

FOLDER = Path(__file__).parent.parent / "workflows"
WIDGETS = ("BOOLEAN", "COMBO", "FLOAT", "INT", "STRING")
TITLE, SLOT, WIDGET, PAD = 30, 20, 24, 14  # pixels of the canvas
COLOURS = {"portrait": "#3f789e", "voice": "#8a5a9e", "video": "#3f7a4f", "note": "#666"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true", help="run the workflows too and take their pictures")
    arguments = parser.parse_args()
    (FOLDER / "api").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        pack = open_host(Path(base))[1]
        for name, layout in LAYOUTS.items():
            workflow = draw(name, layout, pack)
            write(FOLDER / f"{name}.json", workflow)
            prompt = flatten(workflow, pack)
            titles = {str(node["id"]): node.get("title", info(pack, node["type"])) for node in workflow["nodes"]}
            write(FOLDER / "api" / f"{name}.json", {i: {**n, "_meta": {"title": titles[i]}} for i, n in prompt.items()})
    for name, layout in LAYOUTS.items() if arguments.pictures else ():
        if layout.picture:
            take_picture(name, layout)
        else:
            write_card(name, "needs weights that\nare not part of the pack")
    return 0


def write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def info(pack: Pack, node_type: str) -> str:
    return pack.info(node_type)["display_name"] if node_type in pack.nodes else node_type


def draw(name: str, layout: Layout, pack: Pack) -> dict:
    """A layout in the canvas's form, version 0.4."""
    ids = {key: index for index, key in enumerate(layout.nodes, 1)}
    links: list[list] = []
    nodes = [_node(ids, key, node, links, pack) for key, node in layout.nodes.items()]
    for number, source, slot, *_ in links:
        output = nodes[source - 1]["outputs"][slot]
        output["links"] = [*(output["links"] or []), number]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"llia/{name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [_group(i, *group, ids, nodes) for i, group in enumerate(layout.groups, 1)],
        "config": {},
        "extra": {"ds": {"scale": layout.scale, "offset": list(layout.offset)}},
        "version": 0.4,
    }


def _node(ids: dict, key: str, node: Node, links: list, pack: Pack) -> dict:
    ours = node.type.startswith("LLIA_")
    properties = {"Node name for S&R": node.type, "cnr_id": "llia" if ours else "comfy-core"}
    if node.models:
        properties["models"] = [*node.models]
    drawn = {
        "id": ids[key],
        "type": node.type,
        "pos": list(node.pos),
        "size": [node.width, 0],
        "flags": {},
        "order": ids[key] - 1,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": properties,
        "widgets_values": [],
    }
    if node.title:
        drawn["title"] = node.title
    if node.type == "MarkdownNote":
        drawn |= {"size": [node.width, node.height], "widgets_values": [node.text], "properties": {}}
        return drawn | {"color": "#432", "bgcolor": "#653"}
    _slots(drawn, ids, node, links, pack.info(node.type))
    slots = max(sum("widget" not in i for i in drawn["inputs"]), len(drawn["outputs"]))
    drawn["size"][1] = node.height or slots * SLOT + len(drawn["widgets_values"]) * WIDGET + PAD
    return drawn


def _slots(drawn: dict, ids: dict, node: Node, links: list, schema: dict) -> None:
    """Inputs, outputs, widget values and links, in the order in which the canvas makes them."""
    inputs = {**schema["input"].get("required", {}), **schema["input"].get("optional", {})}
    unknown = (node.widgets.keys() | node.links.keys()) - inputs.keys()
    assert not unknown, f"{node.type} has no {unknown}"
    sockets, widgets = [], []
    for name, (kind, options) in inputs.items():
        is_widget = isinstance(kind, list) or kind in WIDGETS
        slot = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "link": None}
        if is_widget:
            widgets.append(slot | {"widget": {"name": name}})
            drawn["widgets_values"].append(node.widgets.get(name, options.get("default", "")))
            if options.get("control_after_generate"):
                drawn["widgets_values"].append("fixed")
        else:
            sockets.append(slot)
    drawn["inputs"] = sockets + widgets
    for index, slot in enumerate(drawn["inputs"]):
        if slot["name"] in node.links:
            source, output = node.links[slot["name"]]
            slot["link"] = len(links) + 1
            links.append([slot["link"], ids[source], output, drawn["id"], index, slot["type"]])
    for kind, name in zip(schema["output"], schema["output_name"], strict=True):
        drawn["outputs"].append({"name": name, "type": kind, "links": None})


def _group(number: int, title: str, colour: str, keys: tuple[str, ...], ids: dict, nodes: list) -> dict:
    inside = [nodes[ids[key] - 1] for key in keys]
    left, top = min(n["pos"][0] for n in inside) - 16, min(n["pos"][1] for n in inside) - TITLE - 44
    right = max(n["pos"][0] + n["size"][0] for n in inside) + 16
    bottom = max(n["pos"][1] + n["size"][1] for n in inside) + 50  # Vue nodes are a little higher
    return {
        "id": number,
        "title": title,
        "bounding": [left, top, right - left, bottom - top],
        "color": COLOURS[colour],
        "font_size": 24,
        "flags": {},
    }


def take_picture(name: str, layout: Layout) -> None:
    """Frames of the video that the workflow makes, as a jpg beside it."""
    with tempfile.TemporaryDirectory() as base:
        run_file(Path(base), FOLDER / "api" / f"{name}.json")
        frames = read_frames(next(Path(base).rglob("*.mp4")), layout.picture)
    columns = int(len(frames) ** 0.5)
    write_image(FOLDER / f"{name}.jpg", contact_sheet(frames, columns) if columns > 1 else frames[0])


def write_card(name: str, text: str) -> None:
    """Words in the place of a picture, for a workflow that cannot run here."""
    from PIL import Image, ImageDraw, ImageFont

    card = Image.new("RGB", (256, 256), "#20242b")
    draw = ImageDraw.Draw(card)
    for y, size, colour, words in ((96, 22, "#e4e6ea", name.replace("_", " ")), (150, 14, "#9a9fa9", text)):
        draw.text((128, y), words, colour, ImageFont.load_default(size), anchor="mm", align="center")
    card.save(FOLDER / f"{name}.jpg", quality=90)


def read_frames(path: Path, seconds: tuple[float, ...]):
    """The frames shown at these seconds, uint8 (n, H, W, 3)."""
    import av
    import torch

    wanted = {round(second * 25) for second in seconds}
    with av.open(str(path)) as video:
        shown = [f.to_ndarray(format="rgb24") for i, f in enumerate(video.decode(video=0)) if i in wanted]
    return torch.stack([torch.from_numpy(frame) for frame in shown])


if __name__ == "__main__":
    sys.exit(main())
