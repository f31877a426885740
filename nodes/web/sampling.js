// The clip while it is being sampled, on the node that samples it.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { ClipView } from './clip_view.js'

const views = new WeakMap()

app.registerExtension({
  name: 'FastAnimateDiff.Sampling',

  setup() {
    api.addEventListener('fast-animatediff.preview', ({ detail: { workflow, node, picture } }) => {
      if (mayBeOpen(workflow)) views.get(nodeOf(node))?.show([picture])
    })
  },

  nodeCreated(node) {
    if (node.comfyClass === 'FAD_Sampler') views.set(node, new ClipView(node, 'preview', 1))
  }
})

// Whether a run was of the workflow that is open, by its id; another tab's nodes have the same ids. Unnamed ones may be.
export function mayBeOpen(workflow) {
  return !workflow || workflow === app.rootGraph.id
}

// A node by its path: `7`, or `3:7` for node 7 of the subgraph that node 3 is.
export function nodeOf(path) {
  return String(path)
    .split(':')
    .reduce((node, id) => (node?.subgraph ?? node)?.getNodeById?.(id), app.rootGraph)
}
