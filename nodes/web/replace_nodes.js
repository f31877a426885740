// Offers to replace the nodes of other AnimateDiff packs when a workflow that holds them is opened.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const declined = new Set() // ids of workflows whose nodes the user wants to keep

const isMissing = (node) => !(node.type in window.LiteGraph.registered_node_types)

async function asked(conversion) {
  const left = conversion.left.length ? [`Stay as they are: ${[...new Set(conversion.left)].join(', ')}.`] : []
  return app.extensionManager.dialog.confirm({
    title: 'Replace nodes of other AnimateDiff packs?',
    message:
      `${conversion.replaced.length} nodes of this workflow belong to packs that are not installed. ` +
      'Fast AnimateDiff and ComfyUI have nodes that do the same, with the same values and connections.' +
      (conversion.notes.length ? ' What they do not take over:' : ''),
    itemList: [...conversion.notes, ...left]
  })
}

app.registerExtension({
  name: 'FastAnimateDiff.ReplaceNodes',

  async beforeConfigureGraph(workflow) {
    const graphs = [workflow, ...(workflow?.definitions?.subgraphs ?? [])]
    if (!graphs.some((graph) => graph?.nodes?.some(isMissing))) return
    workflow.id ||= window.LiteGraph.uuidv4() // which files of 2023 lack: the page keeps it
    if (declined.has(workflow.id)) return
    const response = await api.fetchApi('/fast_animatediff/replacements', {
      method: 'POST',
      body: JSON.stringify(workflow)
    })
    const conversion = await response.json()
    if (!response.ok) return console.error(`Fast AnimateDiff: ${conversion.error}`)
    if (!conversion.replaced.length) return
    if (await asked(conversion)) Object.assign(workflow, conversion.workflow)
    else declined.add(workflow.id)
  }
})
