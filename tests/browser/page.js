// A fresh Chromium on ComfyUI's page, and what a user does there. CommonJS, so that NODE_PATH finds playwright-core.
'use strict'
const fs = require('fs')
const os = require('os')
const path = require('path')
const { chromium } = require('playwright-core')

const PACK = 'fast-animatediff'
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync'
]
const FREE_PLACE = { x: 1100, y: 850 } // of the canvas, where nothing lies

// Runs `visit(page, tools)` on the page of the server; prints what it returns, with the page's complaints about the pack.
async function main(visit) {
  const [baseUrl, shots, ...rest] = process.argv.slice(2)
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'fad-chromium-'))
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    viewport: { width: 1600, height: 1000 },
    args: FLAGS
  })
  const page = browser.pages()[0]
  page.setDefaultTimeout(20000)
  const complaints = listen(page)
  const shot = (name) => page.screenshot({ path: path.join(shots, `${name}.png`) })
  try {
    await page.goto(baseUrl)
    await page.waitForFunction(() => window.app?.vueAppReady && window.app.graph, null, { timeout: 60000 })
    const result = await visit(page, { shot, drop: await dropper(browser, page), baseUrl }, ...rest)
    console.log(JSON.stringify({ ...result, complaints, dialogs: await errorDialogs(page) }))
  } catch (error) {
    await shot('failed').catch(() => {})
    console.error(error, '\nWhat the page complained of:', complaints)
    process.exitCode = 1
  } finally {
    await browser.close()
    fs.rmSync(profile, { recursive: true, force: true })
  }
}

// Errors of scripts, console errors and failed requests that have to do with the pack.
function listen(page) {
  const complaints = []
  const about = (text) => text.includes(PACK) || text.includes('FAD_')
  page.on('pageerror', (error) => complaints.push(`script: ${error}`))
  page.on('console', (message) => {
    const text = `${message.text()} ${message.location().url}`
    const help = /\/docs\/FAD_\w+\/\w+\.md/.test(text) // asked for in the page's language first
    if (message.type() === 'error' && about(text) && !help) complaints.push(`console: ${text}`)
  })
  return complaints
}

function errorDialogs(page) {
  const shown = '[data-testid="error-dialog"], [data-testid="error-overlay"]'
  return page.locator(shown).filter({ visible: true }).allInnerTexts()
}

// Drops a file as the desktop does: with the browser's own drag events, not with an event made by a script.
async function dropper(browser, page) {
  const session = await browser.newCDPSession(page)
  return async (file, place = FREE_PLACE) => {
    // A dialog that closes still covers the page for a moment, and would swallow the file.
    const free = ({ x, y }) => document.elementFromPoint(x, y)?.tagName === 'CANVAS'
    if (place === FREE_PLACE) await page.waitForFunction(free, FREE_PLACE)
    const data = { items: [], files: [file], dragOperationsMask: 1 }
    for (const type of ['dragEnter', 'dragOver', 'drop']) {
      await session.send('Input.dispatchDragEvent', { type, ...place, data })
    }
  }
}

// What the page would save now, and what it would send to the server.
function saved(page) {
  return page.evaluate(async () => {
    const { workflow, output } = await window.app.graphToPrompt()
    return { workflow, output }
  })
}

// Where a node's title is on the screen.
function titlePlace(page, title) {
  return page.evaluate((wanted) => {
    const node = window.app.graph.nodes.find((candidate) => candidate.title === wanted)
    return window.app.canvasPosToClientPos([node.pos[0] + 90, node.pos[1] - 15])
  }, title)
}

function waitForNode(page, title) {
  const there = (wanted) => window.app.graph.nodes.some((node) => node.title === wanted)
  return page.waitForFunction(there, title)
}

// Switches between canvas nodes and Nodes 2.0.
async function useNodes(page, kind) {
  const on = kind === 'Nodes 2.0'
  await page.evaluate((value) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', value), on)
}

// Makes a graph of [type, widget values, {input: [node, slot]}], from left to right, in a tab of its own.
async function build(page, nodes) {
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.NewBlankWorkflow'))
  await page.waitForFunction(() => !window.app.graph.nodes.length)
  await page.evaluate((described) => {
    const { app, LiteGraph } = window
    const made = []
    described.forEach(([type, values, links], column) => {
      const node = LiteGraph.createNode(type)
      app.graph.add(node)
      node.pos = [140 + column * 330, 200]
      for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value
      for (const [name, [from, slot]] of Object.entries(links ?? {})) {
        made[from].connect(slot, node, node.inputs.findIndex((input) => input.name === name))
      }
      made.push(node)
    })
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [0, 0]
  }, nodes)
  await page.waitForTimeout(500)
}

// Runs the graph with the page's button; returns the outputs by node once the run has ended.
async function queue(page) {
  const ended = page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const outputs = {}
        const { api } = window.app
        const keep = ({ detail }) => (outputs[detail.node] = detail.output)
        api.addEventListener('executed', keep)
        api.addEventListener('execution_error', ({ detail }) => reject(new Error(detail.exception_message)), { once: true })
        const done = () => (api.removeEventListener('executed', keep), resolve(outputs))
        api.addEventListener('execution_success', done, { once: true })
      })
  )
  await page.getByTestId('queue-button').click()
  return ended
}

// The pictures and videos of the server's files that can be seen on nodes, with the colour near their corner.
function media(page) {
  return page.evaluate(() => {
    const onNodes = document.querySelectorAll(':is(.dom-widget, [data-node-id]) :is(img, video)')
    const drawn = window.app.graph.nodes.flatMap((node) => node.imgs ?? [])
    const seen = [...drawn, ...onNodes].filter(
      (element) => /\/(view|preview)\?/.test(element.src) && (drawn.includes(element) || element.checkVisibility())
    )
    return seen.map((element) => {
      const canvas = new OffscreenCanvas(1, 1).getContext('2d')
      const [width, height] = [element.videoWidth || element.naturalWidth, element.videoHeight || element.naturalHeight]
      canvas.drawImage(element, width / 8, height / 8, 1, 1, 0, 0, 1, 1)
      const { muted, loop, paused } = element
      const address = new URL(element.src)
      return {
        tag: element.localName,
        route: address.pathname,
        file: address.searchParams.get('filename') ?? address.searchParams.get('file'),
        colour: [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3),
        ...(element.localName === 'video' ? { muted, loop, paused } : {})
      }
    })
  })
}

const KINDS = ['canvas', 'Nodes 2.0']

module.exports = { KINDS, PACK, build, main, media, queue, saved, titlePlace, useNodes, waitForNode }
