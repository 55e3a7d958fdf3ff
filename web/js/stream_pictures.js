// The stock of pictures: JPEG as received, decoded shortly before they are due.

const DECODE_AHEAD = 8 // pictures decoded beyond the one shown

export class PictureStock {
  constructor() {
    this.pictures = new Map() // frame -> {bytes | null, bitmap | null, label, made}
  }

  put(frame, bytes, label, made) {
    this.pictures.set(frame, { bytes, label, made, bitmap: null })
  }

  /** Decode the pictures from `frame` on; onDecoded is called for each of them. */
  decode(frame, onDecoded) {
    for (let next = frame; next <= frame + DECODE_AHEAD; next++) {
      const picture = this.pictures.get(next)
      if (!picture?.bytes) continue
      const blob = new Blob([picture.bytes], { type: 'image/jpeg' })
      picture.bytes = null
      createImageBitmap(blob).then((bitmap) => {
        if (this.pictures.get(next) !== picture) return bitmap.close() // not wanted any more
        picture.bitmap = bitmap
        onDecoded()
      })
    }
  }

  /** The newest decoded picture up to frame `due`: {frame, bitmap, label, made}, or null. */
  newest(due) {
    let best = null
    for (const [frame, picture] of this.pictures) {
      if (picture.bitmap && frame <= due && (best === null || frame > best.frame)) best = { frame, ...picture }
    }
    return best
  }

  forgetBefore(limit) {
    for (const [frame, { bitmap }] of this.pictures) {
      if (frame >= limit) continue
      bitmap?.close()
      this.pictures.delete(frame)
    }
  }

  clear() {
    this.forgetBefore(Infinity)
  }
}
