// LLIA Streaming Preview: puts a player into the node, and connects it when the server announces a stream.

import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'
import { StreamView } from './stream_view.js'

const NODE = 'LLIA_StreamingPreview'
const HEIGHT = { min: 240, most: 4096, first: 400 }
const WIDTH = 340

const views = new WeakMap() // node -> StreamView
let runBegan = null // performance.now()

/** The node that "1:2:3" means: node 3 in the subgraph of node 2 in the subgraph of node 1. */
function nodeOf(executionId) {
  let graph = app.rootGraph ?? app.graph
  let node = null
  for (const id of String(executionId).split(':')) {
    node = graph?.getNodeById(Number(id)) ?? graph?.getNodeById(id)
    graph = node?.subgraph
  }
  return node
}

/** The player of a stream, if its workflow is the one that is open. */
function viewFor(info) {
  const open = (app.rootGraph ?? app.graph)?.id
  if (info.workflow && open && info.workflow !== open) return undefined
  const node = nodeOf(info.node)
  return node ? views.get(node) : undefined
}

function streamAddress(stream) {
  const address = new URL(api.apiURL(`/llia/stream/${stream}`), location.href)
  address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:'
  return address.href
}

/** After a reload, or when a workflow is opened again: connect to what the server runs or still keeps. */
async function reconnect() {
  const client = api.clientId ?? api.initialClientId
  if (!client) return
  const response = await api.fetchApi(`/llia/streams?client_id=${encodeURIComponent(client)}`)
  if (!response.ok) return
  for (const info of await response.json()) {
    const view = viewFor(info)
    if (!view || view.player.info) continue
    const running = info.state === 'running'
    view.player.open(streamAddress(info.stream), info, { live: running, play: running })
  }
}

function addPlayer(node) {
  const view = new StreamView()
  views.set(node, view)
  const widget = node.addDOMWidget('player', 'llia_stream', view.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => HEIGHT.min,
    getMaxHeight: () => HEIGHT.most
  })
  widget.serialize = false
  node.setSize([Math.max(WIDTH, node.size[0]), Math.max(HEIGHT.first + 100, node.size[1])])
  const { onExecuted, onRemoved } = node
  node.onExecuted = function (output, ...more) {
    // Made before, for another page: this one has not been told of the stream yet.
    const info = output?.llia_stream?.[0]
    if (info && info.stream !== view.player.info?.stream) {
      view.player.open(streamAddress(info.stream), info, { since: runBegan })
    }
    return onExecuted?.call(this, output, ...more)
  }
  node.onRemoved = function (...args) {
    view.dispose()
    return onRemoved?.apply(this, args)
  }
}

app.registerExtension({
  name: 'llia.StreamingPreview',

  setup() {
    api.addEventListener('execution_start', () => {
      runBegan = performance.now()
    })
    api.addEventListener('llia.stream', ({ detail }) => {
      viewFor(detail)?.player.open(streamAddress(detail.stream), detail, { since: runBegan })
    })
    // Nothing changed, so nothing is made again: play once more what is there.
    api.addEventListener('execution_cached', ({ detail }) => {
      for (const id of detail.nodes ?? []) {
        const node = nodeOf(id)
        if (node) views.get(node)?.player.replay()
      }
    })
  },

  nodeCreated(node) {
    if (node.comfyClass === NODE) addPlayer(node)
  },

  afterConfigureGraph() {
    return reconnect().catch((error) => console.warn('LLIA: streams cannot be listed', error))
  }
})
