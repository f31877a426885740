// Runs workflow files with a small portrait clip and live previews, on one kind of nodes; returns where nodes and groups then are.
'use strict'
const fs = require('fs')
const { main, queue, useNodes } = require('./page')

const SMALL = {
  FAD_EmptyVideoLatent: { video_size: 'custom', width: 64, height: 112, num_frames: 8 },
  FAD_PromptSchedule: { num_frames: 8 },
  FAD_LoadVideoFrames: { size: 'source', first_n_seconds: 1 },
  FAD_Sampler: { steps: 2, strength: 1 },
  BasicScheduler: { steps: 2 }
}

main(async (page, { shot }, kind, preview, clip, ...files) => {
  await page.evaluate((method) => window.app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', method), preview)
  const seen = []
  await useNodes(page, kind)
  for (const file of files) {
    await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(file, 'utf8')))
    await page.waitForTimeout(1500)
    await page.evaluate(shrink, [SMALL, clip])
    await page.evaluate(() => window.app.api.fetchApi('/free', { method: 'POST', body: '{"free_memory": true}' }))
    await page.waitForTimeout(1000) // until then, what a run before has made would be taken, and its nodes say nothing
    await queue(page)
    await page.waitForTimeout(1500)
    const name = file.split(/[/\\]/).pop().replace(/\.json$/, '')
    await shot(name)
    seen.push({ name, ...(await page.evaluate(boxes)) })
  }
  return { seen }
})

function shrink([values, clip]) {
  for (const node of window.app.graph.nodes) {
    for (const [name, value] of Object.entries(values[node.type] ?? {})) {
      node.widgets.find((widget) => widget.name === name).value = value
    }
    if (node.type !== 'FAD_LoadVideoFrames') continue
    const file = node.widgets.find((widget) => widget.name === 'file')
    file.value = clip
    file.callback(clip)
  }
}

// [left, top, right, bottom] on the canvas.
function boxes() {
  const { app, LiteGraph } = window
  const corners = ([x, y, width, height]) => [x, y, x + width, y + height]
  const onScreen = ({ id }) => {
    const { left, top, right, bottom } = document.querySelector(`[data-node-id="${id}"]`).getBoundingClientRect()
    return [...app.clientPosToCanvasPos([left, top]), ...app.clientPosToCanvasPos([right, bottom])]
  }
  return {
    nodes: app.graph.nodes.map((node) => [node.title, LiteGraph.vueNodesMode ? onScreen(node) : corners([...node.boundingRect])]),
    groups: app.graph.groups.map((group) => [group.title, corners([...group.boundingRect ?? group._bounding])])
  }
}
