"""The player alone on a bare page, fed with a marked test signal: a white frame and a beep, once a second.

The offset of picture and sound is measured from outside: when the canvas turns white, against when the beep leaves the
audio graph (recorded in an AudioWorklet) plus the output delay that the browser states.
"""

import json
import math
import statistics
import threading
import time
from urllib.parse import quote

import pytest
from live_server import LiveServer, make_chunk

PAGE = """<!doctype html><link rel="icon" href="data:,"><body style="margin: 0; background: #222">
<div id="node" style="width: 340px; height: 400px"></div>
<script type="module">
  import { StreamView } from '/web/js/stream_view.js'
  const view = (window.view = new StreamView())
  document.getElementById('node').append(view.element)
  window.start = (info, options) =>
    view.player.open(`ws://${location.host}/llia/stream/${info.stream}`, info, { since: performance.now(), ...options })

  // Playwright's every word to a page counts as a click, so what is to start without one starts itself.
  window.clocks = []
  if (location.hash) {
    start(JSON.parse(decodeURIComponent(location.hash.slice(1))))
    setInterval(() => clocks.push(view.element.dataset.clock), 50)
  }

  // Sound as it leaves the graph: samples with the context time of the first, from the moment of calling.
  window.tap = async () => {
    const { context, gain } = view.player.sound
    const code = `registerProcessor('tap', class extends AudioWorkletProcessor {
      process([input]) {
        this.port.postMessage([currentTime, input.length ? input[0].slice() : null])
        return true
      }
    })`
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })))
    const node = new AudioWorkletNode(context, 'tap', { numberOfOutputs: 0 })
    window.heard = []
    window.beeps = []
    let silent = 1
    node.port.onmessage = ({ data: [at, samples] }) => {
      if (!samples) return
      heard.push(...samples)
      samples.forEach((sample, i) => {
        if (Math.abs(sample) < 0.05) return (silent += 1 / context.sampleRate)
        const { contextTime, performanceTime } = context.getOutputTimestamp()
        if (silent > 0.2) beeps.push(performanceTime + (at + i / context.sampleRate - contextTime) * 1000)
        silent = 0
      })
    }
    gain.connect(node)
  }
  // When the canvas turned white, looked at in every animation frame.
  window.flashes = []
  let white = false
  const look = (now) => {
    const [red] = view.canvas.getContext('2d').getImageData(view.canvas.width >> 1, view.canvas.height >> 1, 1, 1).data
    if (red > 200 && !white) flashes.push(now)
    white = red > 200
    requestAnimationFrame(look)
  }
  requestAnimationFrame(look)
</script>"""


class Stage:
    """A page with the player, and streams to play on it."""

    def __init__(self, page, server, folder):
        self.page, self.server, self.folder = page, server, folder
        self.threads = []
        page.goto(server.address)
        page.wait_for_function("window.view")

    def click(self) -> None:
        """What makes sound allowed."""
        self.page.mouse.click(600, 20)

    def play(self, seconds: float, fps: float = 50, end: str = "done", flash_every: int = 25, **options):
        """Make the signal at `fps` frames a second while it is played."""
        frames = round(seconds * 25)
        stream = self.server.open(frames, self.folder)

        def make():
            began = time.monotonic()
            for start in range(0, frames, 4):
                time.sleep(max(0, began + (start + 4) / fps - time.monotonic()))
                stream.add(make_chunk(start, min(4, frames - start), flash_every=flash_every))
            stream.end(end, "what went wrong" if end == "error" else "")

        self.threads.append(threading.Thread(target=make))
        if options.pop("unclicked", False):
            self.page.goto("about:blank")
            self.page.goto(f"{self.server.address}/#{quote(json.dumps(stream.info))}")
        else:
            self.page.evaluate("([info, options]) => start(info, options)", [stream.info, options])
        self.threads[-1].start()
        return stream

    def data(self) -> dict:
        return self.page.evaluate("({...view.element.dataset})")

    def wait(self, condition: str, seconds: float = 20) -> dict:
        """Until the JavaScript condition on `d`, the published figures, is true."""
        self.page.wait_for_function(f"(d => {condition})(view.element.dataset)", timeout=seconds * 1000)
        return self.data()

    def button(self, name: str):
        return self.page.locator(f"button.{name}")


@pytest.fixture
def stage(browser, tmp_path):
    page = browser.new_page(viewport={"width": 700, "height": 420})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with LiveServer(PAGE) as server:
        stage = Stage(page, server, tmp_path)
        yield stage
        page.close()
        for thread in stage.threads:
            thread.join()
    assert errors == []


def test_picture_and_sound_are_less_than_40_ms_apart(stage):
    stage.click()
    stage.play(12)
    stage.page.evaluate("tap()")
    figures = stage.wait("d.state === 'ended'", 30)
    beeps, flashes = stage.page.evaluate("[beeps, flashes]")
    # Each beep with the flash nearest to it; the first may have been before the tap was there.
    apart = [min((flash - beep for flash in flashes), key=abs) for beep in beeps]
    print(f"picture after sound, ms: {[round(a) for a in apart]}; the player says {figures['avOffsetMs']}")
    assert len(apart) >= 10
    assert statistics.median(abs(a) for a in apart) < 40
    assert abs(float(figures["avOffsetMs"]) - statistics.median(apart)) < 40, "the player's own figure is another"


