// Runs a schedule on both kinds of nodes; returns what the page shows on the node each time.
'use strict'
const fs = require('fs')
const { main, waitForNode } = require('./page')

main(async (page, { shot }, file) => {
  const shown = {}
  for (const [kind, isVue] of Object.entries({ canvas: false, 'Nodes 2.0': true })) {
    await page.evaluate((on) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on), isVue)
    await page.evaluate(() => window.app.graph.clear())
    await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(file, 'utf8')))
    await waitForNode(page, 'Prompt Schedule')
    await page.waitForTimeout(1500)
    await page.evaluate((schedule) => {
      const change = (title, widget, value) => {
        const node = window.app.graph.nodes.find((candidate) => candidate.title === title)
        node.widgets.find((candidate) => candidate.name === widget).value = value
      }
      change('Prompt Schedule', 'schedule', schedule)
      change('Prompt Schedule', 'num_frames', 4)
      change('Empty Video Latent', 'video_size', 'custom')
      change('Empty Video Latent', 'width', 64)
      change('Empty Video Latent', 'height', 64)
      change('Empty Video Latent', 'num_frames', 4)
      change('AnimateDiff Sampler', 'steps', 1)
    }, `2: a <red> __circle__ on *${kind}*\n24: a green circle`)
    await page.getByTestId('queue-button').click()
    const line = page.getByText('4 frames, linear').filter({ visible: true }).first()
    await line.waitFor({ timeout: 60000 })
    shown[kind] = await line.innerText()
    await page.waitForTimeout(1000)
    await shot(kind)
  }
  return { shown }
})
