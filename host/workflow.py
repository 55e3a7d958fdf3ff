"""Reads saved workflows: API prompts as they are, and the canvas's own form (version 0.4), subgraphs flattened.

In the canvas the web page does this itself before it sends a prompt; here it serves `python -m host run` and the tests.
"""

import json
from pathlib import Path
from typing import Any

from .pack import Pack

WIDGET_TYPES = ("BOOLEAN", "COMBO", "FLOAT", "INT", "STRING")
VIRTUAL = ("Note", "MarkdownNote", "Reroute")  # on the canvas only
MUTED, BYPASSED = 2, 4
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20  # ids of a subgraph's own ends
AFTER_SEED = ("fixed", "increment", "decrement", "randomize")


def read_prompt(file: Path, pack: Pack) -> dict:
    """The API prompt of a workflow file.

    Raises:
        ValueError: it is neither form, or has nodes that are not installed here.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no workflow: expected a JSON object")
    if "nodes" not in content:
        if not all(isinstance(node, dict) and "class_type" in node for node in content.values()):
            raise ValueError(f"{file} is neither an API prompt nor a workflow of the canvas")
        return content
    return flatten(content, pack)


def flatten(workflow: dict, pack: Pack) -> dict:
    """The API prompt of a workflow in the canvas's form."""
    subgraphs = {s["id"]: s for s in workflow.get("definitions", {}).get("subgraphs", [])}
    return _Graph(workflow, "", subgraphs, pack, None, None).prompt()


class _Graph:
    """One level of the canvas: the whole workflow, or the inside of a subgraph node.

    Args:
        prefix: "" or the subgraph node's execution id with ":"; ids inside are "1:2:3".
        outer: the level around it, and `frame` the subgraph node there.
    """

    def __init__(
        self, graph: dict, prefix: str, subgraphs: dict, pack: Pack, outer: "_Graph | None", frame: dict | None
    ):
        self.prefix, self.subgraphs, self.pack, self.outer, self.frame = prefix, subgraphs, pack, outer, frame
        self.graph = graph
        self.nodes = {node["id"]: node for node in graph["nodes"]}
        self.links = {link["id"]: link for link in map(_link, graph.get("links", []))}

    def prompt(self) -> dict:
        result = {}
        for node in self.graph["nodes"]:
            if node["type"] in VIRTUAL or node.get("mode") in (MUTED, BYPASSED):
                continue
            if node["type"] in self.subgraphs:
                result |= self.inside(node).prompt()
                continue
            if node["type"] not in self.pack.nodes:
                raise ValueError(
                    f"Node {self.prefix}{node['id']} is of type {node['type']}, which is not installed here"
                )
            inputs = {}
            for name, value in self._inputs(node).items():
                if value is not _NOTHING:
                    inputs[name] = value
            result[f"{self.prefix}{node['id']}"] = {"class_type": node["type"], "inputs": inputs}
        return result

    def inside(self, node: dict) -> "_Graph":
        graph = self.subgraphs[node["type"]]
        return _Graph(graph, f"{self.prefix}{node['id']}:", self.subgraphs, self.pack, self, node)

    def _inputs(self, node: dict) -> dict[str, Any]:
        inputs = self._widget_values(node)
        for socket in node.get("inputs", []):
            if socket.get("link") is not None:
                value = self.source(socket["link"])
                # A muted source, or a promoted widget that the subgraph node does not set: the own value stands.
                if value is not _NOTHING or socket["name"] not in inputs:
                    inputs[socket["name"]] = value
        return inputs

    def _widget_values(self, node: dict) -> dict[str, Any]:
        stored = node.get("widgets_values") or []
        types = self.pack.nodes[node["type"]].GET_SCHEMA().input_types()
        inputs = {**types["required"], **types.get("optional", {})}
        widgets = {k: (t, o) for k, (t, o) in inputs.items() if o.get("widgetType", t) in WIDGET_TYPES}
        widgets = {k: v for k, v in widgets.items() if not v[1].get("forceInput")}
        if isinstance(stored, dict):
            return {k: stored[k] for k in widgets if k in stored}
        values, stored = {}, list(stored)
        for name, (_, options) in widgets.items():
            if not stored:
                break
            values[name] = stored.pop(0)
            seed = options.get("control_after_generate") or name in ("seed", "noise_seed")
            if seed and stored and stored[0] in AFTER_SEED:  # the canvas's own widget behind a seed
                stored.pop(0)
        return values

    def source(self, link_id: int) -> Any:
        """What feeds a link: [node id, output], a constant of a promoted widget, or _NOTHING."""
        link = self.links[link_id]
        if link["origin_id"] == SUBGRAPH_INPUT:
            return self._from_outside(link["origin_slot"])
        node = self.nodes[link["origin_id"]]
        if node.get("mode") == MUTED:
            return _NOTHING
        if node["type"] == "Reroute":
            return self._through(node, 0)
        if node.get("mode") == BYPASSED:
            return self._bypass(node, link["origin_slot"])
        if node["type"] in self.subgraphs:
            inside = self.inside(node)
            for end in inside.links.values():
                if end["target_id"] == SUBGRAPH_OUTPUT and end["target_slot"] == link["origin_slot"]:
                    return inside.source(end["id"])
            return _NOTHING
        return [f"{self.prefix}{node['id']}", link["origin_slot"]]

    def _through(self, node: dict, index: int) -> Any:
        link = node["inputs"][index].get("link")
        return _NOTHING if link is None else self.source(link)

    def _bypass(self, node: dict, slot: int) -> Any:
        """The input of a bypassed node that stands in for this output: same place if the type fits, else the first."""
        wanted = node["outputs"][slot]["type"]
        inputs = node.get("inputs", [])
        fitting = [i for i, socket in enumerate(inputs) if socket["type"] == wanted]
        if not fitting:
            return _NOTHING
        return self._through(node, slot if slot in fitting else fitting[0])

    def _from_outside(self, slot: int) -> Any:
        """What the subgraph node's input `slot` has: a link of the level around, or a promoted widget's value."""
        name = self.graph["inputs"][slot]["name"]
        sockets = {socket["name"]: socket for socket in self.frame.get("inputs", [])}
        if name in sockets and sockets[name].get("link") is not None:
            return self.outer.source(sockets[name]["link"])
        promoted = [socket["name"] for socket in self.frame.get("inputs", []) if socket.get("widget")]
        values = self.frame.get("widgets_values") or []
        if name in promoted and len(values) == len(promoted):
            return values[promoted.index(name)]
        return _NOTHING


_NOTHING = object()


def _link(link: list | dict) -> dict:
    """A link as a dict: subgraphs store dicts, the outermost level lists."""
    if isinstance(link, dict):
        return link
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return dict(zip(names, link, strict=False))
