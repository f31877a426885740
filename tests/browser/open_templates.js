// Searches the template browser for words, looks at the pack's cards in it, then opens one of them.
'use strict'
const { PACK, main, media, useNodes } = require('./page')

main(async (page, { shot }, kind, count, title, words) => {
  const content = page.getByTestId('template-workflows-content')
  const dialog = page.getByRole('dialog')
  const ours = dialog.getByRole('button', { name: PACK, exact: true }).or(dialog.getByText(PACK, { exact: true })).first()
  const open = async () => {
    await page.getByRole('button', { name: 'Templates' }).first().click()
    await content.waitFor()
  }
  await open()
  const anyCard = page.locator('[data-testid^="template-workflow-"]').first()
  const cards = page.locator('[data-testid^="template-workflow-AnimateDiff"]')
  const search = dialog.getByRole('textbox').or(dialog.getByRole('searchbox')).first()
  const found = {}
  for (const word of JSON.parse(words)) {
    await search.fill('a word that no template has')
    await anyCard.waitFor({ state: 'detached' })
    await search.fill(word)
    await anyCard.waitFor()
    found[word] = await cards.evaluateAll((all) => all.map((card) => card.dataset.testid.replace('template-workflow-', '')))
  }
  await shot('searched')
  await search.fill('')
  await ours.click()
  await cards.nth(count - 1).waitFor()
  const pictures = []
  for (const card of await cards.all()) {
    await card.scrollIntoViewIfNeeded() // its picture is loaded as it comes into view
    pictures.push(await card.locator('img').evaluate(async (image) => {
      await image.decode()
      return [image.naturalWidth, image.naturalHeight]
    }))
  }
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
