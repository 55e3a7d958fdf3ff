"""THE data flow: audio is pushed in, frames come out. A file is the same session, fed block by block.

samples -> ring -> state labels -> chunk plan -> speech features -> few-step denoiser -> decoder -> composer -> frames
portrait -> reference cache (once) -----------------------^
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .audio import SAMPLES_PER_FRAME, SampleRing, frame_count, frame_energy
from .behaviour import CONTROLS, Behaviour
from .compose import Composer
from .model.avatar import Avatar, Prediction
from .portrait import Portrait
from .sampling.chunks import ChunkPlanner
from .sampling.consistency import sample_consistency
from .sampling.schedule import make_schedule, trailing_timesteps
from .speech import EncodedSpeech, SpeechEncoder
from .states import IDLE, LISTENING, LOOKAHEAD, KnownLabels, StateLabeller
from .timeline import Timeline
from .warp import SLIDERS

PAST, FUTURE = 2, 2  # frames that a frame's audio window reaches to either side
STATE_VERSION = 1


@dataclass
class SessionState:
    """All that lives from chunk to chunk; everything else follows from model, portrait and settings."""

    ring: SampleRing = field(default_factory=SampleRing)
    labeller: StateLabeller | KnownLabels = field(default_factory=StateLabeller)
    behaviour: Behaviour = field(default_factory=Behaviour)
    planner: ChunkPlanner = field(default_factory=ChunkPlanner)
    labels: list[int] = field(default_factory=list)  # of frames from `frame` on
    frame: int = 0  # frames made
    motion: list[list[Tensor]] = field(default_factory=list)  # per step, what the temporal layers carry


@dataclass(frozen=True)
class Clip:
    """The n frames from `start` on before they are made. windows: (1, n, window, layers, channels) of speech features.
    sliders: (n, 13) of the face warp."""

    start: int
    labels: list[int]
    windows: Tensor
    sliders: Tensor


class Session:
    """Streams frames of one portrait speaking.

    steps: 1 to 8 denoising steps a frame. seed: noise and behaviour. behaviour: 0 still, 1 natural. timeline: labels
    that are known; elsewhere they are heard. first, largest: frames of the first and of the longest chunk. carry: the
    temporal layers remember the chunk before; without, every chunk begins anew. should_stop() is asked before every
    chunk, and if true no more frames come. encoder, labels: for sound that was read already (see stream.py).
    """

    def __init__(
        self,
        model: Avatar,
        portrait: Portrait,
        steps: int = 1,
        seed: int = 0,
        behaviour: float = 1.0,
        timeline: Timeline | None = None,
        first: int = 2,
        largest: int = 16,
        should_stop: Callable[[], bool] = lambda: False,
        carry: bool = True,
        encoder: SpeechEncoder | EncodedSpeech | None = None,
        labels: Sequence[int] | None = None,
    ):
        self.model, self.portrait, self.encoder, self.carry = model, portrait, encoder or model.speech, carry
        self.seed, self.timeline, self.should_stop = seed, timeline or Timeline(), should_stop
        self.timesteps, self.schedule = trailing_timesteps(steps), make_schedule()
        self._fresh = lambda: SessionState(
            labeller=StateLabeller() if labels is None else KnownLabels(labels),
            behaviour=Behaviour(seed, behaviour),
            planner=ChunkPlanner(first, largest),
            motion=[[] for _ in range(steps)],
        )
        parameter = next(model.denoising_unet.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        with torch.inference_mode():
            seen = (part[None].to(self.device, self.dtype) for part in (portrait.region, portrait.masks, portrait.lips))
            self.condition = model.reference(*seen)
        self.composer = Composer(portrait, self.condition.cavity[0].float().cpu())
        self.noise = self._noise(steps)
        self.silence = self.encoder.silence()
        self.reset()

    @property
    def lookahead(self) -> int:
        """Frames of sound that must have arrived beyond a frame before it is made (40 ms each)."""
        return max(FUTURE + self.encoder.config.lookahead, LOOKAHEAD)

    def reset(self) -> None:
        """Start anew with the same portrait and settings."""
        self.state = self._fresh()

    def push(self, samples: Tensor, other: Tensor | None = None) -> Tensor:
        """(n,) float samples at 16 kHz (and as many of the other person's) -> the frames due, uint8 (f, S, S, 3)."""
        return self._collect(self.chunks([samples], None if other is None else [other], finish=False))

    def finish(self) -> Tensor:
        """No more sound: the frames still due, so that there are frame_count(samples) in all."""
        return self._collect(self.chunks([]))

    def chunks(
        self, blocks: Iterable[Tensor], others: Iterable[Tensor] | None = None, finish: bool = True
    ) -> Iterator[Tensor]:
        """Blocks of samples in, chunks of frames out as soon as each can be made; memory stays flat."""
        for clip in self.clips(blocks, others, finish):
            yield self.decode(clip, self.denoise(clip))

    def clips(
        self, blocks: Iterable[Tensor], others: Iterable[Tensor] | None = None, finish: bool = True
    ) -> Iterator[Clip]:
        """The first stage alone: blocks of samples in, clips to denoise out. `pipeline.py` runs the stages apart."""
        state = self.state
        other = iter(others) if others is not None else None
        for block in blocks:
            state.ring.push(block)
            self._take_labels(state.labeller.push(block, next(other) if other is not None else None))
            yield from self._make_ready()
        if finish and not state.ring.ended:
            state.ring.end()
            self._take_labels(state.labeller.finish())
            yield from self._make_ready()

    def _take_labels(self, heard: list[int]) -> None:
        state = self.state
        state.labels += self.timeline.apply(state.frame + len(state.labels), heard)

    def _make_ready(self) -> Iterator[Clip]:
        state = self.state
        while not self.should_stop():
            ended = state.ring.ended
            if ended:
                available = frame_count(state.ring.total) - state.frame
            else:
                available = self.encoder.frames_ready(state.ring.total, False) - FUTURE - state.frame
            available = max(0, min(available, len(state.labels)))
            count = state.planner.next(available, state.labels, ended)
            if count == 0:
                return
            yield self._listen(count)

    @torch.inference_mode()
    def _listen(self, count: int) -> Clip:
        """What the next `count` frames shall say and do; their sound is then let go."""
        state, start = self.state, self.state.frame
        labels, state.labels = state.labels[:count], state.labels[count:]
        features = self.encoder.encode(state.ring, start - PAST, start + count + FUTURE)
        windows = features.unfold(0, PAST + 1 + FUTURE, 1).permute(0, 3, 1, 2)[None].clone()
        # What is heard while we listen is somebody else's voice; and who is told to be idle does not speak either.
        mute = [label == LISTENING or self.timeline.label(start + i) == IDLE for i, label in enumerate(labels)]
        windows[:, mute] = self.silence
        sound = state.ring.window(start * SAMPLES_PER_FRAME, (start + count) * SAMPLES_PER_FRAME)
        sliders = self._sliders(state.behaviour.step(labels, frame_energy(sound)))
        state.frame += count
        oldest = state.frame - PAST - self.encoder.config.context - self.encoder.config.block
        state.ring.discard_before(max(0, min(oldest * SAMPLES_PER_FRAME, state.ring.total)))
        return Clip(start, labels, windows, sliders)

    @torch.inference_mode()
    def denoise(self, clip: Clip) -> Prediction:
        """The clip's latents and flow; clips must come in their order, each once."""
        model, count = self.model, len(clip.labels)
        if not self.carry:
            self.state.motion = [[] for _ in self.timesteps]
        audio = model.project_audio(clip.windows.to(self.device, self.dtype))
        states = torch.tensor([clip.labels], device=self.device)
        last: list[Prediction] = []

        def predict_x0(noisy: Tensor, timestep: int) -> Tensor:
            step = self.timesteps.index(timestep)
            at = torch.full((1,), timestep, device=self.device)
            out = model.predict(noisy, at, audio, states, self.condition, self.state.motion[step] or None)
            self.state.motion[step] = out.motion
            last[:] = [out]
            return out.x0

        noise = [n.expand(1, count, -1, -1, -1) for n in self.noise]
        x0 = sample_consistency(predict_x0, noise[0], self.timesteps, self.schedule, noise[1:])
        final = last[0]
        return replace(final, x0=x0)

    @torch.inference_mode()
    def decode(self, clip: Clip, prediction: Prediction) -> Tensor:
        """A clip and what `denoise` made of it -> frames, uint8 (n, S, S, 3)."""
        difference = self.model.difference(prediction)
        parts = (part[0].float().cpu() for part in (prediction.flow, prediction.inside, difference))
        return self.composer(*parts, clip.sliders)

    def _noise(self, steps: int) -> Tensor:
        """(steps, 1, 1, c, h, w): one pattern a step for all frames of the session, as fresh noise would flicker."""
        generator = torch.Generator().manual_seed(self.seed)
        config = self.model.config
        shape = (steps, 1, 1, config.autoencoder.latent_channels, config.latent_size, config.latent_size)
        return torch.randn(shape, generator=generator).to(self.device, self.dtype)

    @staticmethod
    def _sliders(controls: Tensor) -> Tensor:
        sliders = torch.zeros(len(controls), len(SLIDERS))
        sliders[:, [SLIDERS.index(name) for name in CONTROLS]] = controls
        return sliders

    def _collect(self, chunks: Iterator[Tensor]) -> Tensor:
        size = self.portrait.size
        return torch.cat([torch.zeros(0, size, size, 3, dtype=torch.uint8), *chunks])

    def state_dict(self) -> dict:
        """Everything needed to go on later, in another process even, with the same model, portrait and settings."""
        state = self.state
        return {
            "version": STATE_VERSION,
            "seed": self.seed,
            "ring": state.ring.state_dict(),
            "labeller": state.labeller.state_dict(),
            "behaviour": state.behaviour.state_dict(),
            "planner": state.planner.state_dict(),
            "labels": list(state.labels),
            "frame": state.frame,
            "motion": [[t.clone() for t in step] for step in state.motion],
        }

    def load_state_dict(self, saved: dict) -> None:
        """Go on where `state_dict` was taken. Raises ValueError if it belongs to other settings."""
        if (
            saved.get("version") != STATE_VERSION
            or saved["seed"] != self.seed
            or len(saved["motion"]) != len(self.timesteps)
        ):
            raise ValueError(
                f"the saved session has version {saved.get('version')}, seed {saved.get('seed')} and "
                f"{len(saved.get('motion', []))} steps; "
                f"this one has {STATE_VERSION}, {self.seed} and {len(self.timesteps)}"
            )
        self.reset()
        state = self.state
        for part in ("ring", "labeller", "behaviour", "planner"):
            getattr(state, part).load_state_dict(saved[part])
        state.labels, state.frame = list(saved["labels"]), int(saved["frame"])
        state.motion = [[t.clone().to(self.device) for t in step] for step in saved["motion"]]
