"""Runs API prompts: nodes in order of need, equal results kept, messages as ComfyUI's server sends them."""

import hashlib
import json
import logging
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .runtime import InterruptProcessingException, Running, interrupt, running, throw_if_interrupted
from .shims.io import ComfyNode, Hidden, NodeOutput, locked_clone
from .validation import Nodes, is_link

log = logging.getLogger(__name__)
Send = Callable[[str, dict], None]


@dataclass(frozen=True)
class Result:
    """What a node gave: values for other nodes, and what the canvas shows."""

    outputs: tuple
    ui: dict | None


@dataclass
class Run:
    """One prompt while it runs, and its record afterwards.

    Attributes:
        messages: [event, data] of the run, for the history.
        outputs: node id -> what the canvas shows.
        success: None while it runs.
    """

    prompt_id: str
    prompt: dict
    extra_data: dict
    send: Send
    messages: list[tuple[str, dict]] = field(default_factory=list)
    outputs: dict[str, dict] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    progress: dict[str, dict] = field(default_factory=dict)
    success: bool | None = None

    def message(self, event: str, **data: Any) -> None:
        data = {"prompt_id": self.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self.messages.append((event, data))
        self.send(event, data)

    def report(self, node_id: str, value: float, total: float, state: str = "running") -> None:
        ids = dict.fromkeys(("node_id", "display_node_id", "real_node_id"), node_id)
        self.progress[node_id] = {
            "value": value,
            "max": total,
            "state": state,
            "prompt_id": self.prompt_id,
            "parent_node_id": None,
            **ids,
        }
        self.send("progress_state", {"prompt_id": self.prompt_id, "nodes": dict(self.progress)})


class Executor:
    """Keeps the results of the last prompt, so that the next one runs only what has changed."""

    def __init__(self, nodes: Nodes):
        self.nodes = nodes
        self._cache: dict[str, Result] = {}

    def forget(self) -> None:
        """Frees all kept results."""
        self._cache.clear()

    def execute(self, run: Run, targets: list[str]) -> None:
        """Runs the output nodes `targets` of a validated prompt. Errors of nodes are messages, not exceptions."""
        import torch

        interrupt(False)
        run.message("execution_start")
        signatures: dict[str, str] = {}
        for node_id in run.prompt:
            self._sign(run.prompt, node_id, signatures)
        self._cache = {s: self._cache[s] for s in signatures.values() if s in self._cache}
        cached = [node_id for node_id, s in signatures.items() if s in self._cache]
        run.message("execution_cached", nodes=cached)
        with torch.inference_mode():  # as in ComfyUI, so that a node which fails under it fails here
            run.success = all(self._run_node(run, n, signatures) for n in self._order(run.prompt, targets, signatures))
        if run.success:
            run.message("execution_success")

    def _order(self, prompt: dict, targets: list[str], signatures: dict[str, str]) -> list[str]:
        """What must run, sources first. What only a kept result needs is left out."""
        order: list[str] = []

        def visit(node_id: str) -> None:
            if node_id in order:
                return
            if signatures[node_id] not in self._cache:
                for value in prompt[node_id]["inputs"].values():
                    if is_link(value):
                        visit(str(value[0]))
            order.append(node_id)

        for target in targets:
            visit(target)
        return order

    def _sign(self, prompt: dict, node_id: str, known: dict[str, str]) -> str:
        """A digest of all that the node's result depends on: equal digests, equal results."""
        if node_id in known:
            return known[node_id]
        known[node_id] = ""  # an invalid node in a cycle; it is not run
        node = prompt[node_id]
        cls = self.nodes[node["class_type"]]
        inputs = {}
        for name, value in node["inputs"].items():
            if is_link(value) and str(value[0]) in prompt:
                inputs[name] = ["link", self._sign(prompt, str(value[0]), known), value[1]]
            else:
                inputs[name] = value
        own_id = node_id if Hidden.unique_id in cls.GET_SCHEMA().hidden else None
        parts = [node["class_type"], own_id, inputs, _fingerprint(cls, node["inputs"])]
        known[node_id] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return known[node_id]

    def _run_node(self, run: Run, node_id: str, signatures: dict[str, str]) -> bool:
        """True if its result is there afterwards."""
        result = self._cache.get(signatures[node_id])
        about = {"node": node_id, "display_node": node_id, "prompt_id": run.prompt_id}
        if result is None:
            run.send("executing", about)
            run.report(node_id, 0, 1)
            try:
                throw_if_interrupted()
                result = self._call(run, node_id, signatures)
            except InterruptProcessingException:
                run.message("execution_interrupted", **self._who(run, node_id))
                return False
            except Exception as error:  # a node may raise anything; the canvas shows it
                log.exception("Node %s (%s) failed", node_id, run.prompt[node_id]["class_type"])
                run.message("execution_error", **self._who(run, node_id), **_describe(error, run.prompt[node_id]))
                return False
            self._cache[signatures[node_id]] = result
            run.executed.append(node_id)
        if result.ui is not None:
            run.outputs[node_id] = result.ui
        if result.ui is not None or node_id not in run.executed:
            run.send("executed", {**about, "output": result.ui})
        done = run.progress.get(node_id, {"max": 1})["max"]
        run.report(node_id, done, done, "finished")
        return True

    def _who(self, run: Run, node_id: str) -> dict:
        return {"node_id": node_id, "node_type": run.prompt[node_id]["class_type"], "executed": list(run.executed)}

    def _call(self, run: Run, node_id: str, signatures: dict[str, str]) -> Result:
        node = run.prompt[node_id]
        cls = self.nodes[node["class_type"]]
        schema = cls.GET_SCHEMA()
        known = {i.id for i in schema.inputs}
        values = {}
        for name in known & node["inputs"].keys():
            value = node["inputs"][name]
            if is_link(value):
                value = self._cache[signatures[str(value[0])]].outputs[value[1]]
            values[name] = value
        everything = {
            Hidden.unique_id: node_id,
            Hidden.prompt: run.prompt,
            Hidden.extra_pnginfo: run.extra_data.get("extra_pnginfo"),
        }
        clone = locked_clone(cls, {h.name: everything[h] for h in schema.hidden})
        with running(Running(run.prompt_id, node_id, partial(run.report, node_id))):
            output = clone.execute(**values)
        return _result(output, len(schema.outputs), schema.node_id)


def _result(output: Any, count: int, name: str) -> Result:
    if output is None:
        output = NodeOutput()
    elif isinstance(output, tuple):
        output = NodeOutput(*output)
    elif not isinstance(output, NodeOutput):
        raise TypeError(f"{name} returned {type(output).__name__}; expected io.NodeOutput")
    if len(output.args) != count:
        raise ValueError(f"{name} returned {len(output.args)} values; its schema has {count} outputs")
    ui = output.ui
    return Result(output.args, ui if ui is None or isinstance(ui, dict) else ui.as_dict())


def _fingerprint(cls: type[ComfyNode], inputs: dict) -> Any:
    """The node's fingerprint_inputs of its constants. A value that equals nothing (NaN, no JSON) always runs anew."""
    if not hasattr(cls, "fingerprint_inputs"):
        return None
    try:
        value = locked_clone(cls, {}).fingerprint_inputs(**{k: None if is_link(v) else v for k, v in inputs.items()})
        if value == value:
            return json.loads(json.dumps(value, allow_nan=False))
    except Exception as error:  # the node itself will tell the user what is wrong
        log.warning("fingerprint_inputs of %s: %s", cls.__name__, error)
    return uuid.uuid4().hex


def _describe(error: Exception, node: dict) -> dict:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {
        "exception_message": f"{error}\n",
        "exception_type": name,
        "traceback": traceback.format_tb(error.__traceback__),
        "current_inputs": {k: [v if isinstance(v, int | float | str) else str(v)] for k, v in node["inputs"].items()},
        "current_outputs": [],
    }
