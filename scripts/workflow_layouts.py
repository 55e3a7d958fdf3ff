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
    scale: float = 0.75
    offset: tuple[int, int] = (120, 120)


def note(pos: tuple[int, int], width: int, height: int, text: str) -> Node:
    return Node("MarkdownNote", pos, width, height, title="Read me", text=text)


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

LEFT, MIDDLE, RIGHT, FAR = 0, 380, 760, 1140  # columns
PLAYER = (460, 640)  # size of the player's node

TALKING_PORTRAIT = Layout(
    nodes={
        "note": note(
            (LEFT, 640),
            320,
            330,
            NOTE_TALKING,
        ),
        "avatar": Node("LLIA_Avatar", (LEFT, 60), 320, widgets={"seed": 7}),
        "portrait": Node("LLIA_Portrait", (MIDDLE, 60), links={"image": ("avatar", 0)}),
        "speech": Node("LLIA_DemoSpeech", (MIDDLE, 420)),
        "model": Node("LLIA_LoadModel", (MIDDLE, 600)),
        "encode": Node("LLIA_EncodeAudio", (MIDDLE, 800), links={"model": ("model", 0), "audio": ("speech", 0)}),
        "sample": Node(
            "LLIA_Sample",
            (RIGHT, 60),
            320,
            links={"model": ("model", 0), "portrait": ("portrait", 0), "speech": ("encode", 0)},
        ),
        "preview": Node("LLIA_StreamingPreview", (FAR, 60), *PLAYER, links={"stream": ("sample", 0)}),
        "save": Node(
            "SaveVideo",
            (RIGHT, 470),
            320,
            420,
            widgets={"filename_prefix": "video/talking_portrait", "format": "auto", "codec": "auto"},
            links={"video": ("preview", 0)},
        ),
    },
    groups=(
        ("Portrait", "portrait", ("avatar", "portrait")),
        ("Voice", "voice", ("speech", "model", "encode")),
        ("Video", "video", ("sample", "preview", "save")),
    ),
    picture=(1.4,),
)

EXPRESSION = Layout(
    nodes={
        "note": note(
            (LEFT, 640),
            320,
            330,
            NOTE_EXPRESSION,
        ),
        "avatar": Node("LLIA_Avatar", (LEFT, 60), 320, widgets={"seed": 21}),
        "edit": Node(
            "LLIA_EditExpression",
            (MIDDLE, 60),
            340,
            780,
            widgets={"template": "neutral", "smile": 0.7, "brow_raise": 0.5},
            links={"image": ("avatar", 0)},
        ),
        "portrait": Node("LLIA_Portrait", (RIGHT + 20, 60), links={"image": ("edit", 0)}),
        "speech": Node("LLIA_DemoSpeech", (RIGHT + 20, 330)),
        "model": Node("LLIA_LoadModel", (RIGHT + 20, 510)),
        "encode": Node("LLIA_EncodeAudio", (RIGHT + 20, 710), links={"model": ("model", 0), "audio": ("speech", 0)}),
        "sample": Node(
            "LLIA_Sample",
            (FAR + 20, 60),
            links={"model": ("model", 0), "portrait": ("portrait", 0), "speech": ("encode", 0)},
        ),
        "preview": Node("LLIA_StreamingPreview", (FAR + 380, 60), *PLAYER, links={"stream": ("sample", 0)}),
    },
    groups=(
        ("Portrait", "portrait", ("avatar", "edit")),
        ("Voice", "voice", ("speech", "model", "encode")),
        ("Video", "video", ("sample", "preview")),
    ),
    picture=(1.4,),
    scale=0.65,
)

CONVERSATION = Layout(
    nodes={
        "note": note(
            (LEFT, 640),
            320,
            360,
            NOTE_CONVERSATION,
        ),
        "avatar": Node("LLIA_Avatar", (LEFT, 60), 320, widgets={"seed": 33}),
        "portrait": Node("LLIA_Portrait", (MIDDLE, 60), links={"image": ("avatar", 0)}),
        "model": Node("LLIA_LoadModel", (MIDDLE, 340)),
        "own": Node(
            "LLIA_DemoSpeech", (MIDDLE, 540), widgets={"recording": "conversation: avatar"}, title="The avatar's voice"
        ),
        "other": Node(
            "LLIA_DemoSpeech", (MIDDLE, 720), widgets={"recording": "conversation: visitor"}, title="The other's voice"
        ),
        "encode": Node("LLIA_EncodeAudio", (RIGHT, 340), 320, links={"model": ("model", 0), "audio": ("own", 0)}),
        "states": Node(
            "LLIA_LabelStates", (RIGHT, 480), 320, 200, links={"speech": ("encode", 0), "other": ("other", 0)}
        ),
        "strip": Node(
            "PreviewImage", (RIGHT, 760), 700, 240, links={"images": ("states", 1)}, title="Who does what when"
        ),
        "sample": Node(
            "LLIA_Sample",
            (FAR - 20, 60),
            links={
                "model": ("model", 0),
                "portrait": ("portrait", 0),
                "speech": ("encode", 0),
                "states": ("states", 0),
            },
        ),
        "preview": Node("LLIA_StreamingPreview", (FAR + 360, 60), *PLAYER, links={"stream": ("sample", 0)}),
    },
    groups=(
        ("Portrait", "portrait", ("avatar", "portrait")),
        ("Two voices", "voice", ("model", "own", "other", "encode", "states", "strip")),
        ("Video", "video", ("sample", "preview")),
    ),
    picture=(7.2,),
    scale=0.62,
)

LONG_VIDEO = Layout(
    nodes={
        "note": note(
            (LEFT, 640),
            320,
            330,
            NOTE_LONG,
        ),
        "avatar": Node("LLIA_Avatar", (LEFT, 60), 320, widgets={"seed": 12}),
        "portrait": Node("LLIA_Portrait", (MIDDLE, 60), links={"image": ("avatar", 0)}),
        "speech": Node("LLIA_DemoSpeech", (MIDDLE, 420), widgets={"repeat": 3}),
        "model": Node("LLIA_LoadModel", (MIDDLE, 600)),
        "encode": Node("LLIA_EncodeAudio", (MIDDLE, 800), links={"model": ("model", 0), "audio": ("speech", 0)}),
        "sample": Node(
            "LLIA_Sample",
            (RIGHT, 60),
            320,
            widgets={"steps": 1},
            links={"model": ("model", 0), "portrait": ("portrait", 0), "speech": ("encode", 0)},
        ),
        "save": Node(
            "LLIA_SaveStream",
            (FAR, 60),
            460,
            560,
            widgets={"filename_prefix": "video/long_video"},
            links={"stream": ("sample", 0)},
        ),
    },
    groups=(
        ("Portrait", "portrait", ("avatar", "portrait")),
        ("Voice", "voice", ("speech", "model", "encode")),
        ("Video", "video", ("sample", "save")),
    ),
    picture=(1.4, 10.0, 21.0, 30.0),
)

LAYOUTS = {
    "talking_portrait": TALKING_PORTRAIT,
    "expression_into_video": EXPRESSION,
    "conversation": CONVERSATION,
    "long_video": LONG_VIDEO,
}
