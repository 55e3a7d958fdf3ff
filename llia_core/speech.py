"""wav2vec 2.0 features per video frame (Baevski et al. 2020, 2006.11477), whole and streaming.

Features are always computed in windows of fixed place: block k holds video frames [k*block, (k+1)*block) and sees
`context` frames before and `lookahead` frames after it. A whole file and a stream run through the same windows, so they
give the same numbers. Large models read wav2vec 2.0's hidden states; the bundled one reads mouth shapes (mouth_net.py),
in blocks of one frame.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .audio import SAMPLES_PER_FRAME, SampleRing, frame_count
from .mouth_net import MouthNet, MouthNetConfig


@dataclass(frozen=True)
class SpeechConfig:
    """Which network, and how it is cut into windows; spans are in video frames (40 ms).

    wav2vec: transformers' Wav2Vec2Config values; empty: MouthNet, whose values `mouth` holds. layers: how many of the
    last hidden states of wav2vec 2.0 are the features. normalize: zero mean and unit variance per window.
    """

    wav2vec: dict = field(default_factory=dict)
    mouth: dict = field(default_factory=dict)
    block: int = 1
    context: int = 0
    lookahead: int = 0
    layers: int = 0
    normalize: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, channels) of a frame's features."""
        return (self.layers, self.wav2vec["hidden_size"]) if self.wav2vec else (1, self.mouth["shapes"])

    @property
    def window(self) -> int:
        return self.context + self.block + self.lookahead


def tiny_speech_config() -> SpeechConfig:
    """The bundled encoder: 1.1 M parameters that hear one second back and 80 ms ahead.

    A video model that takes mouth shapes is trained on true ones, and either part can be improved without the other.
    """
    mouth, lookahead = MouthNetConfig(), 2
    return SpeechConfig(mouth=asdict(mouth), context=mouth.span - 1 - lookahead, lookahead=lookahead)


def resample_features(features: Tensor, frames: int) -> Tensor:
    """Features of the convolutions (n, channels, time) at the video's clock, (n, channels, frames), as in Hallo."""
    return F.interpolate(features, size=frames, mode="linear", align_corners=True)


class SpeechEncoder(nn.Module):
    """16 kHz samples -> (frames, layers, channels) at 25 fps."""

    def __init__(self, config: SpeechConfig):
        super().__init__()
        self.config = config
        if config.wav2vec:
            from transformers import Wav2Vec2Config, Wav2Vec2Model

            self.wav2vec = Wav2Vec2Model(Wav2Vec2Config(**config.wav2vec))
        else:
            self.mouth = MouthNet(MouthNetConfig.from_dict(config.mouth))

    def forward(self, samples: Tensor) -> Tensor:
        """(n, frames * 640) -> features of the frames that have their context and lookahead in it.

        The shape is (n, frames - context - lookahead, layers, channels).
        """
        config = self.config
        if not config.wav2vec:
            return self.mouth(samples)[:, :, None]
        frames = samples.shape[-1] // SAMPLES_PER_FRAME
        if config.normalize:
            samples = (samples - samples.mean(-1, keepdim=True)) / (samples.var(-1, keepdim=True) + 1e-7).sqrt()
        extracted = self.wav2vec.feature_extractor(samples)
        extracted = resample_features(extracted, frames)
        hidden = self.wav2vec.feature_projection(extracted.transpose(1, 2))[0]
        states = self._hidden_states(hidden)
        return torch.stack(states[-config.layers :], dim=2)[:, config.context : frames - config.lookahead]

    def _hidden_states(self, hidden: Tensor) -> list[Tensor]:
        encoder = self.wav2vec.encoder
        stable = self.config.wav2vec.get("do_stable_layer_norm", False)
        hidden = hidden + encoder.pos_conv_embed(hidden)
        if not stable:
            hidden = encoder.layer_norm(hidden)
        states = []
        for layer in encoder.layers:
            out = layer(hidden)
            hidden = out[0] if isinstance(out, tuple) else out
            states.append(hidden)
        if stable:
            states[-1] = encoder.layer_norm(states[-1])
        return states

    def frames_ready(self, num_samples: int, ended: bool) -> int:
        """How many leading frames can be encoded once `num_samples` have arrived."""
        if ended:
            return frame_count(num_samples)
        blocks = (num_samples // SAMPLES_PER_FRAME - self.config.lookahead) // self.config.block
        return max(0, blocks) * self.config.block

    @torch.inference_mode()
    def encode(self, ring: SampleRing, start: int, stop: int) -> Tensor:
        """Features of frames [start, stop) -> (stop - start, layers, channels). They must be ready (`frames_ready`)."""
        block, context = self.config.block, self.config.context
        first, last = start // block, -(-stop // block)
        if first >= last:
            return torch.zeros(0, *self.config.shape)
        begin = [(k * block - context) * SAMPLES_PER_FRAME for k in range(first, last)]
        windows = torch.stack([ring.window(b, b + self.config.window * SAMPLES_PER_FRAME) for b in begin])
        parameter = next(self.parameters())
        features = self(windows.to(parameter.device, parameter.dtype)).float().cpu()
        return features.flatten(0, 1)[start - first * block : stop - first * block]

    def encode_all(
        self, samples: Tensor, before: int = 0, after: int = 0, on_progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """A whole recording (num_samples,) -> (before + frame_count + after, layers, channels), batch by batch.

        before, after: frames of silence beyond the recording's ends that are encoded too. on_progress(done, total) is
        called after every batch; what it raises ends the work.
        """
        ring = SampleRing()
        ring.push(samples)
        ring.end()
        stop, step = frame_count(len(samples)) + after, max(64, self.config.block)
        parts = []
        for start in range(-before, stop, step):
            parts.append(self.encode(ring, start, min(start + step, stop)))
            if on_progress is not None:
                on_progress(min(start + step, stop) + before, stop + before)
        return torch.cat(parts) if parts else torch.zeros(0, *self.config.shape)

    def silence(self) -> Tensor:
        """(layers, channels) of a frame amid silence."""
        return self.encode_all(torch.zeros(self.config.window * SAMPLES_PER_FRAME))[-1]

    def to_metadata(self) -> dict:
        return asdict(self.config)


@dataclass(frozen=True)
class EncodedSpeech:
    """Features of a recording that was encoded already, to be looked up where a SpeechEncoder would compute them.

    features: (margin + frames + margin, layers, channels), `margin` frames of silence at either end. silent:
    (layers, channels) of silence. config: the encoder's.
    """

    features: Tensor
    margin: int
    silent: Tensor
    config: SpeechConfig

    def silence(self) -> Tensor:
        return self.silent

    def frames_ready(self, num_samples: int, ended: bool) -> int:
        """All frames are there; their samples, which are pushed as ever, set the pace."""
        return frame_count(num_samples) if ended else num_samples // SAMPLES_PER_FRAME

    def encode(self, ring: SampleRing, start: int, stop: int) -> Tensor:
        """Features of frames [start, stop) -> (stop - start, layers, channels). The ring is not read."""
        if start < -self.margin or stop > len(self.features) - self.margin:
            frames = len(self.features) - 2 * self.margin
            raise IndexError(f"frames {start} to {stop} asked for, but {frames} were encoded (margin {self.margin})")
        return self.features[start + self.margin : stop + self.margin]
