"""Takes a picture of a canvas while the talking portrait plays in it, as README shows it.

    python -m scripts.picture_canvas http://127.0.0.1:8188 canvas docs/images/comfyui.jpg

The server runs already, idle: ComfyUI with this pack, or `make studio`. canvas or vue is the renderer.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.e2e.canvas import Canvas

SIZE = {"width": 1440, "height": 900}
VIEW = {"canvas": (0.64, (130, 170)), "vue": (0.6, (150, 180))}  # scale and offset that show all nodes
PLAYER = ".llia-stream"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("renderer", choices=VIEW)
    parser.add_argument("output", type=Path)
    parser.add_argument("--frame", type=int, default=52, help="the earliest frame to be seen")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        canvas = Canvas(chromium.new_page(viewport=SIZE), arguments.server.rstrip("/") + "/", arguments.renderer)
        canvas.open()
        picture = take(canvas, arguments.frame)
        chromium.close()
    Image.open(io.BytesIO(picture)).convert("RGB").save(arguments.output, quality=85, optimize=True)


def take(canvas: Canvas, frame: int) -> bytes:
    """A PNG of the page once this frame has been shown. The model is warm: a first run is cancelled."""
    page = canvas.page
    canvas.load_template("talking_portrait")
    page.evaluate(
        "([scale, offset]) => { Object.assign(app.canvas.ds, {scale, offset}); app.canvas.setDirty(true, true) }",
        VIEW[canvas.renderer],
    )
    for seed, wanted in ((1, 1), (0, frame)):
        canvas.set_widget("LLIA_Sample", "seed", seed)
        old = canvas.data(page.locator(PLAYER)).get("stream", "")
        canvas.queue()
        script = "([old, frame]) => (({stream, frame: at}) => stream && stream !== old && Number(at) >= frame)"
        page.wait_for_function(
            script + f"(document.querySelector('{PLAYER}').dataset)", arg=[old, wanted], timeout=300_000
        )
        picture = page.screenshot()
        print(canvas.data(page.locator(PLAYER)))
        canvas.stop_all()
        page.wait_for_timeout(4000)  # until the notice of the cancelled run is gone
    return picture


if __name__ == "__main__":
    main()
