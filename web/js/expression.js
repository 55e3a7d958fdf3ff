// LLIA Edit Expression and LLIA Avatar: the face in the node follows the sliders, without running the graph.

import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'

const EDIT = 'LLIA_EditExpression'
const AVATAR = 'LLIA_Avatar'
const WIDGET = 'llia_face'
const HEIGHT = { min: 180, most: 4096, first: 280 }
const WIDTH = 300
const POLL_MS = 40
const BYPASSED = 4
const RUN_FIRST = 'Run once: then the face follows the sliders here.'

/** The values of a node's widgets by name; null if another node decides one of them. */
function widgetValues(node, names) {
  const values = {}
  for (const { name, type, value } of node.widgets ?? []) {
    if (type === WIDGET || (names && !names.includes(name))) continue
    if (node.inputs?.some((input) => input.widget?.name === name && input.link != null)) return null
    if (['number', 'string'].includes(typeof value)) values[name] = value
  }
  return values
}

/** The node that feeds an input, through reroutes and bypassed nodes; null at a subgraph's border or an open end. */
function origin(node, input) {
  for (let steps = 0; input?.link != null && steps < 100; steps++) {
    const link = node.graph?.getLink?.(input.link)
    node = link && node.graph.getNodeById(link.origin_id)
    if (!node) return null
    if (node.type === 'Reroute') input = node.inputs[0]
    else if (node.mode === BYPASSED) input = node.inputs?.find(({ type, link }) => type === 'IMAGE' && link != null)
    else return node
  }
  return null
}

/** Where the picture comes from, as the server is told; null if only a run can tell. */
function imageSource(node) {
  const from = origin(node, node.inputs?.find(({ name }) => name === 'image'))
  if (from?.type === 'LoadImage') {
    const name = widgetValues(from, ['image'])?.image
    if (name && !/\[(output|temp)\]$/.test(name)) return { kind: 'upload', name }
  } else if (from?.type === AVATAR) {
    const inputs = widgetValues(from)
    if (inputs) return { kind: 'avatar', ...inputs }
  }
  return null
}

/** The picture in one node. */
class FaceView {
  constructor(node) {
    this.node = node
    this.token = null // of the picture that the node had in its last run
    this.asked = null // the request whose answer is shown, awaited or refused
    this.busy = false
    this.shown = 0
    this.element = document.createElement('div')
    this.element.className = 'llia-face'
    this.element.dataset.state = 'empty'
    Object.assign(this.element.style, { position: 'relative', width: '100%', height: '100%', overflow: 'hidden' })
    // Where the page gives no height, as in Vue nodes before frontend 1.4:
    Object.assign(this.element.style, { minHeight: `${HEIGHT.min}px`, aspectRatio: '3 / 2' })
    this.canvas = document.createElement('canvas')
    this.canvas.width = this.canvas.height = 1
    this.canvas.setAttribute('role', 'img')
    this.canvas.setAttribute('aria-label', 'The face')
    Object.assign(this.canvas.style, { position: 'absolute', width: '100%', height: '100%', objectFit: 'contain' })
    this.text = document.createElement('div')
    Object.assign(this.text.style, { position: 'absolute', inset: 'auto 0 0 0', padding: '6px', fontSize: '12px' })
    Object.assign(this.text.style, { color: '#ddd', background: 'rgba(20, 20, 20, 0.75)', textAlign: 'center' })
    this.element.append(this.canvas, this.text)
    this.say('')
    // Widgets change in many ways (dragged, typed, undone, loaded, here and upstream, in two renderers), and not all of
    // them call a callback. So the values are looked at; a request goes out when they differ.
    this.timer = setInterval(() => this.look(), POLL_MS)
  }

  dispose() {
    clearInterval(this.timer)
    this.node = null
  }

  /** [route, body], or null if there is no picture. */
  request() {
    if (this.node.comfyClass === AVATAR) {
      const inputs = widgetValues(this.node)
      return inputs && ['/llia/avatar', JSON.stringify(inputs)]
    }
    const source = imageSource(this.node) ?? (this.token && { kind: 'node', token: this.token })
    const values = widgetValues(this.node)
    if (!source || !values) return null
    const { template, ...sliders } = values
    return ['/llia/expression', JSON.stringify({ source, template, sliders })]
  }

  /** Asks for the picture of the values as they are now. One request at a time: the latest values win. */
  look() {
    if (this.busy || !this.element.isConnected) return
    const request = this.request()
    if (!request) {
      if (this.asked !== '') this.clear(this.node.comfyClass === EDIT ? RUN_FIRST : '')
      return
    }
    const asked = request.join(' ')
    if (asked === this.asked) return
    this.asked = asked
    this.busy = true
    this.fetch(...request).finally(() => {
      this.busy = false
      if (this.node) this.look()
    })
  }

  async fetch(route, body) {
    const began = performance.now()
    try {
      const headers = { 'Content-Type': 'application/json' }
      const response = await api.fetchApi(route, { method: 'POST', headers, body })
      if (response.ok) this.show(await createImageBitmap(await response.blob()), performance.now() - began)
      else if (response.status === 404 && body.includes('"token"')) this.forget()
      else if (response.status === 429) this.asked = null
      else this.clear(await response.text(), true)
    } catch (error) {
      this.clear(`No preview: ${error.message}`, true)
    }
  }

  show(bitmap, tookMs) {
    if (!this.node) return bitmap.close()
    this.canvas.width = bitmap.width
    this.canvas.height = bitmap.height
    this.canvas.getContext('2d').drawImage(bitmap, 0, 0)
    bitmap.close()
    this.say('')
    this.element.dataset.state = 'shown'
    this.element.dataset.shown = ++this.shown
    this.element.dataset.tookMs = Math.round(tookMs)
  }

  forget() {
    this.token = null
    this.asked = null
  }

  /** No picture, and why. refused: these very values are not asked for again. */
  clear(message, refused = false) {
    if (!refused) this.asked = ''
    this.canvas.width = this.canvas.height = 1
    this.element.dataset.state = refused ? 'refused' : 'empty'
    this.say(message)
  }

  say(message) {
    this.text.textContent = message
    this.text.style.display = message ? '' : 'none'
  }
}

function addFace(node) {
  const view = new FaceView(node)
  const widget = node.addDOMWidget('preview', WIDGET, view.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => HEIGHT.min,
    getMaxHeight: () => HEIGHT.most
  })
  widget.serialize = false
  const [width, height] = node.computeSize()
  node.setSize([Math.max(WIDTH, width), height + HEIGHT.first - HEIGHT.min])
  const { onRemoved, onExecuted } = node
  node.onExecuted = function (output, ...more) {
    if (output?.llia_face) view.token = output.llia_face[0]
    return onExecuted?.call(this, output, ...more)
  }
  node.onRemoved = function (...args) {
    view.dispose()
    return onRemoved?.apply(this, args)
  }
}

app.registerExtension({
  name: 'llia.Expression',

  nodeCreated(node) {
    if (node.comfyClass === EDIT || node.comfyClass === AVATAR) addFace(node)
  }
})
