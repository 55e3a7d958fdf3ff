"""What every training stage shares: resume, EMA, mixed precision on CUDA, progress bar, metrics.csv, a time limit."""

import csv
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, autocast, nn


@dataclass
class Run:
    """One stage's folder and limits. `minutes` ends this call early; the same command resumes it later."""

    folder: Path
    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    ema_decay: float = 0.999
    minutes: float = 0.0
    save_every: int = 250
    device: str = "cpu"


class Ema:
    """Exponential moving average of a module's parameters, with the usual ramp at the start."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.values = decay, {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[key].lerp_(value, 1 - decay)
            else:
                self.values[key].copy_(value)


def cosine_lr(step: int, run: Run) -> float:
    """Linear warm-up, then a cosine to 3 % of the peak."""
    if step < run.warmup:
        return run.learning_rate * (step + 1) / run.warmup
    progress = min(1.0, (step - run.warmup) / max(1, run.steps - run.warmup))
    return run.learning_rate * (0.03 + 0.97 * 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item()))


def train(
    run: Run,
    module: nn.Module,
    batches: Iterator,
    loss_of: Callable[[int, object], dict[str, Tensor]],
    on_save: Callable[[int, dict[str, Tensor]], dict[str, float]] = lambda step, ema: {},
) -> dict[str, Tensor]:
    """Optimise `module` by the sum of the terms `loss_of(step, batch)` returns; the EMA weights come back.

    `on_save(step, ema_weights)` is called at every save; what it returns goes into metrics.csv beside the losses.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    module.to(run.device).train()
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], run.learning_rate, (0.9, 0.98))
    ema = Ema(module, run.ema_decay)
    begin = _resume(run, module, optimizer, ema)
    started, sums, count = time.monotonic(), {}, 0
    for step in _progress(range(begin, run.steps), run):
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(step, run)
        with autocast("cuda", torch.bfloat16) if run.device.startswith("cuda") else nullcontext():
            losses = loss_of(step, next(batches))
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        average_gradients(module)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        ema.update(module, step)
        for name, value in losses.items():  # not every step has every term
            sums[name] = sums.get(name, 0.0) + value.item()
        count += 1
        out_of_time = run.minutes > 0 and any_process(time.monotonic() - started > run.minutes * 60)
        due = (step + 1) % run.save_every == 0 or step + 1 == run.steps or out_of_time
        if due and rank() == 0:
            _save(run, module, optimizer, ema, step + 1)
            seconds, means = time.monotonic() - started, {k: v / count for k, v in sums.items()}
            _log(run, step + 1, seconds, means, on_save(step + 1, ema.values))
            sums, count = {}, 0
            module.train()
        if out_of_time:
            break
    return ema.values


def rank() -> int:
    """Number of this process when started by torchrun with several, else 0. Data seeds are shifted by it."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(batch: int) -> int:
    """This process's part of a batch."""
    return max(1, batch // dist.get_world_size()) if dist.is_initialized() else batch


def join_processes() -> None:
    """Connect to the other processes if torchrun started several (for example one a core, or one a GPU)."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def any_process(flag: bool) -> bool:
    """Whether it holds in any process: what ends the work must end it in all of them at the same step."""
    if not dist.is_initialized():
        return flag
    votes = torch.tensor(float(flag))
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return bool(votes)


def average_gradients(module: nn.Module) -> None:
    """Mean of the gradients over all processes, in one message; parameters without one count as zero."""
    if not dist.is_initialized():
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(part.view_as(p))


def _progress(steps: range, run: Run) -> Iterable[int]:
    from tqdm import tqdm

    shown = {"desc": run.folder.name, "initial": steps.start, "total": run.steps, "unit": "step", "mininterval": 5}
    return tqdm(steps, disable=rank() > 0, **shown)


def _resume(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema) -> int:
    path = run.folder / "state.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, map_location=run.device, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    ema.values = state["ema"]
    return state["step"]


def _save(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema, step: int) -> None:
    state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.values, "step": step}
    temporary = run.folder / "state.pt.part"
    torch.save(state, temporary)
    temporary.replace(run.folder / "state.pt")


def _log(run: Run, step: int, seconds: float, losses: dict[str, float], metrics: dict[str, float]) -> None:
    path = run.folder / "metrics.csv"
    row = {"step": step, "seconds": round(seconds, 1), **{k: round(v, 5) for k, v in (losses | metrics).items()}}
    rows = list(csv.DictReader(path.open(newline=""))) if path.is_file() else []
    # Not every step has every term, nor has a resumed run the same ones: the header is the union.
    names = list(dict.fromkeys([name for old in rows for name in old] + list(row)))
    temporary = path.with_suffix(".part")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows([*rows, row])
    temporary.replace(path)
    print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
