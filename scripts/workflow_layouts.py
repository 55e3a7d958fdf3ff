"""What the example workflows consist of: nodes, where they stand, what they are connected to, and the notes beside.

Positions and sizes are pixels of the canvas; a node's position is below its title bar.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """type: node id. widgets: values other than the defaults. links: input -> (key of the other node, its output)."""

    type: str
    pos: tuple[int, int]
    width: int = 300
    height: int = 0  # 0: as high as slots and widgets need
    widgets: dict = field(default_factory=dict)
    links: dict[str, tuple[str, int]] = field(default_factory=dict)
    title: str = ""
    text: str = ""  # of a note
    models: tuple[dict[str, str], ...] = ()  # files that the canvas offers where they are missing


@dataclass(frozen=True)
class Layout:
    """groups: title, colour, keys of the nodes in it. picture: seconds of the video that the picture shows; none:
    without a picture."""

    nodes: dict[str, Node]
    groups: tuple[tuple[str, str, tuple[str, ...]], ...]
    picture: tuple[float, ...]
    scale: float = 0.62
    offset: tuple[int, int] = (120, 120)


NOTE_TALKING = """## Talking portrait

Press **Run**: the avatar speaks in *LLIA Streaming Preview* while it is being made.

- **Your own picture:** put *Load Image* in the place of *LLIA Avatar*.
- **Your own voice:** put *Load Audio* in the place of *LLIA Demo Speech*.
- *LLIA Sample* has speed (steps), seed and the amount of movement.

Press **?** on a node for its help."""
NOTE_EXPRESSION = """## Expression carried into the video

Drag a slider of *LLIA Edit Expression*: the face follows at once, without running
anything. **Run** then carries that expression through the whole video.

- The voice moves the jaw: *jaw* is for stills only.
- With every slider at 0 the picture stays as it is.
- *Load Image* instead of *LLIA Avatar* takes your own picture."""
NOTE_CONVERSATION = """## Conversation

Two recordings that start together: what the avatar says, and what the other person
says. *LLIA Label States* hears who speaks: the avatar **speaks**, **listens** (looks
at you, nods, mouth shut) or is **idle**. The strip shows it.

- A *timeline* overrules the sound: `0-1.5 listening; 1.5-6 speaking; 6- idle`
- Two avatars: copy the nodes, swap the voices, and turn *hear_other* off."""
NOTE_LONG = """## Long video to a file

*LLIA Save Stream* writes every chunk as soon as it is made: hours of video need no
more memory than a second. **Cancel** keeps what was made until then.

- *repeat* makes the demo long: 360 is an hour.
- Better: put *Load Audio* in its place, with your lecture or audio book."""

NOTE_PHOTOREAL = """## Photoreal portrait

Needs weights that are not part of this pack, and a GPU. Once:

1. Download what `docs/photoreal.md` lists (Hallo v1, MIT).
2. `python -m llia_core convert hallo FOLDER -o models/llia/hallo`
3. Press **R**, choose *hallo/model.safetensors* in *LLIA Load Model*.

- **Your own picture:** put *Load Image* in the place of *LLIA Avatar*.
- 10 steps are a compromise, 40 are what the weights were made for.
- *Load VAE* on the socket *vae* takes ComfyUI's own VAE."""
HALLO = {
    "name": "hallo/model.safetensors",
    "url": "https://huggingface.co/fudan-generative-ai/hallo",
    "directory": "llia",
}

FIRST, SECOND, THIRD, FOURTH, FIFTH = 0, 380, 740, 1100, 1620  # columns
AVATAR = (320, 640)  # width and height of nodes that show a picture
PLAYER = (460, 640)
LOW = 860  # y of the voice, below everything else
NOTE = (500, 270)


def portrait(seed: int, text: str) -> dict[str, Node]:
    """A drawn portrait, and the note at the foot."""
    return {
        "note": Node("MarkdownNote", (THIRD, LOW), *NOTE, title="Read me", text=text),
        "avatar": Node("LLIA_Avatar", (FIRST, 60), *AVATAR, widgets={"seed": seed}),
        "portrait": Node("LLIA_Portrait", (SECOND, 60), links={"image": ("avatar", 0)}),
    }


def voice(**widgets: object) -> dict[str, Node]:
    """A model, and a recording that it encodes."""
    return {
        "model": Node("LLIA_LoadModel", (FIRST, LOW), 320),
        "speech": Node("LLIA_DemoSpeech", (FIRST, LOW + 240), 320, widgets=widgets),
        "encode": Node("LLIA_EncodeAudio", (SECOND, LOW), links={"model": ("model", 0), "audio": ("speech", 0)}),
    }


TO_SAMPLE = {"model": ("model", 0), "portrait": ("portrait", 0), "speech": ("encode", 0)}
PORTRAIT = ("Portrait", "portrait", ("avatar", "portrait"))
VOICE = ("Voice", "voice", ("model", "speech", "encode"))
VIDEO = ("Video", "video", ("sample", "preview"))

