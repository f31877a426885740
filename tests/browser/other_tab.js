// Runs a graph, and meanwhile opens the same graph in another tab; returns what both then show, and what a copy shows after a run.
'use strict'
const { KINDS, build, main, queue, useNodes } = require('./page')

main(async (page, { shot }, graph, preview) => {
  await page.evaluate((method) => window.app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', method), preview)
  const seen = []
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, JSON.parse(graph))
    await page.evaluate((seed) => {
      window.app.graph.nodes.find(({ type }) => type === 'FAD_Sampler').widgets.find(({ name }) => name === 'seed').value = seed
    }, KINDS.indexOf(kind))
    const ended = queue(page)
    await page.waitForFunction(() => document.querySelector('img[src^="data:image/webp"]')) // it is being sampled
    await build(page, JSON.parse(graph))
    await ended
    await page.waitForTimeout(1500)
    await shot(`${kind}, other`)
    const other = await page.evaluate(shown)
    await page.evaluate(() => window.app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow'))
    await page.waitForTimeout(1500)
    const own = await page.evaluate(shown)
    await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.DuplicateWorkflow'))
    await page.waitForTimeout(1500)
    const before = await page.evaluate(shown)
    await queue(page) // takes all from the first run
    await page.waitForTimeout(1500)
    seen.push({ kind, other, own, copy: [before, await page.evaluate(shown)] })
  }
  return { seen }
})

// What lies on the nodes of the open workflow, by kind of node.
function shown() {
  const views = window.app.graph.nodes.flatMap(({ type, widgets }) => (widgets ?? []).map(({ element }) => [type, element]))
  return views.filter(([, element]) => element?.querySelector?.('img, video')).map(([type]) => type)
}
