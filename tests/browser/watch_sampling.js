// Samples a small clip with live previews on, on both kinds of nodes; returns the preview and where the nodes then are.
'use strict'
const fs = require('fs')
const { KINDS, main, queue, useNodes, waitForNode } = require('./page')

main(async (page, { shot }, file, preview) => {
  await page.evaluate((method) => window.app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', method), preview)
  const seen = {}
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(file, 'utf8')))
    await waitForNode(page, 'AnimateDiff Sampler')
    await page.waitForTimeout(1000)
    await page.evaluate((seed) => {
      const change = (title, widget, value) => {
        const node = window.app.graph.nodes.find((candidate) => candidate.title === title)
        node.widgets.find((candidate) => candidate.name === widget).value = value
      }
      change('Empty Video Latent', 'video_size', 'custom')
      change('Empty Video Latent', 'width', 64)
      change('Empty Video Latent', 'height', 64)
      change('Empty Video Latent', 'num_frames', 8)
      change('AnimateDiff Sampler', 'steps', 2)
      change('AnimateDiff Sampler', 'seed', seed)
    }, KINDS.indexOf(kind))
    await queue(page)
    await page.waitForTimeout(1500)
    await shot(kind)
    seen[kind] = await page.evaluate(() => {
      const inVue = window.LiteGraph.vueNodesMode
      const sampler = window.app.graph.nodes.find((node) => node.type === 'FAD_Sampler')
      const picture = sampler.widgets.find((widget) => widget.name === 'preview').element.querySelector('img')
      const boxOf = (node) => {
        const { left, top, right, bottom } = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect() ?? {}
        if (inVue) return [left, top, right, bottom]
        const [x, y, width, height] = node.boundingRect
        return [x, y, x + width, y + height]
      }
      return {
        picture: picture?.checkVisibility() && picture.src,
        hosts: sampler.imgs?.length ?? 0,
        boxes: Object.fromEntries(window.app.graph.nodes.map((node) => [node.title, boxOf(node)]))
      }
    })
  }
  return { seen }
})
