"""Measure remedies for seams and drift on the bundled model: python -m scripts.continuity [--minutes 1] [--model FILE]

Only what helped is in llia_core; the others live here, so that the comparison can be repeated. Each variant changes one
thing of the session. seam: change of the mouth at clip joins over the change inside clips (1.0: joins cannot be seen).
flicker: mean change between frames in silence, of 255. drift: PSNR in dB against the portrait outside the mouth, first
tenth of the session minus last.
"""

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from llia_core.benchmark import demo_samples, machine_name
from llia_core.evaluation import drift_and_seams, portrait_case
from llia_core.model.load import load_model
from llia_core.session import Clip, Session

FADE = 2  # frames that the cross-fade lasts


class Kept(Session):
    """What llia_core does: temporal layers carry their state, one noise pattern for all frames."""


class ColdClips(Session):
    """Every clip starts without a past."""

    def denoise(self, clip: Clip):
        self.state.motion = [[] for _ in self.timesteps]
        return super().denoise(clip)


class FreshNoise(Session):
    """New noise for every clip, shared by its frames."""

    def denoise(self, clip: Clip):
        generator = torch.Generator().manual_seed(clip.start)
        self.noise = torch.randn(self.noise.shape, generator=generator)
        return super().denoise(clip)


class FreshNoiseColdClips(ColdClips, FreshNoise):
    """Both of the above."""


class NoisyPast(Session):
    """Noise on the carried state, as models are trained with that feed on their own frames."""

    def denoise(self, clip: Clip):
        generator = torch.Generator().manual_seed(clip.start)
        self.state.motion = [
            [t + 0.2 * t.std() * torch.randn(t.shape, generator=generator) for t in step] for step in self.state.motion
        ]
        return super().denoise(clip)


class AnchoredStatistics(Session):
    """Latents of every frame are given the reference's mean and deviation, channel by channel."""

    def denoise(self, clip: Clip):
        out = super().denoise(clip)
        reference = self.condition.latents[:, None]
        mean, std = (f(reference) for f in (_mean, _std))
        return replace(out, x0=(out.x0 - _mean(out.x0)) / _std(out.x0) * std + mean)


class CrossFade(ColdClips):
    """Clips without a past whose first FADE frames fade in from the last one before, in latent space and flow."""

    def denoise(self, clip: Clip):
        out = super().denoise(clip)
        before = getattr(self, "_before", None)
        for k in range(min(FADE, len(clip.labels)) if before is not None else 0):
            share = (FADE - k) / (FADE + 1)
            out.x0[:, k] = share * before.x0[:, -1] + (1 - share) * out.x0[:, k]
            out.flow[:, k] = share * before.flow[:, -1] + (1 - share) * out.flow[:, k]
        self._before = out
        return out


def _mean(x: Tensor) -> Tensor:
    return x.mean((-1, -2), keepdim=True)


def _std(x: Tensor) -> Tensor:
    return x.std((-1, -2), keepdim=True)


VARIANTS = (Kept, ColdClips, FreshNoise, FreshNoiseColdClips, NoisyPast, AnchoredStatistics, CrossFade)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=0.5)
    arguments.add_argument("--model")
    arguments.add_argument("--steps", type=int, default=1)
    options = arguments.parse_args()
    model, case = load_model(options.model), portrait_case(demo_samples(8.0))
    print(f"{machine_name()}, {options.steps} steps, {options.minutes:g} minutes")
    print(f"{'':>22} {'seam':>6} {'flicker':>8} {'drift':>7}")
    for kind in VARIANTS:
        figures = drift_and_seams(model, case, options.steps, options.minutes, kind)
        session = kind(model, case.portrait, options.steps, behaviour=0.0)
        still = torch.cat(list(session.chunks([torch.zeros(3 * 16_000)]))).float()
        flicker = float(still.diff(dim=0).abs().mean())
        print(
            f"{kind.__name__:>22} {figures['seam_ratio']:>6.3f} {flicker:>8.4f} {figures['identity_drift_db']:>7.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
