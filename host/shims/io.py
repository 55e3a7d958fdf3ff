"""comfy_api.latest.io: schemas, sockets and widgets of V3 nodes.

As strict as the oldest ComfyUI that we support: an option that it does not know is refused here too, so that a node
which loads in this host loads there.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


class Hidden(str, Enum):
    """Values that the executor gives to a node besides its inputs, as `cls.hidden.<name>`."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


class HiddenHolder(dict):
    """The hidden values of one call; those that were not asked for are None."""

    def __getattr__(self, name: str):
        return self.get(name)


# Options as written in Python -> as the canvas reads them, where the names differ.
_CANVAS_NAMES = {"display_mode": "display", "force_input": "forceInput", "dynamic_prompts": "dynamicPrompts"}
_EVERY = {"display_name", "tooltip", "lazy"}
_WIDGET = {"default", "socketless", "force_input"}
_NUMBER = _WIDGET | {"min", "max", "step", "display_mode"}
_OPTIONS = {
    "BOOLEAN": _WIDGET | {"label_on", "label_off"},
    "COMBO": {"default", "socketless", "options", "control_after_generate", "upload", "image_folder"},
    "FLOAT": _NUMBER | {"round"},
    "INT": _NUMBER | {"control_after_generate"},
    "STRING": _WIDGET | {"multiline", "placeholder", "dynamic_prompts"},
}


class Input:
    """A socket or widget. `io_type` is set by the type that it belongs to."""

    io_type: str = ""

    def __init__(self, id: str, *, optional: bool = False, extra_dict: dict | None = None, **options: Any):
        unknown = options.keys() - _EVERY - _OPTIONS.get(self.io_type, set())
        if unknown:
            raise TypeError(f"Input {id!r} of type {self.io_type} has unknown options {sorted(unknown)}")
        self.id, self.optional, self.options, self.extra_dict = id, optional, options, extra_dict or {}

    def get_io_type(self) -> str:
        return self.io_type

    def as_dict(self) -> dict[str, Any]:
        """The options as the canvas reads them."""
        named = {_CANVAS_NAMES.get(k, k): v.value if isinstance(v, Enum) else v for k, v in self.options.items()}
        return {k: v for k, v in (named | self.extra_dict).items() if v is not None}


class _ComboInput(Input):
    def __init__(self, id: str, options: list[str] | type[Enum], *, upload: UploadType | None = None, **others: Any):
        if isinstance(options, type):
            options = [member.value for member in options]
        super().__init__(id, options=options, **others)
        if upload is not None:
            self.options[upload.value] = True

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"multiselect": False}


class _MultiTypeInput(Input):
    """Accepts several types. Given an Input in place of the id, that Input's widget stands where nothing is linked."""

    def __init__(self, id: str | Input, types: list[type], **options: Any):
        self.widget = id if isinstance(id, Input) else None
        if self.widget is not None:
            options = {"optional": id.optional, **options}
        super().__init__(self.widget.id if self.widget else id, **options)
        self.types = types

    def get_io_type(self) -> str:
        names = [self.widget.get_io_type()] if self.widget else []
        return ",".join(dict.fromkeys(names + [t.io_type for t in self.types]))

    def as_dict(self) -> dict[str, Any]:
        if self.widget is None:
            return super().as_dict()
        return self.widget.as_dict() | {"widgetType": self.widget.get_io_type()} | super().as_dict()


class Output:
    """A result. `io_type` is set by the type that it belongs to."""

    io_type: str = ""

    def __init__(self, id: str | None = None, display_name: str | None = None, tooltip: str | None = None):
        self.id, self.display_name, self.tooltip = id, display_name or id, tooltip


def Custom(io_type: str, input_class: type[Input] = Input) -> type:  # ComfyUI's name
    """A socket type with the nested classes Input and Output."""
    attributes = {"io_type": io_type}
    nested = {
        "Input": type("Input", (input_class,), attributes),
        "Output": type("Output", (Output,), attributes),
    }
    return type(io_type, (), attributes | nested)


Audio = Custom("AUDIO")
Boolean = Custom("BOOLEAN")
Combo = Custom("COMBO", _ComboInput)
Float = Custom("FLOAT")
Image = Custom("IMAGE")
Int = Custom("INT")
Mask = Custom("MASK")
MultiType = Custom("COMFY_MULTITYPED_V3", _MultiTypeInput)
String = Custom("STRING")
Vae = Custom("VAE")
Video = Custom("VIDEO")


@dataclass
class Schema:
    """What a node is called, takes and gives."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    not_idempotent: bool = False
    search_aliases: list[str] | None = None

    def __post_init__(self) -> None:
        if self.is_output_node:
            self.hidden = list(dict.fromkeys([*self.hidden, Hidden.prompt, Hidden.extra_pnginfo]))
        for kind, ids in (("Input", [i.id for i in self.inputs]), ("Output", [o.id for o in self.outputs if o.id])):
            if repeated := {i for i in ids if ids.count(i) > 1}:
                raise ValueError(f"{kind} ids must be unique, but {sorted(repeated)} of {self.node_id} are not.")

    def input_types(self) -> dict[str, dict[str, tuple[str, dict]]]:
        """Inputs as {"required": {id: (type, options)}, "optional": ..., "hidden": ...}, ComfyUI's older form."""
        types: dict[str, dict] = {"required": {}}
        for each in self.inputs:
            kind = "optional" if each.optional else "required"
            types.setdefault(kind, {})[each.id] = (each.get_io_type(), each.as_dict())
        if self.hidden:
            types["hidden"] = {h.name: (h.value,) for h in self.hidden}
        return types

    def info(self, python_module: str) -> dict[str, Any]:
        """The node's entry in /object_info."""
        types = self.input_types()
        return {
            "input": types,
            "input_order": {kind: list(inputs) for kind, inputs in types.items()},
            "output": [o.io_type for o in self.outputs],
            "output_is_list": [False for _ in self.outputs],
            "output_name": [o.display_name or o.io_type for o in self.outputs],
            "output_tooltips": [o.tooltip for o in self.outputs],
            "output_matchtypes": None,
            "name": self.node_id,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": python_module,
            "category": self.category,
            "output_node": self.is_output_node,
            "deprecated": self.is_deprecated,
            "experimental": self.is_experimental,
            "api_node": False,
            "search_aliases": self.search_aliases,
        }


class NodeOutput:
    """Results of a node, in the order of its outputs; `ui` goes to the canvas."""

    def __init__(self, *args: Any, ui: Any = None):
        self.args, self.ui = args, ui

    @property
    def result(self) -> tuple | None:
        return self.args or None

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class _Lockable(type):
    """A class that can be locked: ComfyUI refuses state on node classes, and so does this host."""

    def __setattr__(cls, name: str, value: Any) -> None:
        if cls.__dict__.get("_locked"):
            raise AttributeError(f"Cannot set {name!r} on {cls.__name__}: a node class keeps no state")
        super().__setattr__(name, value)


class ComfyNode(metaclass=_Lockable):
    """Base of all nodes. The executor calls class methods on a locked clone with `hidden` filled in."""

    hidden: HiddenHolder = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        raise NotImplementedError

    # Optional, as in ComfyUI: validate_inputs(**kwargs) -> bool | str and fingerprint_inputs(**kwargs) -> Any.

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # ComfyUI's name
        return cls.define_schema()


def locked_clone(node: type[ComfyNode], hidden: dict[str, Any]) -> type[ComfyNode]:
    """The class that one call of a node runs on."""
    return type(node)(node.__name__, (node,), {"hidden": HiddenHolder(hidden), "_locked": True})
