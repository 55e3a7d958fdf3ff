// The player's face in a node: picture, state, figures, controls. stream_player.js does the playing.

import { StreamPlayer } from './stream_player.js'
import { ICONS, STYLE } from './stream_style.js'

const SCRUB_MS = 60 // between two positions asked for while the bar is dragged

const MARKUP = `
<style>${STYLE}</style>
<div class="player">
  <div class="screen">
    <canvas width="1" height="1"></canvas>
    <div class="empty">${ICONS.face}<span>Run the workflow:<br>the avatar speaks here while it is made</span></div>
    <div class="chips">
      <div class="chip state" hidden><i class="dot"></i><span></span></div>
      <div class="chip stats" hidden></div>
    </div>
    <div class="middle" hidden></div>
    <div class="note" hidden></div>
  </div>
  <div class="bar" data-off>
    <button class="toggle"></button>
    <div class="time"></div>
    <input type="range" min="0" max="1" step="1" value="0" aria-label="Position">
    <button class="mute"></button>
    <button class="pop" title="Pop out" aria-label="Pop out">${ICONS.pop}</button>
  </div>
</div>
<div class="away" hidden><span>Playing in its own window</span><button class="text">Bring it back</button></div>
`

export class StreamView {
  constructor() {
    this.element = document.createElement('div')
    this.element.className = 'llia-stream'
    const shadow = this.element.attachShadow({ mode: 'open' })
    shadow.innerHTML = MARKUP
    const find = (selector) => shadow.querySelector(selector)
    this.style = find('style')
    this.root = find('.player')
    this.away = find('.away')
    this.canvas = find('canvas')
    const names = ['screen', 'empty', 'state', 'stats', 'middle', 'note', 'bar', 'toggle', 'time', 'mute', 'pop']
    this.parts = Object.fromEntries(names.map((name) => [name, find(`.${name}`)]))
    this.scrubber = find('input')
    this.player = new StreamPlayer(this)
    this.listen()
    this.changed()
  }

  // What the player asks for

  /** Animation frames of the window that the player is in now. */
  frameRequest(callback) {
    const home = this.root.ownerDocument.defaultView ?? window
    home.requestAnimationFrame(callback)
  }

  get hidden() {
    return this.root.ownerDocument.hidden
  }

  changed() {
    if (!this.player) return
    const { player } = this
    const idle = player.info === null
    const { empty, state, stats, note, bar } = this.parts
    empty.hidden = !idle && player.last !== null
    bar.toggleAttribute('data-off', idle || player.state === 'gone')
    state.hidden = stats.hidden = idle || player.last === null
    this.showControls()
    if (!idle) {
      this.showLabel()
      this.showStats()
      this.showTime()
    }
    const failed = !idle && player.run.state === 'error'
    note.hidden = !failed
    if (failed) note.textContent = player.run.message || 'The run failed: see the error message of the workflow.'
    this.publish()
  }

  showControls() {
    const { player } = this
    const icon = player.wanted ? 'pause' : player.state === 'ended' ? 'again' : 'play'
    const name = { pause: 'Pause', again: 'Play again', play: 'Play' }[icon]
    setIcon(this.parts.toggle, icon, name)
    const why = player.silenced ? 'Sound on' : 'The browser waits for a click before it plays sound'
    setIcon(this.parts.mute, player.muted ? 'silent' : 'loud', player.muted ? why : 'Mute')
    const waiting = player.wanted && ['connecting', 'buffering'].includes(player.state)
    const { middle } = this.parts
    middle.hidden = !player.info || (!waiting && !['paused', 'ended'].includes(player.state))
    middle.classList.toggle('waiting', waiting)
    if (!waiting && !middle.hidden) setIcon(middle, icon)
  }

  showLabel() {
    const { info, label, run, state } = this.player
    const name = info.labels?.[label] ?? ''
    this.root.dataset.label = name
    const instead = { gone: 'no longer kept', connecting: 'connecting' }[state]
    const text = instead ?? (run.state === 'cancelled' ? 'cancelled' : name)
    setText(this.parts.state.lastElementChild, text)
  }

  showStats() {
    const { run, figures, info } = this.player
    const running = run.state === 'running'
    const left = running && run.left_s !== null ? `${clock(run.left_s)} left` : `${run.made} frames`
    const first = figures.firstPictureMs === null ? '' : ` \u00b7 first picture ${seconds(figures.firstPictureMs)}`
    setText(this.parts.stats, `${Math.round(run.made_fps)} fps \u00b7 ${left}${first}`)
    const late = figures.latencyMs === null ? '' : `, latency ${Math.round(figures.latencyMs)} ms`
    this.parts.screen.title =
      `${run.made} of ${info.frames} frames made at ${run.made_fps.toFixed(1)} a second` +
      `; ${figures.shown} shown, ${figures.dropped} dropped${late}`
  }

