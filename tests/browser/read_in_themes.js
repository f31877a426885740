// The contrast of what stands on a node under its clip, in each theme and on both kinds of nodes.
'use strict'
const { KINDS, build, main, useNodes } = require('./page')

main(async (page, { shot }, type, file, ...themes) => {
  const seen = []
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, [[type, { file }]])
    for (const theme of themes) {
      await page.evaluate((id) => window.app.extensionManager.setting.set('Comfy.ColorPalette', id), theme)
      await page.waitForFunction(() => window.app.graph.nodes[0].widgets.some(({ element }) => element?.querySelector('img, video')))
      await page.waitForTimeout(500)
      await shot(`${kind}, ${theme}`)
      seen.push({ kind, theme, ...(await page.evaluate(contrast)) })
    }
  }
  return { seen }
})

// By WCAG 2.2, of the line's colour to what it lies on: the node as the canvas draws it, or the elements behind it.
function contrast() {
  const [node] = window.app.graph.nodes
  const { element } = node.widgets.find((widget) => widget.name === 'clip')
  const line = element.lastElementChild
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true })
  canvas.fillStyle = node.bgcolor ?? window.LiteGraph.NODE_DEFAULT_BGCOLOR
  canvas.fillRect(0, 0, 1, 1)
  const behind = []
  for (let each = line; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor)
  for (const colour of behind.slice(window.LiteGraph.vueNodesMode ? 0 : -3)) paint(colour)
  const background = luminance()
  paint(getComputedStyle(line).color)
  const text = luminance()
  return { line: line.textContent, ratio: (Math.max(text, background) + 0.05) / (Math.min(text, background) + 0.05), background }

  function paint(colour) {
    canvas.fillStyle = colour
    canvas.fillRect(0, 0, 1, 1)
  }

  function luminance() {
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((level) => {
      const share = level / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
}
