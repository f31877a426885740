// Searches the template browser for each word, then opens a template.
'use strict'
const { PACK, main, media, useNodes } = require('./page')

main(async (page, { shot }, kind, words, title) => {
  const found = {}
  const content = page.getByTestId('template-workflows-content')
  const dialog = page.getByRole('dialog')
  const ours = dialog.getByRole('button', { name: PACK, exact: true }).or(dialog.getByText(PACK, { exact: true })).first()
  const search = dialog.getByRole('textbox').or(dialog.getByRole('searchbox')).first()
  const open = async () => {
    await page.getByRole('button', { name: 'Templates' }).first().click()
    await content.waitFor()
  }
  await open()
  const cards = page.locator('[data-testid^="template-workflow-AnimateDiff"]')
  for (const word of JSON.parse(words)) {
    await search.fill(word)
    await page.waitForTimeout(500) // the page waits for the end of typing
    await cards.first().waitFor({ timeout: 8000 }).catch(() => {})
    await page.waitForTimeout(500)
    found[word] = await cards.evaluateAll((list) => list.map((card) => card.dataset.testid.split('workflow-')[1]))
  }
  await search.fill('')
  await ours.click()
  await cards.nth(1).waitFor()
  await page.waitForTimeout(500)
  const pictures = await cards.locator('img').evaluateAll(async (images) => {
    await Promise.all(images.map((image) => image.decode()))
    return images.map((image) => [image.naturalWidth, image.naturalHeight])
  })
  await shot('template browser')
  await page.keyboard.press('Escape')
  await content.waitFor({ state: 'hidden' })
  await useNodes(page, kind)
  await open()
  await ours.click()
  await page.getByTestId(`template-workflow-${title}`).click()
  await page.waitForFunction(() => document.querySelector('[data-node-id] video, .dom-widget video'))
  await page.waitForTimeout(1500)
  await shot('opened')
  return { found, pictures, opened: await media(page) }
})
