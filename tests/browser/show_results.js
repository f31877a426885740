// Runs a graph once for each format in turn, on both kinds of nodes; returns what the page then shows of it.
'use strict'
const { KINDS, build, main, media, queue, useNodes } = require('./page')

main(async (page, { shot }, graph, title, ...formats) => {
  const runs = []
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, JSON.parse(graph))
    for (const format of formats) {
      await page.evaluate(
        ([wanted, chosen, blue]) => {
          const [node] = window.app.graph.nodes.filter((candidate) => candidate.title === wanted)
          node.widgets.find(({ name }) => name === 'format').value = chosen
          const image = window.app.graph.nodes.find(({ type }) => type === 'EmptyImage')
          if (image) image.widgets.find(({ name }) => name === 'color').value = blue
        },
        [title, format, (runs.length * 16) % 256]
      )
      const done = await queue(page)
      const [file] = Object.values(done).flatMap((output) => output.video ?? [])
      await page.waitForFunction((name) => document.querySelector(`:is(img, video)[src*="${name}"]`), file.filename)
      await page.waitForTimeout(300)
      runs.push({ kind, format, file: file.filename, shown: await media(page) })
    }
    await shot(kind)
  }
  // Sound, by a click on what is seen; the clip goes on playing.
  const video = page.locator('video').first()
  if (await video.count()) {
    await video.click()
    await page.waitForTimeout(200)
  }
  const clicked = await media(page)
  // Another tab and back: what the run showed is there again.
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.NewBlankWorkflow'))
  await page.waitForTimeout(500)
  const elsewhere = await media(page)
  await page.evaluate(() => window.app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow'))
  await page.waitForTimeout(1000)
  return { runs, clicked, elsewhere, back: await media(page) }
})
