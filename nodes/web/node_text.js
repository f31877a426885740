// Room on canvas nodes for what the pack says on them: the host shows its text but keeps two lines free.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { heightOf } from './clip_view.js'
import { nodeOf } from './sampling.js'

const HOSTS_WIDGET = '$$node-text-preview'
const MARGIN = 10 // pixels that the host keeps free on each side of an element of a node
const PADDING = { x: 16, y: 8 } // of its text, on each side
const STYLE = 'font-size: 12px; line-height: 16px; white-space: pre-line; word-break: break-all'

app.registerExtension({
  name: 'FastAnimateDiff.NodeText',

  setup() {
    api.addEventListener('fast-animatediff.text', ({ detail }) => makeRoom(nodeOf(detail.node), detail.text))
  }
})

function makeRoom(node, text) {
  const widget = node?.widgets?.find(({ name }) => name === HOSTS_WIDGET)
  if (!widget || window.LiteGraph.vueNodesMode) return // Nodes 2.0 makes room by itself
  const height = heightOf(text, STYLE, node.size[0] - 2 * (MARGIN + PADDING.x)) + 2 * (MARGIN + PADDING.y)
  widget.options.getMinHeight = () => height
  const [width, needed] = [node.size[0], node.computeSize()[1]]
  if (node.size[1] < needed) node.setSize([width, needed])
  node.setDirtyCanvas(true, true)
}
