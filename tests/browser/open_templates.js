// Looks at the pack's cards in the template browser, searches all of it for words, then opens one of them.
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
  const found = {}
  const nothing = 'a word that no template has'
  await search.fill(nothing)
  await anyCard.waitFor({ state: 'detached' })
  await dialog.getByText('All Templates', { exact: true }).first().click() // only now, as it draws hundreds of cards
  for (const word of JSON.parse(words)) {
    await search.fill(word)
    await anyCard.waitFor()
    found[word] = await cards.evaluateAll((all) => all.map((card) => card.dataset.testid.replace('template-workflow-', '')))
    await search.fill(nothing)
    await anyCard.waitFor({ state: 'detached' })
  }
  await shot('searched')
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
