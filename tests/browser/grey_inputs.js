// Which widgets can't be changed, on both kinds of nodes: as made, after each choice, in a workflow that is opened, and on a copy.
'use strict'
const { KINDS, build, main, useNodes } = require('./page')

main(async (page, { shot }, graph, choices) => {
  const seen = []
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, JSON.parse(graph))
    await page.evaluate(() => {
      window.app.graph.nodes.forEach((node) => (node.showAdvanced = true))
      window.app.canvas.ds.scale = 0.7
      window.app.canvas.setDirty(true, true)
    })
    const note = async (when) => {
      await page.waitForTimeout(500)
      seen.push({ kind, when, grey: await page.evaluate(greyWidgets) })
    }
    await note('made')
    await shot(`${kind}, made`)
    for (const [id, name, value] of JSON.parse(choices)) {
      await page.evaluate(choose, [id, name, value])
      await note(`${name} ${value}`)
    }
    await shot(`${kind}, chosen`)
    await page.evaluate(() => window.app.loadGraphData(window.app.graph.serialize()))
    await note('opened')
    await page.evaluate(() => {
      const { canvas, graph } = window.app
      canvas.selectItems(graph.nodes)
      canvas.copyToClipboard()
      graph.clear()
      canvas.pasteFromClipboard()
    })
    await note('pasted')
  }
  return { seen }
})

function choose([id, name, value]) {
  const node = window.app.graph.getNodeById(id)
  const widget = node.widgets.find((each) => each.name === name)
  if (widget) {
    widget.value = value
    widget.callback(value)
  } else if (value === null) {
    node.disconnectInput(name)
  } else {
    window.app.graph.getNodeById(value).connect(0, node, node.inputs.findIndex((input) => input.name === name))
  }
}

// By what a pointer can do, node by node: [kind, names].
function greyWidgets() {
  const { LiteGraph, app } = window
  const inElements = (node, name) => {
    const rows = [...document.querySelectorAll(`[data-node-id="${node.id}"] [data-testid="node-widget"]`)]
    const row = rows.find((each) => each.querySelector('[data-testid="widget-layout-field-label"]')?.textContent === name)
    return row?.querySelector('input, button[role="combobox"]').disabled ?? false
  }
  const onCanvas = (node, widget) => !node.getWidgetOnPos(node.pos[0] + node.size[0] / 2, node.pos[1] + widget.last_y + 10)
  return app.graph.nodes
    .sort((one, other) => one.pos[0] - other.pos[0])
    .map((node) => {
      const widgets = node.widgets.filter(({ type }) => !type.startsWith('fad')) // but the clips
      const grey = widgets.filter((widget) => (LiteGraph.vueNodesMode ? inElements(node, widget.name) : onCanvas(node, widget)))
      return [node.type, grey.map(({ name }) => name)]
    })
}
