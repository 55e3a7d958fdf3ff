"""Checks an API prompt before it runs; errors have ComfyUI's form, so that the canvas marks the right widget.

An API prompt is {node id: {"class_type": str, "inputs": {name: constant or [node id, output index]}}}.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from .shims.io import ComfyNode, locked_clone

Nodes = Mapping[str, type[ComfyNode]]
_CONVERT = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class PromptError(Exception):
    """The prompt cannot run.

    Attributes:
        error: {"type", "message", "details", "extra_info"} of the whole prompt.
        node_errors: node id -> {"errors", "dependent_outputs", "class_type"}.
    """

    def __init__(self, error: dict, node_errors: dict | None = None):
        super().__init__(f"{error['message']}: {error['details']}" if error["details"] else error["message"])
        self.error, self.node_errors = error, node_errors or {}


def is_link(value: Any) -> bool:
    return isinstance(value, list)


def _error(type: str, message: str, details: str = "", **extra_info: Any) -> dict:
    return {"type": type, "message": message, "details": details, "extra_info": extra_info}


def validate_prompt(prompt: dict, nodes: Nodes, targets: list[str] | None = None) -> tuple[list[str], dict]:
    """Checks all that the output nodes need, and converts constants to their types, in place.

    Args:
        targets: only these of the output nodes; all of them if None.

    Returns:
        (ids of the output nodes that can run, errors of the others as in PromptError.node_errors).

    Raises:
        PromptError: no output node can run.
    """
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            raise PromptError(_error("invalid_prompt", message, f"Node ID '#{node_id}'"))
        if node["class_type"] not in nodes:
            message = f"Cannot execute because node {node['class_type']} does not exist."
            raise PromptError(_error("invalid_prompt", message, f"Node ID '#{node_id}'"))
    outputs = [i for i, n in prompt.items() if nodes[n["class_type"]].GET_SCHEMA().is_output_node]
    outputs = [i for i in outputs if targets is None or i in targets]
    if not outputs:
        raise PromptError(_error("prompt_no_outputs", "Prompt has no outputs"))
    checker = _Checker(prompt, nodes)
    good = [i for i in outputs if checker.valid(i)]
    node_errors = {
        i: {
            "errors": errors,
            "dependent_outputs": [o for o in outputs if i in checker.ancestry(o)],
            "class_type": prompt[i]["class_type"],
        }
        for i, errors in checker.errors.items()
        if errors
    }
    if not good:
        details = "\n".join(f"{e['message']}: {e['details']}" for n in node_errors.values() for e in n["errors"])
        raise PromptError(
            _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", details), node_errors
        )
    return good, node_errors


class _Checker:
    """Checks each node once, with the nodes that it needs."""

    def __init__(self, prompt: dict, nodes: Nodes):
        self.prompt, self.nodes = prompt, nodes
        self.errors: dict[str, list[dict]] = {}  # own errors of the nodes that were checked
        self._valid: dict[str, bool] = {}  # with all that they need

    def ancestry(self, node_id: str) -> set[str]:
        found, todo = set(), [node_id]
        while todo:
            if (node := todo.pop()) not in found and node in self.prompt:
                found.add(node)
                todo += [str(v[0]) for v in self.prompt[node].get("inputs", {}).values() if is_link(v) and v]
        return found

    def valid(self, node_id: str) -> bool:
        if node_id in self._valid:
            return self._valid[node_id]
        self._valid[node_id] = False  # what a cycle that comes back here finds
        self.errors[node_id] = errors = []
        node = self.prompt[node_id]
        node.setdefault("inputs", {})
        upstream = True
        cls = self.nodes[node["class_type"]]
        types = cls.GET_SCHEMA().input_types()
        own_check = inspect.signature(cls.validate_inputs).parameters if hasattr(cls, "validate_inputs") else {}
        for kind in ("required", "optional"):
            for name, (type, options) in types.get(kind, {}).items():
                if name not in node["inputs"]:
                    if kind == "required":
                        errors.append(
                            _error("required_input_missing", "Required input is missing", name, input_name=name)
                        )
                elif is_link(node["inputs"][name]):
                    upstream &= self._check_link(node_id, name, type, options)
                else:
                    errors += _check_constant(node["inputs"], name, type, options, limits=name not in own_check)
        if own_check and not errors:
            errors += _run_own_check(cls, own_check, node["inputs"])
        self._valid[node_id] = upstream and not errors
        return self._valid[node_id]

    def _check_link(self, node_id: str, name: str, type: str, options: dict) -> bool:
        """Whether what the link comes from can run; a wrong link is an error of this node."""
        link = self.prompt[node_id]["inputs"][name]
        about = {"input_name": name, "input_config": (type, options)}
        errors = self.errors[node_id]
        if len(link) != 2 or not isinstance(link[1], int):
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            errors.append(_error("bad_linked_input", message, name, **about, received_value=link))
            return False
        source = str(link[0])
        outputs = self.nodes[self.prompt[source]["class_type"]].GET_SCHEMA().outputs if source in self.prompt else []
        if not 0 <= link[1] < len(outputs):
            message = f"Node {source} has no output {link[1]}"
            errors.append(_error("bad_linked_input", message, name, **about, received_value=link))
            return False
        if node_id in self.ancestry(source):
            message = f"Nodes {node_id} and {source} depend on each other"
            errors.append(_error("dependency_cycle", "Dependency cycle detected", message, **about))
            return False
        received = outputs[link[1]].io_type
        accepted = set(type.split(","))
        if not accepted & {received, "*"} and received != "*":
            details = f"{name}, received_type({received}) mismatch input_type({type})"
            message = "Return type mismatch between linked nodes"
            about |= {"received_type": received, "linked_node": link}
            errors.append(_error("return_type_mismatch", message, details, **about))
            return False
        return self.valid(source)


def _check_constant(inputs: dict, name: str, type: str, options: dict, limits: bool) -> list[dict]:
    value = inputs[name]
    if isinstance(value, dict) and "__value__" in value:  # how the canvas sends a list that is no link
        value = inputs[name] = value["__value__"]
    about = {"input_name": name, "input_config": (type, options), "received_value": value}
    if convert := _CONVERT.get(options.get("widgetType", type)):
        try:
            value = inputs[name] = convert(value)
        except (TypeError, ValueError) as ex:
            message = f"Failed to convert an input value to a {type} value"
            return [_error("invalid_input_type", message, f"{name}, {value}, {ex}", **about, exception_message=str(ex))]
    if not limits:
        return []
    if "min" in options and value < options["min"]:
        return [_error("value_smaller_than_min", f"Value {value} smaller than min of {options['min']}", name, **about)]
    if "max" in options and value > options["max"]:
        return [_error("value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, **about)]
    if type == "COMBO" and value not in options["options"]:
        known = options["options"]
        shown = known if len(known) <= 20 else f"(list of length {len(known)})"
        return [_error("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {shown}", **about)]
    return []


def _run_own_check(cls: type[ComfyNode], parameters: Mapping, inputs: dict) -> list[dict]:
    """The node's validate_inputs, given the constants that it names; None stands for what is linked."""
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {k: None if is_link(v) else v for k, v in inputs.items() if takes_all or k in parameters}
    answer = locked_clone(cls, {}).validate_inputs(**given)
    if answer is True:
        return []
    message = "Custom validation failed for node"
    reason = "" if answer is False else f" - {answer}"
    return [_error("custom_validation_failed", message, name + reason, input_name=name) for name in given]
