// Opens a node's help with the button above the node, then hovers over one of its widgets.
'use strict'
const { main, titlePlace, waitForNode } = require('./page')

main(async (page, { shot, drop }, file, title, widget) => {
  await drop(file)
  await waitForNode(page, title)
  await page.waitForTimeout(1500)
  const [x, y] = await widgetPlace(page, title, widget)
  await page.mouse.move(x - 3, y)
  await page.mouse.move(x, y)
  const tooltip = page.locator('.node-tooltip')
  await tooltip.waitFor()
  const hovered = await tooltip.innerText()
  await shot('tooltip')
  await page.mouse.click(...(await titlePlace(page, title)))
  await page.getByTestId('info-button').click()
  const help = page.locator('.node-help-content')
  await help.getByRole('heading', { name: title, exact: true }).first().waitFor()
  await page.waitForTimeout(500)
  await shot('help')
  return { hovered, help: await help.innerText(), tables: await help.locator('table').count() }
})

function widgetPlace(page, title, widget) {
  return page.evaluate(
    ([wanted, name]) => {
      const node = window.app.graph.nodes.find((candidate) => candidate.title === wanted)
      const found = node.widgets.find((candidate) => candidate.name === name)
      return window.app.canvasPosToClientPos([node.pos[0] + node.size[0] / 2, node.pos[1] + found.last_y + 10])
    },
    [title, widget]
  )
}
