// Opens a workflow of all the pack's nodes with one value in the place of all others; returns how many came, and went into the prompt.
'use strict'
const { KINDS, main, useNodes } = require('./page')

main(async (page, { shot }, ...values) => {
  const opened = []
  for (const kind of KINDS) {
    await useNodes(page, kind)
    for (const value of values) {
      opened.push([value, ...(await page.evaluate(openAll, JSON.parse(value)))])
      await page.waitForTimeout(500)
    }
    await shot(kind)
  }
  return { opened }
})

async function openAll(value) {
  const { LiteGraph, app } = window
  const types = Object.keys(LiteGraph.registered_node_types).filter((type) => type.startsWith('FAD_'))
  const nodes = types.map((type, number) => {
    const node = LiteGraph.createNode(type).serialize()
    return { ...node, id: number + 1, pos: [400 * number, 0], widgets_values: node.widgets_values?.map(() => value) }
  })
  await app.loadGraphData({ last_node_id: nodes.length, last_link_id: 0, nodes, links: [], groups: [], config: {}, extra: {}, version: 0.4 })
  const { output } = await app.graphToPrompt()
  return [types.length, app.graph.nodes.length, Object.keys(output).length]
}