TALKING_PORTRAIT = Layout(
    nodes={
        **portrait(7, NOTE_TALKING),
        **voice(),
        "sample": Node("LLIA_Sample", (THIRD, 60), links=TO_SAMPLE),
        "preview": Node("LLIA_StreamingPreview", (FOURTH, 60), *PLAYER, links={"stream": ("sample", 0)}),
        "save": Node(
            "SaveVideo",
            (FIFTH, 60),
            320,
            460,
            widgets={"filename_prefix": "video/talking_portrait", "format": "auto", "codec": "auto"},
            links={"video": ("preview", 0)},
        ),
    },
    groups=(PORTRAIT, VOICE, ("Video", "video", ("sample", "preview", "save"))),
    picture=(1.4,),
)

EXPRESSION = Layout(
    nodes={
        **portrait(21, NOTE_EXPRESSION),
        **voice(),
        "edit": Node(
            "LLIA_EditExpression",
            (SECOND, 60),
            340,
            640,
            widgets={"template": "neutral", "smile": 0.7, "brow_raise": 0.5},
            links={"image": ("avatar", 0)},
        ),
        "portrait": Node("LLIA_Portrait", (THIRD + 40, 60), links={"image": ("edit", 0)}),
        "sample": Node("LLIA_Sample", (FOURTH + 40, 60), links=TO_SAMPLE),
        "preview": Node("LLIA_StreamingPreview", (FOURTH + 400, 60), *PLAYER, links={"stream": ("sample", 0)}),
    },
    groups=(("Portrait", "portrait", ("avatar", "edit", "portrait")), VOICE, VIDEO),
    picture=(1.4,),
)

CONVERSATION = Layout(
    nodes={
        **portrait(33, NOTE_CONVERSATION),
        **voice(recording="conversation: avatar"),
        "other": Node("LLIA_DemoSpeech", (SECOND, LOW + 240), widgets={"recording": "conversation: visitor"}),
        "states": Node(
            "LLIA_LabelStates", (THIRD, LOW), 300, 290, links={"speech": ("encode", 0), "other": ("other", 0)}
        ),
        "strip": Node("PreviewImage", (FOURTH, LOW), 460, 290, links={"images": ("states", 1)}),
        "note": Node("MarkdownNote", (FIFTH, LOW), *NOTE, title="Read me", text=NOTE_CONVERSATION),
        "sample": Node("LLIA_Sample", (THIRD, 60), links={**TO_SAMPLE, "states": ("states", 0)}),
        "preview": Node("LLIA_StreamingPreview", (FOURTH, 60), *PLAYER, links={"stream": ("sample", 0)}),
    },
    groups=(
        PORTRAIT,
        ("Two voices", "voice", ("model", "speech", "other", "encode", "states", "strip")),
        VIDEO,
    ),
    picture=(8.0,),
)

LONG_VIDEO = Layout(
    nodes={
        **portrait(12, NOTE_LONG),
        **voice(repeat=3),
        "sample": Node("LLIA_Sample", (THIRD, 60), links=TO_SAMPLE),
        "save": Node(
            "LLIA_SaveStream",
            (FOURTH, 60),
            460,
            560,
            widgets={"filename_prefix": "video/long_video"},
            links={"stream": ("sample", 0)},
        ),
    },
    groups=(PORTRAIT, VOICE, ("Video", "video", ("sample", "save"))),
    picture=(1.4, 10.0, 21.0, 30.0),
)

PHOTOREAL = Layout(
    nodes={
        **portrait(7, NOTE_PHOTOREAL),
        **voice(),
        "portrait": Node("LLIA_Portrait", (SECOND, 60), widgets={"size": 512}, links={"image": ("avatar", 0)}),
        "model": Node(
            "LLIA_LoadModel",
            (FIRST, LOW),
            320,
            widgets={"model": HALLO["name"], "precision": "float16"},
            models=(HALLO,),
        ),
        "sample": Node("LLIA_Sample", (THIRD, 60), widgets={"steps": 10, "first_chunk": 16}, links=TO_SAMPLE),
        "save": Node(
            "LLIA_SaveStream",
            (FOURTH, 60),
            460,
            560,
            widgets={"filename_prefix": "video/photoreal_portrait"},
            links={"stream": ("sample", 0)},
        ),
    },
    groups=(PORTRAIT, VOICE, ("Video", "video", ("sample", "save"))),
    picture=(),
)

LAYOUTS = {
    "talking_portrait": TALKING_PORTRAIT,
    "expression_into_video": EXPRESSION,
    "conversation": CONVERSATION,
    "long_video": LONG_VIDEO,
    "photoreal_portrait": PHOTOREAL,
}
