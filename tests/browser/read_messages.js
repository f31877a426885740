// Chooses a clip on a new loader of each kind; returns what can be read below it, without what is cut off.
'use strict'
const { KINDS, build, main, useNodes } = require('./page')

main(async (page, { shot }, file) => {
  const read = {}
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, [['FAD_LoadVideoFrames', { file }], ['FAD_LoadVideoLatents', { file }]])
    await page.waitForTimeout(2000)
    await shot(kind)
    read[kind] = await page.evaluate(whole)
  }
  return { read }
})

function whole() {
  const views = window.app.graph.nodes.map((node) => node.widgets.find(({ name }) => name === 'clip').element)
  return views.filter((view) => view.scrollHeight <= view.clientHeight).map((view) => view.innerText)
}
