"""Synthetic speech with exact phoneme times: espeak-ng (formant voices, several languages) and flite (recorded voices).

espeak-ng comes as a Python package (espeakng-loader); flite is an optional system package whose voices are
statistical models of real speakers, which carries the audio encoder closer to human voices.
"""

import ctypes
import io
import re
import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ...audio import SAMPLE_RATE, frame_count, to_mono_16k
from .articulation import Phoneme, articulation_track, visemes_of
from .text import random_sentence

ESPEAK_LANGUAGES = ("en-us", "en", "en-us", "en-gb-scotland", "de", "fr", "es", "it")
ESPEAK_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "Annie", "Alex", "Andy", "Andrea", "Denis",
    "Gene", "Lee", "Michael", "Reed", "Hugo", "Jacky", "belinda", "boris", "david", "grandma", "ian", "john", "klatt",
    "linda", "max", "michel", "miguel", "pablo", "paul", "quincy", "robert", "sandro", "shelby", "steph", "travis",
    "victor", "zac",
)  # fmt: skip
HELD_OUT_VARIANTS = ("m8", "f5", "anika", "edward", "marcelo", "norbert")
FLITE_VOICES = ("slt", "rms", "kal16")
HELD_OUT_FLITE = ("awb",)
_ESPEAK_CHUNK_MS = 200


@dataclass(frozen=True)
class Utterance:
    """`samples` (n,) float32 at 16 kHz, its phonemes, and the articulation (frames, 7) they ask for at 25 fps."""

    samples: np.ndarray
    phonemes: tuple[Phoneme, ...]
    articulation: np.ndarray
    voice: str
    text: str


def random_utterance(rng: np.random.Generator, held_out: bool = False) -> Utterance:
    """A random sentence by a random voice. `held_out` draws voices and sentences that training never sees."""
    text = random_sentence(rng, held_out)
    if flite_available() and rng.random() < 0.5:
        voice = str(rng.choice(HELD_OUT_FLITE if held_out else FLITE_VOICES))
        samples, phonemes = _flite(text, voice, stretch=float(rng.uniform(0.8, 1.3)))
        if not held_out:  # a change of speed shifts pitch and formants together: another speaker
            samples, phonemes = _change_speed(samples, phonemes, float(rng.uniform(0.84, 1.2)))
    else:
        language = "en-us" if held_out else str(rng.choice(ESPEAK_LANGUAGES))
        variant = str(rng.choice(HELD_OUT_VARIANTS if held_out else ESPEAK_VARIANTS))
        voice = f"{language}+{variant}"
        pitch, spread, rate = int(rng.integers(25, 80)), int(rng.integers(30, 80)), int(rng.integers(130, 210))
        samples, phonemes = _espeak(text, voice, pitch, spread, rate)
    frames = frame_count(len(samples))
    return Utterance(samples, tuple(phonemes), articulation_track(phonemes, frames, samples), voice, text)


def speak(text: str, voice: str = "en-us+f3") -> Utterance:
    """One given sentence: `voice` is a flite voice's name or an espeak-ng one as language+variant."""
    if voice in FLITE_VOICES + HELD_OUT_FLITE:
        samples, phonemes = _flite(text, voice, 1.0)
    else:
        samples, phonemes = _espeak(text, voice, 50, 50, 165)
    return Utterance(
        samples, tuple(phonemes), articulation_track(phonemes, frame_count(len(samples)), samples), voice, text
    )


def silence(seconds: float, rng: np.random.Generator) -> Utterance:
    """Nobody speaks: room noise, hum or nothing, and a mouth at rest."""
    samples = (rng.standard_normal(int(seconds * SAMPLE_RATE)) * 10 ** rng.uniform(-5, -2.3)).astype(np.float32)
    frames = frame_count(len(samples))
    phonemes = (Phoneme("sil", 0.0, seconds),)
    return Utterance(samples, phonemes, articulation_track(list(phonemes), frames), "none", "")


def flite_available() -> bool:
    return shutil.which("flite") is not None


def _change_speed(samples: np.ndarray, phonemes: list[Phoneme], factor: float) -> tuple[np.ndarray, list[Phoneme]]:
    # Rounded to 5 % so that the resampler's filters stay small.
    up = round(factor * 20)
    changed = to_mono_16k(torch.from_numpy(samples)[None], SAMPLE_RATE * up // 20).numpy()
    return changed, [Phoneme(p.viseme, p.start_s * 20 / up, p.stop_s * 20 / up) for p in phonemes]


def _flite(text: str, voice: str, stretch: float) -> tuple[np.ndarray, list[Phoneme]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [
            "flite",
            "-voice",
            voice,
            "--setf",
            f"duration_stretch={stretch:.3f}",
            "-psdur",
            "-t",
            text,
            str(path),
        ]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        samples = _read_wav(path.read_bytes())
    phonemes, start = [], 0.0
    for symbol, stop in re.findall(r"([a-z]+):([0-9.]+)", printed):
        phonemes += _split(visemes_of(symbol, "arpabet"), start, float(stop))
        start = float(stop)
    return samples, phonemes


def _read_wav(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
        return to_mono_16k(torch.from_numpy(pcm)[None], file.getframerate()).numpy()


def _split(visemes: tuple[str, ...], start: float, stop: float) -> list[Phoneme]:
    edges = np.linspace(start, stop, len(visemes) + 1)
    return [Phoneme(v, float(a), float(b)) for v, a, b in zip(visemes, edges[:-1], edges[1:], strict=True)]


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_EVENT_END, _EVENT_PHONEME = 0, 7


@lru_cache(maxsize=1)
def _espeak_library() -> tuple[ctypes.CDLL, int]:
    """The library and its sample rate. espeak-ng is a process-wide engine: one instance, used serially."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    phoneme_events, ipa = 1, 2
    rate = library.espeak_Initialize(
        2, _ESPEAK_CHUNK_MS, str(espeakng_loader.get_data_path()).encode(), phoneme_events | ipa
    )
    if rate <= 0:
        raise RuntimeError("espeak-ng did not start; reinstall the package: pip install espeakng-loader")
    return library, rate


def _espeak(text: str, voice: str, pitch: int, spread: int, words_per_minute: int) -> tuple[np.ndarray, list[Phoneme]]:
    library, rate = _espeak_library()
    pcm: list[np.ndarray] = []
    marks: list[tuple[float, str]] = []

    def receive(wave_pointer, count, events):
        if wave_pointer and count:
            pcm.append(np.ctypeslib.as_array(wave_pointer, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                marks.append((events[i].audio_position / 1000, events[i].id.string.decode("utf-8", "ignore")))
            i += 1
        return 0

    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice!r}")
    for parameter, value in ((1, words_per_minute), (3, pitch), (4, spread)):
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1, None, None)
    library.espeak_Synchronize()
    samples = np.concatenate(pcm).astype(np.float32) / 32768
    stops = [start for start, _ in marks[1:]] + [len(samples) / rate]
    phonemes: list[Phoneme] = []
    for (start, symbol), stop in zip(marks, stops, strict=True):
        if stop > start:
            phonemes += _split(visemes_of(symbol, "ipa"), start, stop)
    return to_mono_16k(torch.from_numpy(samples)[None], rate).numpy(), phonemes
