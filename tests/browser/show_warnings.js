// Runs a graph once on each kind of nodes; returns the text that can be read on each of its samplers.
'use strict'
const { KINDS, build, main, queue, useNodes } = require('./page')

main(async (page, { shot }, graph) => {
  const seen = {}
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, JSON.parse(graph))
    await page.evaluate(arrange, KINDS.indexOf(kind))
    await queue(page)
    await page.waitForTimeout(500)
    await shot(kind)
    seen[kind] = await page.evaluate(texts)
  }
  return { seen }
})

// The samplers in rows on the screen, the others below it; another seed each time, so that nothing is taken from before.
function arrange(seed) {
  const { nodes } = window.app.graph
  const samplers = nodes.filter((node) => node.type === 'FAD_Sampler')
  for (const node of nodes) node.pos = [node.pos[0], 1600]
  samplers.forEach((node, number) => {
    node.pos = [100 + (number % 4) * 420, 100 + Math.floor(number / 4) * 560]
    node.widgets.find((widget) => widget.name === 'seed').value = seed
  })
  window.app.canvas.ds.scale = 0.8
  window.app.canvas.setDirty(true, true)
}

// On canvas nodes without what is cut off; there a text is known by the place where it lies.
function texts() {
  const lies = (node, { left, top }) => {
    const [x, y] = window.app.canvasPosToClientPos(node.pos)
    const [right, bottom] = window.app.canvasPosToClientPos([node.pos[0] + node.size[0], node.pos[1] + node.size[1]])
    return x <= left && left < right && y <= top && top < bottom
  }
  const samplers = window.app.graph.nodes.filter((node) => node.type === 'FAD_Sampler')
  if (window.LiteGraph.vueNodesMode) {
    return samplers.map(({ id }) => document.querySelector(`[data-node-id="${id}"]`).innerText)
  }
  const whole = [...document.querySelectorAll('.dom-widget > *')].filter(
    (element) => element.checkVisibility() && element.scrollHeight <= element.clientHeight
  )
  return samplers.map((node) => {
    const on = whole.filter((element) => lies(node, element.getBoundingClientRect()))
    return on.map((element) => element.innerText).join('\n')
  })
}
