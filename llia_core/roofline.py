"""How fast this machine could be: operations and bytes of a model counted, matrix and copy rates measured.

Roofline after Williams et al. (2009): a stage takes at least as long as its multiplications at the machine's measured
matrix rate, and at least as long as its weights, inputs and outputs at the measured copy rate, if nothing between two
layers had to touch memory. Share reached = that floor over the measured time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MATRIX = {"cpu": 1024, "cuda": 8192}  # side of the square matrices
COPY_BYTES = {"cpu": 2**27, "cuda": 2**30}


@dataclass(frozen=True)
class Work:
    """Of one call: floating-point operations (2 for each multiplication with its sum), bytes that must move."""

    operations: float
    bytes: float

    def floor_s(self, rates: "Rates", precision: str) -> float:
        """Seconds that this takes at least; integer layers at the integer rate, their bytes as counted in float."""
        return max(self.operations / rates.matrix[precision], self.bytes / rates.copy)


@dataclass(frozen=True)
class Rates:
    """matrix: operations a second by precision. copy: bytes a second, read and written counted each."""

    matrix: dict[str, float]
    copy: float


def count_work(call: Callable[[], Any], modules: list[nn.Module]) -> Work:
    """Operations of `call()` on a float model, and the bytes of its `modules`' weights, inputs and outputs."""
    moved = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())

    def see(module: nn.Module, inputs: tuple, output: Any) -> None:
        nonlocal moved
        for value in (*inputs, *(output if isinstance(output, tuple) else (output,))):
            if isinstance(value, torch.Tensor):
                moved += value.numel() * value.element_size()

    hooks = [module.register_forward_hook(see) for module in modules]
    try:
        with FlopCounterMode(display=False) as counter:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return Work(float(counter.get_total_flops()), float(moved))


def measure_rates(device: str) -> Rates:
    """Best of a few runs of square matrix products and of a copy, with torch's own operators and threads."""
    kind = torch.device(device).type
    side = MATRIX[kind]
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    work = 2.0 * side**3
    matrix = {"float32": work / best_of(lambda: a @ b, device)}
    half = a.bfloat16(), b.bfloat16()
    if kind == "cuda":
        matrix["bfloat16"] = work / best_of(lambda: half[0] @ half[1], device)
    integer = _integer_product(kind, side, device)
    if integer is not None:
        matrix["int8"] = work / best_of(integer, device)
    source = torch.zeros(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(matrix, 2 * len(source) / best_of(lambda: target.copy_(source), device))


def _integer_product(kind: str, side: int, device: str) -> Callable[[], Any] | None:
    from .int8_kernels import has_onednn

    if kind == "cuda":
        q = torch.ones(side, side, dtype=torch.int8, device=device)
        return lambda: torch._int_mm(q, q.t())
    if not has_onednn():
        return None
    x, weight = torch.ones(side, side, dtype=torch.uint8), torch.ones(side, side, dtype=torch.int8)
    packed, scale = torch.ops.onednn.qlinear_prepack(weight, None), torch.ones(side)
    zero = torch.zeros(side, dtype=torch.int32)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 0, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )


def synchronize(device: str | torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def best_of(call: Callable[[], Any], device: str, runs: int = 25) -> float:
    """Shortest seconds of a few runs, after one to warm up."""
    call()
    times = []
    for _ in range(runs):
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times)
