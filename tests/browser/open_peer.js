// Drops a workflow of another pack on the page, answers the question, and tells what the page then holds.
'use strict'
const { main, saved } = require('./page')

main(async (page, { shot, drop }, file, answer) => {
  await drop(file)
  const dialog = page.getByRole('dialog').filter({ hasText: 'AnimateDiff packs' })
  await dialog.waitFor()
  await shot('question')
  const question = await dialog.innerText()
  await dialog.getByRole('button', { name: answer }).click()
  await page.waitForFunction(() => window.app.graph.nodes.some((node) => node.type === 'CLIPTextEncode'))
  await page.waitForTimeout(1000)
  await shot('answered')
  const types = await page.evaluate(() => window.app.graph.nodes.map((node) => node.last_serialization?.type ?? node.type))
  return { question, types, ...(await saved(page)) }
})