def test_25_frames_a_second_are_shown_and_first_picture_comes_at_once(stage):
    stage.click()
    began = time.monotonic()
    stage.play(10)
    figures = stage.wait("d.state === 'ended'", 30)
    seconds = time.monotonic() - began
    shown, dropped = int(figures["framesShown"]), int(figures["framesDropped"])
    print(f"{shown} shown, {dropped} dropped in {seconds:.1f} s; first picture after {figures['firstPictureMs']} ms")
    assert shown + dropped == 250 and figures["stalls"] == "0"
    assert dropped <= 0.1 * 250  # 1 % where nothing else runs: docs/graph.md says how that is measured
    assert 10 < seconds < 12.5
    assert int(figures["firstPictureMs"]) < 600  # 80 of them until the first four are made


def test_sound_pieces_meet_without_a_gap(stage):
    """One frame in one is "flashing": the beep never stops, and a gap or doubled sample breaks the sine."""
    stage.click()
    stage.play(4, flash_every=1)
    stage.page.evaluate("tap()")
    stage.wait("d.state === 'ended'")
    heard = stage.page.evaluate("heard")
    first = next(i for i, sample in enumerate(heard) if abs(sample) > 0.01)
    sine = heard[first : first + 2 * 16_000]
    # x[n+1] = 2 cos(w) x[n] - x[n-1] for any sine: what is left is an error.
    twice = 2 * math.cos(2 * math.pi * 1000 / 16_000)
    errors = [abs(c - twice * b + a) for a, b, c in zip(sine, sine[1:], sine[2:], strict=False)]
    assert max(abs(sample) for sample in sine) > 0.4 and len(errors) > 30_000
    assert max(errors) < 0.01, f"{sum(e > 0.01 for e in errors)} breaks"


def test_without_a_click_pictures_play_on_a_clock_and_a_click_brings_the_sound(stage):
    stage.play(10, unclicked=True)
    time.sleep(2.5)
    assert set(stage.page.evaluate("clocks")) == {"stopped", "wall"}
    figures = stage.data()
    assert int(figures["framesShown"]) > 20 and figures["audioScheduled"] == "0"
    assert stage.button("mute").get_attribute("data-icon") == "silent"
    stage.button("mute").click()
    figures = stage.wait("d.clock === 'sound' && Number(d.audioScheduled) > 20")
    assert stage.button("mute").get_attribute("data-icon") == "loud"
    frame = int(figures["frame"])
    figures = stage.wait(f"Number(d.frame) > {frame + 25}")
    assert int(figures["framesDropped"]) <= 5, "the pictures jumped when the sound came"


def test_pause_scrub_play_and_mute(stage):
    stage.click()
    stage.play(8, fps=200)
    stage.wait("Number(d.frame) > 10 && d.run === 'done'")
    stage.button("toggle").click()
    paused = stage.wait("d.state === 'paused'")
    stage.page.wait_for_timeout(300)
    assert abs(int(stage.data()["frame"]) - int(paused["frame"])) <= 1
    stage.page.evaluate("view.player.seek(120)")
    stage.wait("d.frame === '120'")
    pixel = "view.canvas.getContext('2d').getImageData(30, 30, 1, 1).data[0]"
    assert abs(stage.page.evaluate(pixel) - 120 % 64) <= 2
    box = stage.page.locator("input").bounding_box()
    stage.page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert abs(int(stage.wait("d.frame !== '120'")["frame"]) - 50) < 12
    stage.button("toggle").click()
    stage.wait("d.state === 'playing' && d.clock === 'sound'")
    stage.button("mute").click()
    assert stage.page.evaluate("view.player.sound.gain.gain.value") == 0
    stage.button("mute").click()
    assert stage.page.evaluate("view.player.sound.gain.gain.value") == 1
    stage.wait("d.state === 'ended'")
    stage.button("toggle").click()
    stage.wait("d.state === 'playing' && Number(d.frame) < 50")


def test_slower_than_real_time_waits_and_goes_on_without_loss(stage):
    stage.click()
    stage.play(5, fps=18)
    figures = stage.wait("d.state === 'ended'", 40)
    assert int(figures["stalls"]) >= 1
    assert int(figures["framesShown"]) + int(figures["framesDropped"]) == 125 and int(figures["framesDropped"]) <= 6


def test_cancelled_and_failed_runs_say_so(stage):
    stage.click()
    stage.play(2, fps=200, end="cancelled")
    assert stage.wait("d.run === 'cancelled'")["state"] == "paused"
    assert stage.page.locator(".state").inner_text() == "cancelled"
    stage.play(2, fps=200, end="error")
    stage.wait("d.run === 'error'")
    assert stage.page.locator(".note").inner_text() == "what went wrong"


def test_a_removed_stream_keeps_its_last_picture(stage):
    stage.click()
    stream = stage.play(4)
    stage.wait("Number(d.frame) > 5 && d.run === 'done'")
    stage.server.live.STREAMS.remove(stream)
    stage.wait("d.state === 'gone'")
    assert stage.page.locator("canvas").is_visible() and stage.page.locator(".bar[data-off]").count() == 1


def test_a_broken_connection_comes_back(stage):
    stage.click()
    stage.play(8)
    frame = int(stage.wait("Number(d.frame) > 10")["frame"])
    stage.page.evaluate("view.player.connection.socket.close()")
    stage.wait(f"d.state === 'playing' && Number(d.frame) > {frame + 20}")


def test_nothing_grows_while_playing(stage):
    """A minute made at once: the player holds a few seconds of it, whatever the length."""
    stage.click()
    stage.play(60, fps=2000)
    most = 0
    for _ in range(20):
        stage.page.wait_for_timeout(200)
        most = max(most, stage.page.evaluate("view.player.pictures.pictures.size + view.player.sounds.size"))
    assert 20 < most <= 2 * 80
    sources = stage.page.evaluate("view.player.sound.sources.size")
    assert sources <= 80
