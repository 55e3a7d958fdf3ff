"""Previews for the canvas while a slider is dragged: POST /llia/expression and POST /llia/avatar answer with a JPEG.

The graph is not run for them. What costs time (reading the picture, finding its face) is kept for the last few
pictures, so that an edit takes a few hundredths of a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import folder_paths
import torch
from aiohttp import web
from torch import Tensor
from torch.nn import functional as F

from ..llia_core.drawn_portrait import Look, draw_portrait
from ..llia_core.edit_face import FacePreview
from ..llia_core.expression import TEMPLATES, Expression, ExpressionError, add_expressions
from ..llia_core.face import FaceError, require_face
from ..llia_core.media import read_image
from .live import require_same_origin

LARGEST_REQUEST = 8192  # bytes
LARGEST_WAITING = 8  # requests at a time; a page sends its next one after the answer
KEPT_PREVIEWS, KEPT_PICTURES, KEPT_LANDMARKS = 6, 8, 64  # about 5 MB, 3 MB and 6 kB each
KEPT_SIDE = 1024  # pixels to which a node's picture is reduced
AVATAR_SIZE, DRAWN_SIZE = 320, 512  # of the picture in LLIA Avatar; of an avatar whose face is edited
JPEG_QUALITY = 90


class Recent:
    """The `size` values used last. Thread-safe; a value that several threads miss is made by each."""

    def __init__(self, size: int):
        self.size = size
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], Any] | None = None) -> Any:
        """The value of `key`, made and kept if it is missing; None without `make`."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        if make is None:
            return None
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self.size:
                self._values.popitem(last=False)
        return value


class Faces:
    """Pictures seen, by what is in them. Pictures are (3, H, W) in [-1, 1]."""

    def __init__(self) -> None:
        self._previews, self._pictures = Recent(KEPT_PREVIEWS), Recent(KEPT_PICTURES)
        self._landmarks = Recent(KEPT_LANDMARKS)

    def landmarks(self, picture: Tensor) -> Tensor:
        """(478, 3) of the largest face. Raises FaceError where there is none."""
        return self._landmarks.get(_hash(_bytes(picture)), lambda: require_face(picture))

    def keep(self, picture: Tensor) -> str:
        """Keeps a small copy of a picture for previews; the token by which `kept` finds it."""
        longer = max(picture.shape[-2:])
        if longer > KEPT_SIDE:
            size = [max(round(side * KEPT_SIDE / longer), 1) for side in picture.shape[-2:]]
            picture = F.interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0]
        small = _bytes(picture)
        token = _hash(small)
        self._pictures.get(token, lambda: small)
        return token

    def kept(self, token: str) -> Tensor:
        """Raises KeyError for a token that is unknown or long ago."""
        small = self._pictures.get(token)
        if small is None:
            raise KeyError(token)
        return small.float() / 127.5 - 1

    def preview(self, key: Hashable, read: Callable[[], Tensor]) -> FacePreview:
        """The face of the picture that `read` gives; key: the same for the same picture."""

        def make() -> FacePreview:
            picture = read()
            return FacePreview(picture, self.landmarks(picture))

        return self._previews.get(key, make)


FACES = Faces()  # shared by the node, which has pictures, and the route, which is asked for them


def register_expression_routes(routes: web.RouteTableDef) -> None:
    """Add the two routes to ComfyUI's table (which also mounts them under /api)."""
    waiting = asyncio.Semaphore(LARGEST_WAITING)
    working = threading.Lock()  # one picture at a time: they share the cores

    def answering(work: Callable[[dict], bytes]):
        async def handler(request: web.Request) -> web.Response:
            body = await _body(request)
            if waiting.locked():
                raise web.HTTPTooManyRequests(text="too many previews are asked for at once")
            async with waiting:
                jpeg = await asyncio.to_thread(_guarded, work, body, working)
            return web.Response(body=jpeg, content_type="image/jpeg", headers={"Cache-Control": "no-store"})

        return handler

    routes.post("/llia/expression")(answering(edited_jpeg))
    routes.post("/llia/avatar")(answering(avatar_jpeg))


