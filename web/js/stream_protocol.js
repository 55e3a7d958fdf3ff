// The browser's end of the wire; nodes/live_wire.py and nodes/live.py are the other.

const HEADER_BYTES = 20
const PICTURE = 1
const SOUND = 2
export const REMOVED = 4000 // close code: the stream is no longer kept
const PING_MS = 5000
const RETRIES_MS = [300, 1000, 2000, 4000]

/**
 * The packets of one binary message.
 * @param {ArrayBuffer} buffer
 * @returns {{kind: "picture"|"sound", turn: number, label: number, frame: number, made: number, data: Uint8Array}[]}
 */
export function parsePackets(buffer) {
  const view = new DataView(buffer)
  const packets = []
  for (let at = 0; at < buffer.byteLength; ) {
    const kind = view.getUint8(at)
    const length = view.getUint32(at + 16, true)
    const end = at + HEADER_BYTES + length
    if ((kind !== PICTURE && kind !== SOUND) || end > buffer.byteLength) {
      throw new Error(`LLIA: packet of kind ${kind} and ${length} bytes in a message of ${buffer.byteLength}`)
    }
    packets.push({
      kind: kind === PICTURE ? 'picture' : 'sound',
      turn: view.getUint8(at + 1),
      label: view.getUint8(at + 2),
      frame: view.getUint32(at + 4, true),
      made: view.getFloat64(at + 8, true),
      data: new Uint8Array(buffer, at + HEADER_BYTES, length)
    })
    at = end
  }
  return packets
}

/** One channel of interleaved signed 16-bit samples as floats in [-1, 1]. */
export function channelOf(bytes, channel, channels) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const samples = new Float32Array(bytes.byteLength / 2 / channels)
  for (let i = 0; i < samples.length; i++) {
    samples[i] = view.getInt16(2 * (i * channels + channel), true) / 32767
  }
  return samples
}

/**
 * A websocket that comes back after a short interruption, and knows how far the server's clock is ahead of ours.
 * handlers: onOpen(), onPackets(packets), onMessage(object), onLost(final: boolean)
 */
export class Connection {
  constructor(url, handlers) {
    this.url = url
    this.handlers = handlers
    this.tries = 0
    this.closed = false
    this.clockOffset = 0 // seconds
    this.pinger = setInterval(() => this.ping(), PING_MS)
    this.connect()
  }

  connect() {
    const socket = new WebSocket(this.url)
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => {
      this.ping()
      this.handlers.onOpen()
    }
    socket.onmessage = ({ data }) => {
      this.tries = 0
      if (typeof data === 'string') this.hear(JSON.parse(data))
      else this.handlers.onPackets(parsePackets(data))
    }
    socket.onclose = ({ code }) => this.lost(code)
    this.socket = socket
  }

  lost(code) {
    if (this.closed) return
    const final = code === REMOVED || this.tries >= RETRIES_MS.length
    if (final) this.close()
    else this.timer = setTimeout(() => this.connect(), RETRIES_MS[this.tries++])
    this.handlers.onLost(final)
  }

  ping() {
    this.send({ type: 'ping', sent: Date.now() / 1000 })
  }

  hear(message) {
    if (message.type !== 'pong') return this.handlers.onMessage(message)
    this.clockOffset = message.now - (message.sent + Date.now() / 1000) / 2
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message))
  }

  close() {
    this.closed = true
    clearTimeout(this.timer)
    clearInterval(this.pinger)
    this.socket.close()
  }
}
