// What the last run wrote, on the nodes that write videos, and the dates and values in the names that they give.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { ClipView } from './clip_view.js'

const KINDS = ['FAD_ExportVideo', 'FAD_DecodeAndExport']
const views = new WeakMap()

app.registerExtension({
  name: 'FastAnimateDiff.Results',

  nodeCreated(node) {
    if (!KINDS.includes(node.comfyClass)) return
    const view = new ClipView(node, 'result')
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.call(this, output)
      const workflow = output?.video?.[0]?.workflow
      if (!workflow || workflow === app.rootGraph.id) show(view, output) // else of another tab, where the ids of nodes are the same
    }
    views.set(node, view)
    const prefix = node.widgets.find(({ name }) => name === 'filename_prefix')
    prefix.serializeValue = () => window.comfyAPI.utils.applyTextReplacements(app.rootGraph, prefix.value) // as core's nodes do
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
  const address = ({ filename, subfolder, type }) => api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
  view.show((output?.video ?? []).map(address))
}
