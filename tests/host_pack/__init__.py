"""A small pack for the tests of the host: each node has one property that the host must honour."""

import threading

from comfy.utils import ProgressBar
from comfy_api.latest import ComfyExtension, io, ui

WEB_DIRECTORY = "./web"
calls = []  # node ids in the order in which they ran
release = threading.Event()  # lets Slow go on


class Number(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Number",
            display_name="Test Number",
            category="test",
            search_aliases=["constant"],
            inputs=[
                io.Int.Input("value", default=1, min=0, max=10, tooltip="A number."),
                io.Combo.Input("kind", options=["plain", "negative"], default="plain"),
                io.Int.Input("seed", default=0, control_after_generate=True),
            ],
            outputs=[io.Custom("TEST_NUMBER").Output(display_name="number")],
        )

    @classmethod
    def execute(cls, value, kind, seed):
        calls.append("Number")
        return io.NodeOutput(-value if kind == "negative" else value)


class Add(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        number = io.Custom("TEST_NUMBER")
        return io.Schema(
            node_id="Test_Add",
            category="test",
            inputs=[number.Input("a"), number.Input("b", optional=True)],
            outputs=[number.Output()],
        )

    @classmethod
    def execute(cls, a, b=0):
        calls.append("Add")
        return io.NodeOutput(a + b)


class Show(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Show",
            display_name="Test Show",
            category="test",
            inputs=[io.MultiType.Input("value", types=[io.Custom("TEST_NUMBER"), io.String])],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value):
        calls.append("Show")
        return io.NodeOutput(ui=ui.PreviewText(f"{cls.hidden.unique_id}: {value}"))


class Slow(io.ComfyNode):
    """Reports progress until it is interrupted or released."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Slow",
            category="test",
            inputs=[io.Int.Input("steps", default=3)],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, steps):
        bar = ProgressBar(steps)
        for _ in range(steps):
            bar.update(1)
            release.wait(0.05)
        calls.append("Slow")
        return io.NodeOutput()

    @classmethod
    def fingerprint_inputs(cls, steps):
        return float("nan")


class Fails(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Fails",
            category="test",
            inputs=[io.String.Input("why", default="no reason")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, why):
        if why == "state":
            cls.remembered = 1
        raise ValueError(why)

    @classmethod
    def validate_inputs(cls, why):
        return True if why != "invalid" else "why must have a reason"


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [Number, Add, Show, Slow, Fails]


async def comfy_entrypoint():
    return TestExtension()
