// What is received, when it is shown, what the server is told. stream_view.js has the controls.

import { Figures } from './stream_figures.js'
import { PictureStock } from './stream_pictures.js'
import { Connection } from './stream_protocol.js'
import { StreamSound } from './stream_sound.js'

const JITTER_S = 0.2 // stock of frames before playing starts
const JITTER_MOST_S = 2 // after interruptions the stock grows up to this
const AHEAD = 75 // frames that the server may send beyond the one shown
const AHEAD_PAUSED = 8
const DRAW_EARLY_S = 0.01 // a drawn picture reaches the screen about this much later
const REPORT_MS = 150

/**
 * Plays one stream on one canvas.
 * view: {canvas, frameRequest(callback), hidden, changed()}; changed() is called whenever the display is to be renewed.
 */
export class StreamPlayer {
  constructor(view) {
    this.view = view
    this.state = 'empty' // connecting, buffering, playing, paused, ended, gone
    this.info = null
    this.silenced = false // by the user
  }

  /**
   * info: what the server announced. since: performance.now() when the run began, null if that is not known.
   * live: start at the newest frame. play: start at once.
   */
  open(url, info, { since = null, live = false, play = true } = {}) {
    this.close()
    this.info = info
    this.run = { state: 'running', made: info.made ?? 0, made_fps: 0, left_s: null, message: '' }
    this.wanted = play
    this.pictures = new PictureStock()
    this.sounds = new Map() // frame -> bytes
    this.turn = 0
    this.stock = JITTER_S
    this.figures = new Figures(since)
    this.sound = new StreamSound(info.sample_rate, info.channels, () => this.restartClock())
    this.sound.muted = this.silenced
    this.goTo(live ? Math.max(0, this.run.made - 1) : 0)
    this.setState('connecting')
    this.connection = new Connection(url, {
      onOpen: () => this.greet(),
      onPackets: (packets) => this.take(packets),
      onMessage: (message) => this.hear(message),
      onLost: (final) => this.lost(final)
    })
    // Animation frames stop in a hidden tab, sound does not.
    this.timer = setInterval(() => this.step(), 200)
  }

  close() {
    if (!this.info) return
    clearInterval(this.timer)
    this.connection.close()
    this.sound.close()
    this.forget()
    this.info = null
    this.setState('empty')
  }

  // What the user does

  toggle() {
    if (this.wanted) this.pause()
    else this.play()
  }

  play() {
    if (!this.info || this.state === 'gone') return
    this.wanted = true
    this.sound.wake() // within the user's click, as browsers require
    if (this.state === 'ended') this.seek(0)
    else this.setState('buffering')
    this.step()
  }

  pause() {
    if (!this.info) return
    this.wanted = false
    this.position = this.time
    this.sound.sleep()
    if (this.state !== 'gone') this.setState('paused')
    this.tell('at')
  }

  /** Show `frame`; playing goes on from there if it was playing. */
  seek(frame) {
    if (!this.info || this.state === 'gone') return
    this.goTo(Math.min(Math.max(0, frame), Math.max(0, this.run.made - 1)))
    this.turn = (this.turn + 1) % 256
    this.tell('seek')
    this.setState(this.wanted ? 'buffering' : 'paused')
  }

  replay() {
    if (!this.info || this.state === 'gone') return
    this.seek(0)
    this.play()
  }

  /** Silence or sound; asking for sound wakes what the browser's autoplay policy keeps asleep. */
  setMuted(muted) {
    this.silenced = muted
    if (!this.info) return
    this.sound.muted = muted
    if (!muted) this.sound.wake()
    this.view.changed()
  }

  get muted() {
    return this.silenced || (this.info !== null && this.sound.running && !this.sound.audible)
  }

  // Time

  /** Media time in seconds: the clock's while it runs. */
  get time() {
    return this.sound.running ? this.sound.time : this.position
  }

  /** The frame to be shown now. */
  get frame() {
    const early = this.sound.running ? DRAW_EARLY_S : 0
    return Math.max(0, Math.min(Math.floor((this.time + early) * this.info.fps + 1e-6), this.got - 1))
  }

  get complete() {
    return this.run.state !== 'running' && this.got >= this.run.made
  }

  goTo(frame) {
    this.sound.stop()
    this.forget()
    this.position = frame / this.info.fps
    this.got = frame // all frames before this one have arrived
    this.reported = { got: frame, at: 0 }
    this.last = null // frame shown last
  }

  forget() {
    this.pictures.clear()
    this.sounds.clear()
  }

