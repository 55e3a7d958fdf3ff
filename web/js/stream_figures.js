// What the player measures of itself, shown in its corner and published as data attributes.

const OFFSETS = 50 // pictures over which the distance of picture and sound is averaged

export class Figures {
  /** since: performance.now() when the run began, null if that is not known. */
  constructor(since) {
    this.since = since
    this.shown = 0
    this.dropped = 0
    this.stalls = 0
    this.firstPictureMs = null
    this.latencyMs = null // of the first picture, from made to shown
    this.offsets = []
  }

  /** The first picture is shown. made: when the server had made it, Unix time by this browser's clock. */
  first(made) {
    this.firstPictureMs = this.since === null ? null : performance.now() - this.since
    this.latencyMs = Math.max(0, Date.now() - made * 1000)
  }

  /** Mean distance of the latest pictures from the sound in ms, null without sound; positive: the picture is late. */
  get offsetMs() {
    const { offsets } = this
    return offsets.length ? offsets.reduce((sum, value) => sum + value, 0) / offsets.length : null
  }

  addOffset(ms) {
    this.offsets.push(ms)
    if (this.offsets.length > OFFSETS) this.offsets.shift()
  }
}
