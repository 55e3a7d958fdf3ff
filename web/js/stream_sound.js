// Sound, and the clock that pictures follow. Where sound may not play (no click yet), the clock goes on alone.

import { channelOf } from './stream_protocol.js'

const LEAD_S = 0.02 // between asking for sound and its first sample
const RESUME_MS = 150 // how long to wait for a sleeping AudioContext

export class StreamSound {
  /** onChange: called when, while the clock runs, sound became possible or impossible: it is to be started again. */
  constructor(sampleRate, channels, onChange) {
    this.sampleRate = sampleRate
    this.channels = channels
    this.scheduled = 0 // pieces handed to the browser so far
    this.sources = new Set()
    this.origin = null // {context: seconds} or {wall: seconds} at media time 0; null while stopped
    this.floor = 0 // media time at the last start: the clock never shows less
    try {
      this.context = new AudioContext({ sampleRate, latencyHint: 'interactive' })
    } catch {
      this.context = new AudioContext() // a rate that the browser cannot run at: pieces are resampled one by one
    }
    this.gain = this.context.createGain()
    this.gain.connect(this.context.destination)
    this.asleep = false // on purpose
    this.context.onstatechange = () => {
      if (!this.asleep && this.context.state === 'suspended') this.context.resume().catch(() => {})
      if (this.origin && this.audible === 'wall' in this.origin) onChange()
    }
  }

  /** Is the AudioContext running? */
  get audible() {
    return this.context.state === 'running'
  }

  get running() {
    return this.origin !== null
  }

  /** Wake the AudioContext if the browser allows it; gives up soon, since a refusal is never answered. */
  async wake() {
    if (this.context.state === 'closed') return
    this.asleep = false
    const waiting = new Promise((resolve) => setTimeout(resolve, RESUME_MS))
    await Promise.race([this.context.resume().catch(() => {}), waiting])
  }

  /** Nothing to be heard for a while: let the browser rest. */
  sleep() {
    this.stop()
    this.asleep = true
    if (this.audible) this.context.suspend()
  }

  /** Let the clock run from media time `seconds`; sound is to be added afterwards. */
  start(seconds) {
    this.stop()
    this.floor = seconds
    if (this.audible) {
      // A whole number of samples, so that pieces meet without a gap.
      const samples = Math.round((this.context.currentTime + LEAD_S - seconds) * this.sampleRate)
      this.origin = { context: samples / this.sampleRate, samples }
    } else {
      this.origin = { wall: performance.now() / 1000 - seconds }
    }
  }

  stop() {
    for (const source of this.sources) {
      source.onended = null
      source.stop()
    }
    this.sources.clear()
    this.origin = null
  }

  /** Schedule a piece of interleaved 16-bit sound that begins at sample `start` of the stream. */
  add(start, bytes) {
    if (!this.origin || !('samples' in this.origin) || bytes.length === 0) return
    const pieces = Array.from({ length: this.channels }, (_, channel) => channelOf(bytes, channel, this.channels))
    const buffer = this.context.createBuffer(this.channels, pieces[0].length, this.sampleRate)
    pieces.forEach((samples, channel) => buffer.copyToChannel(samples, channel))
    const when = (this.origin.samples + start) / this.sampleRate
    const late = this.context.currentTime - when
    if (late >= buffer.duration) return
    const source = this.context.createBufferSource()
    source.buffer = buffer
    source.connect(this.gain)
    source.onended = () => this.sources.delete(source)
    if (late > 0) source.start(0, late)
    else source.start(when)
    this.sources.add(source)
    this.scheduled++
  }

  /** Media time in seconds that is heard right now. */
  get time() {
    if (!this.origin) return this.floor
    const seconds = 'wall' in this.origin ? performance.now() / 1000 : this.heard()
    return Math.max(this.floor, seconds - (this.origin.wall ?? this.origin.context))
  }

  /** Context time that leaves the loudspeaker right now: currentTime is ahead of it, and moves in steps. */
  heard() {
    const { currentTime, outputLatency, baseLatency } = this.context
    const stamp = this.context.getOutputTimestamp?.()
    if (!stamp || !stamp.contextTime) return currentTime - (outputLatency || baseLatency || 0)
    const now = stamp.contextTime + (performance.now() - stamp.performanceTime) / 1000
    return Math.min(currentTime, Math.max(currentTime - 0.5, now))
  }

  set muted(muted) {
    this.gain.gain.value = muted ? 0 : 1
  }

  close() {
    this.stop()
    this.context.onstatechange = null
    if (this.context.state !== 'closed') this.context.close()
  }
}
