// Uploads a clip and exports it, then does the same with another clip once both files were deleted; returns what is shown after each.
'use strict'
const fs = require('fs')
const path = require('path')
const { KINDS, build, main, media, queue, useNodes } = require('./page')

main(async (page, { shot }, graph, base, ...clips) => {
  const seen = []
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, JSON.parse(graph))
    for (const clip of clips) {
      const choosing = page.waitForEvent('filechooser')
      await page.evaluate(() => window.app.graph.nodes[0].widgets.find(({ name }) => name === 'upload').callback())
      const uploaded = page.waitForResponse(/upload/)
      await (await choosing).setFiles(clip)
      await uploaded
      await page.waitForTimeout(1500)
      const done = await queue(page)
      await page.waitForTimeout(2000)
      const [{ subfolder, filename }] = Object.values(done).flatMap((output) => output.video ?? [])
      seen.push({ kind, file: filename, shown: await media(page) })
      fs.rmSync(path.join(base, 'input', path.basename(clip)))
      fs.rmSync(path.join(base, 'output', subfolder, filename))
    }
    await shot(kind)
  }
  return { seen }
})
