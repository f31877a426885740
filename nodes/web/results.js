// What the last run wrote, on the nodes that write videos, and the dates and values in the names that they give.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { ClipView } from './clip_view.js'
import { mayBeOpen, nodeOf } from './sampling.js'

const KINDS = ['FAD_ExportVideo', 'FAD_DecodeAndExport']
const views = new WeakMap()
let cached = [] // paths of the nodes whose results the last run took from one before

app.registerExtension({
  name: 'FastAnimateDiff.Results',

  setup() {
    api.addEventListener('execution_cached', ({ detail }) => (cached = detail.nodes))
  },

  nodeCreated(node) {
    if (!KINDS.includes(node.comfyClass)) return
    const view = new ClipView(node, 'result')
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.call(this, output)
      const workflow = output?.video?.[0]?.workflow
      const isCached = cached.some((path) => nodeOf(path) === node) // and names the workflow that made it
      if (isCached || mayBeOpen(workflow)) show(view, output)
    }
    views.set(node, view)
    const prefix = node.widgets.find(({ name }) => name === 'filename_prefix')
    const { applyTextReplacements } = window.comfyAPI.utils // as core's nodes use it
    // A damaged file may hold no text: the server says so, where the page would send nothing.
    const isText = () => typeof prefix.value === 'string'
    prefix.serializeValue = () => (isText() ? applyTextReplacements(app.rootGraph, prefix.value) : prefix.value)
  },

  // A workflow comes back with what its nodes have shown, once the host has put that in place.
  afterConfigureGraph() {
    requestAnimationFrame(() => {
      for (const graph of [app.rootGraph, ...app.rootGraph.subgraphs.values()]) {
        for (const node of graph.nodes) {
          const key = graph === app.rootGraph ? node.id : `${graph.id}:${node.id}`
          if (views.has(node)) show(views.get(node), app.nodeOutputs[key])
        }
      }
    })
  }
})

function show(view, output) {
  // Results of before 0.2.0 don't say when they were written.
  const address = ({ filename, subfolder, type, written = '' }) =>
    api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, written })}`)
  view.show((output?.video ?? []).map(address))
}
