// Takes each of the pack's subgraph blueprints from the node library, on both kinds of nodes; returns what they then hold.
'use strict'
const { KINDS, main, useNodes } = require('./page')

const PLACE = [800, 450]

main(async (page, { shot }, ...names) => {
  const made = []
  await page.keyboard.press('n') // the library, with its search in focus
  await page.waitForTimeout(1500)
  const search = await page.$('input:focus')
  for (const kind of KINDS) {
    await useNodes(page, kind)
    for (const name of names) {
      await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.NewBlankWorkflow'))
      await page.waitForFunction(() => !window.app.graph.nodes.length)
      await page.waitForTimeout(500)
      const tree = page.getByRole('tree').getByText(name, { exact: true })
      await search.fill(name)
      await page.waitForTimeout(1500) // for the search
      await tree.first().click()
      await page.mouse.move(...PLACE)
      await page.mouse.click(...PLACE) // where it follows the pointer, put it down
      await page.waitForFunction(() => window.app.graph.nodes.length)
      await page.waitForTimeout(2500)
      await shot(`${kind}, ${name}`)
      const found = await page.evaluate(() =>
        window.app.graph.nodes.map((node) => ({
          title: node.title,
          widgets: node.widgets.map((widget) => widget.name),
          outputs: node.outputs.map(({ type }) => type),
          inside: node.subgraph.nodes.map(({ type }) => type)
        }))
      )
      made.push({ kind, found })
    }
  }
  return { made }
})