  showTime() {
    const { info, run, time } = this.player
    const total = run.state === 'running' ? info.frames : run.made
    const frame = Math.min(time * info.fps, total)
    const html = `<b>${clock(frame / info.fps)}</b><span> / ${clock(total / info.fps)}</span>`
    if (this.shownTime !== html) this.parts.time.innerHTML = this.shownTime = html
    this.scrubber.max = Math.max(1, total - 1)
    if (!this.scrubbing) this.scrubber.value = frame
    const percent = (value) => `${(100 * Math.min(1, value / Math.max(1, total - 1))).toFixed(2)}%`
    this.scrubber.style.setProperty('--played', percent(this.scrubbing ? this.scrubber.value : frame))
    this.scrubber.style.setProperty('--made', percent(run.made))
  }

  /** Figures as attributes, for tests and for whoever wants to look at them. */
  publish() {
    const { player } = this
    const data = { state: player.state }
    if (player.info) {
      const { figures, run, sound } = player
      Object.assign(data, {
        stream: player.info.stream,
        run: run.state,
        made: run.made,
        frame: player.last ?? '',
        label: player.info.labels?.[player.label] ?? '',
        framesShown: figures.shown,
        framesDropped: figures.dropped,
        stalls: figures.stalls,
        audioScheduled: sound.scheduled,
        clock: sound.running ? (sound.audible ? 'sound' : 'wall') : 'stopped',
        avOffsetMs: figures.offsetMs?.toFixed(1) ?? '',
        firstPictureMs: figures.firstPictureMs?.toFixed(0) ?? '',
        latencyMs: figures.latencyMs?.toFixed(0) ?? ''
      })
    }
    Object.assign(this.element.dataset, data)
  }

  // What the user does

  listen() {
    const { screen, toggle, mute, pop } = this.parts
    const onClick = (part, action) => part.addEventListener('click', action)
    onClick(screen, () => this.player.toggle())
    onClick(toggle, () => this.player.toggle())
    onClick(mute, () => this.player.setMuted(!this.player.muted))
    onClick(pop, () => this.popOut())
    onClick(this.away.querySelector('button'), () => this.comeBack())
    // The canvas behind would move the node, or select it and take the focus.
    for (const kind of ['pointerdown', 'dblclick', 'keydown']) {
      this.root.addEventListener(kind, (event) => event.stopPropagation())
    }
    this.scrubber.addEventListener('input', () => this.scrub())
    this.scrubber.addEventListener('change', () => this.scrubEnd())
  }

  scrub() {
    if (!this.scrubbing) {
      this.scrubbing = true
      this.resume = this.player.wanted
      this.player.pause()
    }
    this.showTime()
    this.timer ??= setTimeout(() => {
      this.timer = null
      if (this.scrubbing) this.player.seek(Number(this.scrubber.value))
    }, SCRUB_MS)
  }

  scrubEnd() {
    this.scrubbing = false
    this.player.seek(Number(this.scrubber.value))
    if (this.resume) this.player.play()
  }

  /** Into a small window that stays on top; where the browser has none, full screen. */
  async popOut() {
    if (this.pip) return this.comeBack()
    if (!globalThis.documentPictureInPicture) return this.root.requestFullscreen?.()
    const { width, height } = this.player.info
    const scale = 480 / Math.max(width, height)
    const size = { width: Math.round(width * scale), height: Math.round(height * scale) + 32 }
    try {
      this.pip = await globalThis.documentPictureInPicture.requestWindow(size)
    } catch {
      return this.root.requestFullscreen?.()
    }
    this.pip.document.head.append(this.style.cloneNode(true))
    this.pip.document.body.append(this.root)
    this.pip.addEventListener('pagehide', () => this.comeBack(), { once: true })
    this.away.hidden = false
    this.player.awaited = false // the frame that was asked of the other window may never come
    this.player.step()
  }

  comeBack() {
    if (!this.pip) return
    const { pip } = this
    this.pip = null
    this.away.before(this.root)
    this.away.hidden = true
    pip.close()
    this.player.awaited = false
    this.player.step()
  }

  dispose() {
    this.comeBack()
    clearTimeout(this.timer)
    this.player.close()
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text
}

function setIcon(element, icon, name) {
  if (element.dataset.icon !== icon) {
    element.dataset.icon = icon
    element.innerHTML = ICONS[icon]
  }
  if (name && element.title !== name) {
    element.title = name
    element.setAttribute('aria-label', name)
  }
}

function clock(value) {
  const whole = Math.floor(Math.max(0, value) + 1e-6)
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}

function seconds(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`
}