def edited_jpeg(body: dict) -> bytes:
    """{"source": {"kind": "upload", "name"} | {"kind": "avatar", "seed", ...} | {"kind": "node", "token"}, "template",
    "sliders": {name: value}} -> the edited face. Raises as the core does, KeyError and TypeError for missing parts."""
    template, sliders = body.get("template", "neutral"), body.get("sliders", {})
    if template not in TEMPLATES:
        raise ExpressionError(f"There is no template {template!r}; there are: {', '.join(TEMPLATES)}.")
    expression = add_expressions(TEMPLATES[template], Expression(**{name: float(v) for name, v in sliders.items()}))
    return _jpeg(FACES.preview(*_source(body["source"])).edit(expression))


def avatar_jpeg(body: dict) -> bytes:
    """The inputs of LLIA Avatar -> the picture that it draws, small."""
    picture = draw_portrait(*_avatar(body), AVATAR_SIZE)
    return _jpeg(_bytes(picture).permute(1, 2, 0).contiguous())


def _source(source: dict) -> tuple[Hashable, Callable[[], Tensor]]:
    """What a picture is known by, and how to get it. Raises ValueError for a path outside of the input folder."""
    kind = source["kind"]
    if kind == "upload":
        path = _input_file(str(source["name"]))
        about = path.stat()
        return (str(path), about.st_mtime_ns, about.st_size), lambda: read_image(path)
    if kind == "avatar":
        avatar = _avatar(source)
        return avatar, lambda: draw_portrait(*avatar, DRAWN_SIZE)
    if kind == "node":
        token = str(source["token"])
        return token, lambda: FACES.kept(token)
    raise ValueError(f"A source is an upload, an avatar or a node, not {kind!r}.")


def _input_file(name: str) -> Path:
    """A file of the input folder, as LoadImage names it: "file.png", "folder/file.png", either with " [input]"."""
    root = Path(folder_paths.get_input_directory()).resolve()
    path = (root / name.removesuffix("[input]").rstrip()).resolve()  # ValueError for a null character
    if root not in path.parents:
        raise ValueError(f"{name!r} is not in the input folder.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture {name!r} in the input folder.")
    return path


def _avatar(inputs: dict) -> tuple[int, Look]:
    return int(inputs["seed"]), Look(
        **{field.name: inputs[field.name] for field in fields(Look) if field.name in inputs}
    )


def _guarded(work: Callable[[dict], bytes], body: dict, working: threading.Lock) -> bytes:
    """Does the work in a thread; what it raises becomes an answer."""
    try:
        with working:
            return work(body)
    except FaceError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    except FileNotFoundError as error:
        raise web.HTTPNotFound(text=str(error)) from error
    except KeyError as error:
        raise web.HTTPNotFound(text=f"not known, or no longer: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error


async def _body(request: web.Request) -> dict:
    """The request's JSON object. Raises 403 for a page of another site, 413 and 400 for anything odd."""
    require_same_origin(request)
    if request.content_type != "application/json":  # what a foreign page cannot send without asking first
        raise web.HTTPUnsupportedMediaType(text="expected application/json")
    data = await request.content.read(LARGEST_REQUEST + 1)
    while len(data) <= LARGEST_REQUEST and (more := await request.content.read(LARGEST_REQUEST + 1 - len(data))):
        data += more
    if len(data) > LARGEST_REQUEST:
        raise web.HTTPRequestEntityTooLarge(LARGEST_REQUEST, len(data))
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"no JSON: {error}") from error
    if not isinstance(body, dict) or not all(isinstance(body.get(k, {}), dict) for k in ("source", "sliders")):
        raise web.HTTPBadRequest(text="expected an object with source and sliders")
    return body


def _bytes(picture: Tensor) -> Tensor:
    return ((picture + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _hash(picture: Tensor) -> str:
    return hashlib.sha256(repr(tuple(picture.shape)).encode() + picture.contiguous().numpy().tobytes()).hexdigest()


def _jpeg(picture: Tensor) -> bytes:
    """uint8 (H, W, 3) -> JPEG."""
    from PIL import Image

    data = BytesIO()
    Image.fromarray(picture.numpy()).save(data, "JPEG", quality=JPEG_QUALITY)
    return data.getvalue()
