// Chooses files on both kinds of nodes: by the list, by drops on title and picture, by the button; returns what is shown.
'use strict'
const fs = require('fs')
const path = require('path')
const { KINDS, build, main, media, titlePlace, useNodes } = require('./page')

main(async (page, { shot, drop }, type, listed, dropped) => {
  const states = []
  const saved = []
  const unanswered = []
  const unfolded = []
  const overwritten = []
  for (const kind of KINDS) {
    await useNodes(page, kind)
    await build(page, [[type, {}]])
    const [title] = await page.evaluate(() => window.app.graph.nodes.map((node) => node.title))
    const note = async (way, name) => {
      await page.waitForFunction(settled, name)
      await page.waitForTimeout(200)
      states.push({ kind, way, ...(await page.evaluate(node)), shown: await media(page) })
    }
    for (const name of JSON.parse(listed)) {
      await page.evaluate(choose, name)
      await note('list', name)
    }
    await shot(`${kind}, chosen`)
    const [first, second] = JSON.parse(listed)
    await page.evaluate(choose, first)
    await page.waitForFunction(settled, first)
    await page.mouse.click(...(await titlePlace(page, title)), { button: 'right' })
    const saving = page.waitForEvent('download')
    await page.getByText('Save preview', { exact: true }).click()
    const download = await saving
    saved.push([download.suggestedFilename(), fs.readFileSync(await download.path()).toString('latin1', 4, 8)])
    const empty = (route) => route.fulfill({ body: '' })
    await page.route(/clip.preview|view\?/, empty)
    await page.evaluate(choose, second)
    await page.waitForFunction(() => !document.querySelector(':is(.dom-widget, [data-node-id]) :is(img, video)'))
    await page.waitForTimeout(500)
    await page.unroute(/clip.preview|view\?/, empty)
    await page.route(/clip.description/, () => {}) // never answered
    await page.evaluate(choose, first)
    await page.waitForTimeout(500)
    unanswered.push(await page.evaluate(() => window.app.graph.nodes[0].widgets.find(({ name }) => name === 'clip').element.innerText))
    await page.unroute(/clip.description/)
    await page.evaluate(choose, second)
    await note('list, where nothing came before', second)
    for (const switched of [...KINDS.filter((each) => each !== kind), kind]) {
      await useNodes(page, switched)
      await page.waitForTimeout(500)
      await note(`switched to ${switched}`, second)
    }
    await page.evaluate(choose, first)
    await page.waitForFunction(settled, first)
    for (const other of [second, first]) { // other content under the same name; then its own again
      if (other === second) await page.evaluate(keep, first)
      await page.evaluate(overwrite, [first, other === second ? second : null])
      const { src } = await page.evaluate(picture)
      await page.mouse.click(1500, 950)
      await page.keyboard.press('r')
      await page.waitForFunction((old) => ![undefined, old].includes(document.querySelector(':is(.dom-widget, [data-node-id]) video')?.src), src)
      await page.waitForTimeout(500)
      overwritten.push(...(await media(page)))
    }
    for (let folds = 0; folds < 2; folds++) {
      await page.evaluate(() => window.app.graph.nodes[0].collapse())
      await page.waitForTimeout(700)
    }
    unfolded.push(await page.evaluate(() => document.querySelector(':is(.dom-widget, [data-node-id]) video')?.paused))
    for (const file of JSON.parse(dropped)[kind]) {
      for (const onPicture of [false, true]) {
        const picture = await page.locator('img[src*="/view?"], video').first().boundingBox()
        const { x, y, width, height } = picture ?? {}
        await drop(file, onPicture ? { x: x + width / 2, y: y + height / 2 } : await place(page, title))
        await note(onPicture ? 'drop on the picture' : 'drop on the title', path.basename(file))
        await page.evaluate(choose, JSON.parse(listed)[0])
        await page.waitForFunction(settled, JSON.parse(listed)[0])
      }
    }
    const kept = await page.evaluate(() => window.app.graph.nodes[0].widgets[0].value)
    await page.mouse.click(1500, 950) // after which the page notes what there is
    await drop(JSON.parse(dropped)[kind][0], await place(page, title))
    await note('drop before an undo', path.basename(JSON.parse(dropped)[kind][0]))
    await page.keyboard.press('Control+z')
    await note('undone', kept)
    await page.keyboard.press('Control+y')
    await note('done again', path.basename(JSON.parse(dropped)[kind][0]))
    const choosing = page.waitForEvent('filechooser')
    if (kind === 'canvas') await page.mouse.click(...(await page.evaluate(buttonPlace)))
    else await page.getByRole('button', { name: 'choose file to upload' }).click()
    const chooser = await choosing
    await chooser.setFiles(JSON.parse(dropped)[kind][0])
    await note('button', path.basename(JSON.parse(dropped)[kind][0]))
    states.at(-1).accept = await chooser.element().getAttribute('accept')
    await shot(`${kind}, uploaded`)
  }
  return { states, saved, unanswered, unfolded, overwritten, pages: page.context().pages().length }
})

function picture() {
  return { src: document.querySelector(':is(.dom-widget, [data-node-id]) video').src }
}

async function keep(name) {
  window.kept = await (await fetch(`/api/view?${new URLSearchParams({ filename: name, type: 'input' })}`)).blob()
}

// Puts another file of the input folder, or what was kept, in the place of one.
async function overwrite([name, other]) {
  const query = new URLSearchParams({ filename: other, type: 'input' })
  const content = other ? await (await fetch(`/api/view?${query}`)).blob() : window.kept
  const body = new FormData()
  body.append('image', new File([content], name))
  body.append('overwrite', 'true')
  await fetch('/api/upload/image', { method: 'POST', body })
}

async function place(page, title) {
  const [x, y] = await titlePlace(page, title)
  return { x, y }
}

// The node has the file, and shows a picture of it or says why not.
function settled(name) {
  const [{ widgets }] = window.app.graph.nodes
  const { element } = widgets.find((widget) => widget.name === 'clip')
  const picture = element.querySelector('img, video')
  const file = widgets.find((widget) => widget.name === 'file').value
  const isOf = picture && decodeURIComponent(picture.src.replaceAll('+', ' ')).includes(name)
  return file === name && (isOf || /still|not|can't/.test(element.innerText))
}

function node() {
  const nodes = window.app.graph.nodes
  const [{ widgets }] = nodes
  const element = widgets.find((widget) => widget.name === 'clip').element
  return { file: widgets[0].value, line: element.innerText.trim(), nodes: nodes.map((each) => each.type) }
}

function choose(name) {
  const combo = window.app.graph.nodes[0].widgets.find((widget) => widget.name === 'file')
  combo.value = name
  combo.callback(name)
}

function buttonPlace() {
  const [found] = window.app.graph.nodes
  const button = found.widgets.find((widget) => widget.name === 'upload')
  return window.app.canvasPosToClientPos([found.pos[0] + found.size[0] / 2, found.pos[1] + button.last_y + 10])
}