  // The server

  greet() {
    this.tell('seek')
    this.setState('buffering')
  }

  /** type: seek (begin at the frame that is to arrive next) or at (the frame shown now). */
  tell(type) {
    this.reported = { got: this.got, at: performance.now() }
    const ahead = this.wanted ? AHEAD : AHEAD_PAUSED
    const frame = type === 'seek' ? this.got : this.frame
    this.connection.send({ type, frame, got: this.got, turn: this.turn, ahead })
  }

  hear(message) {
    const before = this.run.state
    this.run = { ...this.run, ...message }
    if (before === 'running' && (this.run.state === 'cancelled' || this.run.state === 'error')) this.pause()
    this.view.changed()
    this.step()
  }

  take(packets) {
    for (const { kind, turn, frame, label, made, data } of packets) {
      if (turn !== this.turn || frame < this.got - 1) continue
      this.got = frame + 1
      this.run.made = Math.max(this.run.made, this.got)
      if (kind === 'sound') {
        this.sounds.set(frame, data)
        this.schedule(frame)
      } else {
        this.pictures.put(frame, data, label, made)
      }
    }
    this.step()
  }

  lost(final) {
    this.position = this.time
    this.sound.sleep()
    this.setState(final ? 'gone' : 'connecting')
  }

  // Every animation frame

  step() {
    if (!this.info) return
    if (this.wanted && !['connecting', 'gone', 'ended'].includes(this.state)) this.advance()
    this.show()
    const { got, at } = this.reported
    if (performance.now() - at > REPORT_MS || this.got - got >= 8) this.tell('at')
    if (!this.awaited && (this.sound.running || this.last !== this.frame)) {
      this.awaited = true
      this.view.frameRequest(() => {
        this.awaited = false
        this.step()
      })
    }
  }

  advance() {
    const stock = this.got / this.info.fps - this.time
    if (this.sound.running) {
      if (stock > 0) return
      this.position = this.got / this.info.fps
      this.sound.stop()
      if (this.complete) return this.finish()
      this.figures.stalls++
      this.stock = Math.min(2 * this.stock, JITTER_MOST_S)
      this.setState('buffering')
    } else if (this.complete ? stock > 0 : stock >= this.stock) {
      this.startClock()
    } else if (this.complete && this.got > 0) {
      this.finish()
    }
  }

  finish() {
    this.wanted = false
    this.position = Math.max(0, this.got - 1) / this.info.fps
    this.sound.sleep()
    this.setState('ended')
  }

  async startClock() {
    if (this.starting) return
    this.starting = true
    const turn = this.turn
    const info = this.info
    await this.sound.wake()
    this.starting = false
    if (this.info !== info || this.turn !== turn || !this.wanted) return
    this.restartClock()
    this.setState('playing')
    this.step()
  }

  restartClock() {
    const time = this.time
    this.sound.start(time)
    for (const frame of [...this.sounds.keys()].sort((a, b) => a - b)) this.schedule(frame)
    this.view.changed()
  }

  schedule(frame) {
    const { sample_rate, fps } = this.info
    if (this.sound.running) this.sound.add(Math.round((frame * sample_rate) / fps), this.sounds.get(frame))
  }

  /** Draw the newest decoded picture that is due; forget what is over. */
  show() {
    const due = this.frame
    this.pictures.decode(due, () => this.last === null && this.step())
    const picture = this.pictures.newest(due)
    if (picture && picture.frame !== this.last) this.draw(picture)
    this.pictures.forgetBefore(this.last ?? 0)
    for (const frame of this.sounds.keys()) if (frame < due - 1) this.sounds.delete(frame)
  }

  draw({ frame, bitmap, label, made }) {
    const { canvas } = this.view
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width
      canvas.height = bitmap.height
    }
    canvas.getContext('2d').drawImage(bitmap, 0, 0)
    this.note(frame, made)
    this.label = label
    this.last = frame
    this.view.changed()
  }

  /** Keep the figures of a picture that is shown now. */
  note(frame, made) {
    const { figures } = this
    if (figures.shown++ === 0) figures.first(made - this.connection.clockOffset)
    if (this.view.hidden) return
    if (this.last !== null) figures.dropped += Math.max(0, frame - this.last - 1)
    if (this.sound.running && this.sound.audible) figures.addOffset((this.sound.time - frame / this.info.fps) * 1000)
  }

  setState(state) {
    if (state === this.state) return
    this.state = state
    this.view.changed()
  }
}
