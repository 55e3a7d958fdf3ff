"""Upload and view of files, and the web page's own files; all confined to their folders."""

import asyncio
import hashlib
import mimetypes
from io import BytesIO
from pathlib import Path

from aiohttp import web

from .shims import folder_paths
from .shims.folder_paths import confined

# Shown by a browser, these could run scripts in the name of this server; so they are only ever saved.
ACTIVE_TYPES = ("html", "xml", "svg", "javascript")


def _folder(kind: str) -> Path:
    folder = folder_paths.get_directory_by_type(kind)
    if folder is None:
        raise web.HTTPBadRequest(text=f"Folder type {kind!r}; it must be input, output or temp")
    return Path(folder)


def _confined(folder: Path, *parts: str) -> Path:
    try:
        return confined(folder, *parts)
    except ValueError as error:
        raise web.HTTPForbidden(text=str(error)) from None


async def upload(request: web.Request) -> web.Response:
    """POST /upload/image, a form with image (any file), subfolder, type, overwrite. Equal names get a number."""
    form = await request.post()
    file = form.get("image")
    if not isinstance(file, web.FileField) or not file.filename:
        raise web.HTTPBadRequest(text="The form has no file named 'image'")
    kind, subfolder = form.get("type", "input"), form.get("subfolder", "")
    if Path(file.filename).name != file.filename or file.filename in (".", ".."):
        raise web.HTTPForbidden(text=f"{file.filename!r} is not a plain file name")
    path = _confined(_folder(kind), subfolder, file.filename)
    content = file.file.read()
    path = await asyncio.to_thread(_store, path, content, form.get("overwrite") in ("true", "1"))
    return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})


def _store(path: Path, content: bytes, overwrite: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, count, digest = path, 0, hashlib.sha256(content).digest()
    while path.exists() and not overwrite:
        if path.is_file() and hashlib.sha256(path.read_bytes()).digest() == digest:
            return path
        count += 1
        path = first.with_name(f"{first.stem} ({count}){first.suffix}")
    path.write_bytes(content)
    return path


async def view(request: web.Request) -> web.StreamResponse:
    """GET /view?filename=&subfolder=&type=; preview=webp;90 gives a smaller picture, channel=rgb an opaque one."""
    query = request.query
    name = query.get("filename", "")
    path = _confined(_folder(query.get("type", "output")), query.get("subfolder", ""), name)
    if not name or Path(name).name != name:
        raise web.HTTPBadRequest(text="filename must be a plain file name")
    if not path.is_file():
        raise web.HTTPNotFound(text=f"No file {name}")
    content_type = _content_type(path)
    if content_type.startswith("image/") and ("preview" in query or query.get("channel") == "rgb"):
        body, content_type = await asyncio.to_thread(_preview, path, query.get("preview", "webp;90"))
        return web.Response(body=body, content_type=content_type)
    return web.FileResponse(path, headers={"Content-Type": content_type, "Content-Disposition": "inline"})


def _content_type(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or ""
    return "application/octet-stream" if not kind or any(word in kind for word in ACTIVE_TYPES) else kind


def _preview(path: Path, options: str) -> tuple[bytes, str]:
    from PIL import Image

    form, _, quality = options.partition(";")
    form = form if form in ("webp", "jpeg") else "webp"
    buffer = BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(buffer, form, quality=min(int(quality), 100) if quality.isdigit() else 90)
    return buffer.getvalue(), f"image/{form}"


# The web page keeps saved workflows and the like here.


FIRST_FILES = {
    "comfy.settings.json": '{"Comfy.Notification.ShowVersionUpdates": false}',  # asks a site in the internet otherwise
    "comfy.templates.json": "[]",
    "user.css": "",
}


def user_folder() -> Path:
    return Path(folder_paths.get_user_directory()) / "default"


def make_user_folder() -> None:
    """Makes what the web page looks for on its first start, and would report missing."""
    for name in ("workflows", "subgraphs"):
        (user_folder() / name).mkdir(parents=True, exist_ok=True)
    for name, content in FIRST_FILES.items():
        if not (user_folder() / name).exists():
            (user_folder() / name).write_text(content)


def _info(path: Path, root: Path) -> dict:
    stat = path.stat()
    return {
        "path": path.relative_to(root).as_posix(),
        "size": stat.st_size,
        "modified": stat.st_mtime,
        "created": stat.st_ctime,
    }


async def list_userdata(request: web.Request) -> web.Response:
    """GET /userdata?dir=&recurse=&full_info=&split=."""
    query = request.query
    if not query.get("dir"):
        raise web.HTTPBadRequest(text="Directory not provided")
    root = _confined(user_folder(), query["dir"])
    if not root.is_dir():
        raise web.HTTPNotFound(text="Directory not found")
    files = sorted(f for f in root.glob("**/*" if query.get("recurse") == "true" else "*") if f.is_file())
    if query.get("full_info") == "true":
        return web.json_response([_info(f, root) for f in files])
    names = [f.relative_to(root).as_posix() for f in files]
    return web.json_response([[n, *n.split("/")] for n in names] if query.get("split") == "true" else names)


async def get_userdata(request: web.Request) -> web.StreamResponse:
    path = _confined(user_folder(), request.match_info["file"])
    if not path.is_file():
        raise web.HTTPNotFound(text="No such file")
    return web.FileResponse(path, headers={"Content-Type": _content_type(path)})


async def put_userdata(request: web.Request) -> web.Response:
    """POST /userdata/{file}?overwrite=&full_info=, the body is the file."""
    root = user_folder()
    path = _confined(root, request.match_info["file"])
    if request.query.get("overwrite") == "false" and path.exists():
        raise web.HTTPConflict(text="File already exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(await request.read())
    full = request.query.get("full_info") == "true"
    return web.json_response(_info(path, root) if full else path.relative_to(root).as_posix())


async def delete_userdata(request: web.Request) -> web.Response:
    path = _confined(user_folder(), request.match_info["file"])
    if not path.is_file():
        raise web.HTTPNotFound(text="No such file")
    path.unlink()
    return web.Response(status=204)


async def move_userdata(request: web.Request) -> web.Response:
    """POST /userdata/{file}/move/{dest}?overwrite=&full_info=."""
    root = user_folder()
    source, target = (_confined(root, request.match_info[name]) for name in ("file", "dest"))
    if not source.is_file():
        raise web.HTTPNotFound(text="No such file")
    if request.query.get("overwrite") == "false" and target.exists():
        raise web.HTTPConflict(text="File already exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    full = request.query.get("full_info") == "true"
    return web.json_response(_info(target, root) if full else target.relative_to(root).as_posix())


ROUTES = [
    web.post("/upload/image", upload),
    web.get("/view", view),
    web.get("/userdata", list_userdata),
    web.get("/userdata/{file}", get_userdata),
    web.post("/userdata/{file}", put_userdata),
    web.delete("/userdata/{file}", delete_userdata),
    web.post("/userdata/{file}/move/{dest}", move_userdata),
]
