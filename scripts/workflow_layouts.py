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


@dataclass(frozen=True)
class Layout:
    """groups: title, colour, keys of the nodes in it. picture: seconds of the video that the picture shows."""

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
- Better: put *Load Audio* in its place, with your lecture or audio book.
- One step is fastest; two give clearer teeth."""

FIRST, SECOND, THIRD, FOURTH, FIFTH = 0, 380, 740, 1100, 1460  # columns
AVATAR = (320, 620)  # width and height of nodes that show a picture
PLAYER = (460, 640)
NOTE = (320, 300)


def portrait_and_voice(seed: int, text: str, **speech: object) -> dict[str, Node]:
    """What most workflows begin with."""
    return {
        "note": Node("MarkdownNote", (FIRST, 790), *NOTE, title="Read me", text=text),
        "avatar": Node("LLIA_Avatar", (FIRST, 60), *AVATAR, widgets={"seed": seed}),
        "portrait": Node("LLIA_Portrait", (SECOND, 60), links={"image": ("avatar", 0)}),
        "model": Node("LLIA_LoadModel", (SECOND, 380)),
        "speech": Node("LLIA_DemoSpeech", (SECOND, 580), widgets=speech),
        "encode": Node("LLIA_EncodeAudio", (THIRD, 380), links={"model": ("model", 0), "audio": ("speech", 0)}),
    }


TO_SAMPLE = {"model": ("model", 0), "portrait": ("portrait", 0), "speech": ("encode", 0)}
PORTRAIT = ("Portrait", "portrait", ("avatar", "portrait"))
VOICE = ("Voice", "voice", ("model", "speech", "encode"))

TALKING_PORTRAIT = Layout(
    nodes={
        **portrait_and_voice(7, NOTE_TALKING),
        "sample": Node("LLIA_Sample", (FOURTH, 60), links=TO_SAMPLE),
        "preview": Node("LLIA_StreamingPreview", (FIFTH, 60), *PLAYER, links={"stream": ("sample", 0)}),
        "save": Node(
            "SaveVideo",
            (FIFTH + 520, 60),
            320,
            400,
            widgets={"filename_prefix": "video/talking_portrait", "format": "auto", "codec": "auto"},
            links={"video": ("preview", 0)},
        ),
    },
    groups=(PORTRAIT, VOICE, ("Video", "video", ("sample", "preview", "save"))),
    picture=(1.4,),
)

EXPRESSION = Layout(
    nodes={
        "note": Node("MarkdownNote", (FIRST, 790), *NOTE, title="Read me", text=NOTE_EXPRESSION),
        "avatar": Node("LLIA_Avatar", (FIRST, 60), *AVATAR, widgets={"seed": 21}),
        "edit": Node(
            "LLIA_EditExpression",
            (SECOND, 60),
            340,
            780,
            widgets={"template": "neutral", "smile": 0.7, "brow_raise": 0.5},
            links={"image": ("avatar", 0)},
        ),
        "portrait": Node("LLIA_Portrait", (THIRD + 40, 60), links={"image": ("edit", 0)}),
        "model": Node("LLIA_LoadModel", (THIRD + 40, 380)),
        "speech": Node("LLIA_DemoSpeech", (THIRD + 40, 580)),
        "encode": Node("LLIA_EncodeAudio", (FOURTH + 40, 580), links={"model": ("model", 0), "audio": ("speech", 0)}),
        "sample": Node("LLIA_Sample", (FOURTH + 40, 60), links=TO_SAMPLE),
        "preview": Node("LLIA_StreamingPreview", (FIFTH + 40, 60), *PLAYER, links={"stream": ("sample", 0)}),
    },
    groups=(
        ("Portrait", "portrait", ("avatar", "edit")),
        ("Voice", "voice", ("model", "speech", "encode")),
        ("Video", "video", ("sample", "preview")),
    ),
    picture=(1.4,),
)

CONVERSATION = Layout(
    nodes={
        **portrait_and_voice(33, NOTE_CONVERSATION, recording="conversation: avatar"),
        "other": Node("LLIA_DemoSpeech", (SECOND, 760), widgets={"recording": "conversation: visitor"}),
        "states": Node(
            "LLIA_LabelStates", (THIRD, 540), 300, 210, links={"speech": ("encode", 0), "other": ("other", 0)}
        ),
        "strip": Node("PreviewImage", (FOURTH, 540), 300, 210, links={"images": ("states", 1)}),
        "sample": Node("LLIA_Sample", (FOURTH, 60), links={**TO_SAMPLE, "states": ("states", 0)}),
        "preview": Node("LLIA_StreamingPreview", (FIFTH, 60), *PLAYER, links={"stream": ("sample", 0)}),
    },
    groups=(
        PORTRAIT,
        ("Two voices", "voice", ("model", "speech", "other", "encode", "states", "strip")),
        ("Video", "video", ("sample", "preview")),
    ),
    picture=(8.0,),
)

LONG_VIDEO = Layout(
    nodes={
        **portrait_and_voice(12, NOTE_LONG, repeat=3),
        "sample": Node("LLIA_Sample", (FOURTH, 60), widgets={"steps": 1}, links=TO_SAMPLE),
        "save": Node(
            "LLIA_SaveStream",
            (FIFTH, 60),
            460,
            560,
            widgets={"filename_prefix": "video/long_video"},
            links={"stream": ("sample", 0)},
        ),
    },
    groups=(PORTRAIT, VOICE, ("Video", "video", ("sample", "save"))),
    picture=(1.4, 10.0, 21.0, 30.0),
)

LAYOUTS = {
    "talking_portrait": TALKING_PORTRAIT,
    "expression_into_video": EXPRESSION,
    "conversation": CONVERSATION,
    "long_video": LONG_VIDEO,
}
