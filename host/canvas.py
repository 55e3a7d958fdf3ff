"""The real web page of ComfyUI (comfyui-frontend-package), our extension, example workflows and translations."""

import json
import mimetypes
from pathlib import Path

from aiohttp import web

from .files import user_folder
from .pack import Pack


def web_page() -> Path:
    """Folder of the installed comfyui-frontend-package.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        import comfyui_frontend_package
    except ModuleNotFoundError:
        raise RuntimeError("The canvas needs ComfyUI's web page: pip install comfyui-frontend-package") from None
    return Path(comfyui_frontend_package.__file__).parent / "static"


def add_routes(app: web.Application, pack: Pack) -> None:
    """Adds what needs no /api twin, last: the page's own files are at /."""
    mimetypes.add_type("application/javascript", ".js")  # some systems' tables say text/plain, which browsers refuse
    page = web_page()
    if (pack.folder / "workflows").is_dir():
        app.router.add_static(f"/api/workflow_templates/{pack.name}", pack.folder / "workflows")
    if pack.web.is_dir():
        app.router.add_static(f"/extensions/{pack.name}", pack.web)

    async def index(request: web.Request) -> web.FileResponse:
        return web.FileResponse(page / "index.html", headers={"Cache-Control": "no-cache"})

    async def style(request: web.Request) -> web.FileResponse:
        return web.FileResponse(user_folder() / "user.css")

    async def no_core_templates(request: web.Request) -> web.Response:
        return web.json_response([] if request.path.endswith("/index.json") else {})

    app.router.add_get("/", index)
    app.router.add_get("/user.css", style)
    app.router.add_get("/templates/{index:index.*[.]json}", no_core_templates)
    app.router.add_static("/", page)


def routes(pack: Pack) -> list[web.RouteDef]:
    async def extensions(request: web.Request) -> web.Response:
        page = web_page()
        files = [f"/{f.relative_to(page).as_posix()}" for f in sorted((page / "extensions").rglob("*.js"))]
        ours = sorted(pack.web.rglob("*.js")) if pack.web.is_dir() else []
        files += [f"/extensions/{pack.name}/{f.relative_to(pack.web).as_posix()}" for f in ours]
        return web.json_response(files)

    async def templates(request: web.Request) -> web.Response:
        names = sorted(f.stem for f in (pack.folder / "workflows").glob("*.json"))
        return web.json_response({pack.name: names} if names else {})

    async def translations(request: web.Request) -> web.Response:
        return web.json_response(_translations(pack.folder / "locales"))

    return [
        web.get("/extensions", extensions),
        web.get("/workflow_templates", templates),
        web.get("/i18n", translations),
    ]


def _translations(folder: Path) -> dict:
    """{language: contents of main.json, with nodeDefs, commands and settings from the files of these names}."""
    languages = {}
    for language in sorted(f for f in folder.glob("*") if f.is_dir()):
        entries = {}
        for file in sorted(language.glob("*.json")):
            content = json.loads(file.read_text(encoding="utf-8"))
            entries |= content if file.stem == "main" else {file.stem: content}
        languages[language.name] = entries
    return languages
