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
  return async (file) => {
    // A dialog that closes still covers the page for a moment, and would swallow the file.
    const free = ({ x, y }) => document.elementFromPoint(x, y)?.tagName === 'CANVAS'
    await page.waitForFunction(free, FREE_PLACE)
    const data = { items: [], files: [file], dragOperationsMask: 1 }
    for (const type of ['dragEnter', 'dragOver', 'drop']) {
      await session.send('Input.dispatchDragEvent', { type, ...FREE_PLACE, data })
    }
  }
}

// Closes the template browser, which the page opens by itself for a new user.
async function closeTemplates(page) {
  const content = page.getByTestId('template-workflows-content')
  await content.waitFor({ timeout: 4000 }).catch(() => {})
  if (await content.isVisible()) await page.keyboard.press('Escape')
  await content.waitFor({ state: 'hidden' })
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

module.exports = { PACK, closeTemplates, main, saved, titlePlace, waitForNode }
