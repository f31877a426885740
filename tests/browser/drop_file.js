// Drops a workflow or a video on the page; returns what the page then has.
'use strict'
const { main, saved, waitForNode } = require('./page')

main(async (page, { shot, drop }, file, title) => {
  await page.evaluate(() => window.app.graph.clear())
  await drop(file)
  await waitForNode(page, title)
  await page.waitForTimeout(1500)
  await shot('dropped')
  return saved(page)
})
