// What a person does on the endpoints' page, in a fresh Chromium. CommonJS, so that NODE_PATH finds playwright-core.
'use strict'
const fs = require('fs')
const os = require('os')
const path = require('path')
const { chromium } = require('playwright-core')

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const APP = 'fal-ai/fast-animatediff'
const SECONDS = 1000
const [task, baseUrl, shots, ...rest] = process.argv.slice(2)

// The form of an endpoint with a request so small that the tiny models need seconds.
async function open(page, endpoint) {
  await page.goto(`${baseUrl}/fal/#${APP}/${endpoint}`)
  await page.getByLabel('Prompt', { exact: true }).fill('a red circle moving left')
  await page.getByLabel('Seed').fill(String(Date.now() % 1e6)) // not to be answered from the host's cache
  if (!endpoint.endsWith('text-to-video')) return
  await page.getByLabel('Video size').selectOption({ label: 'Custom' })
  for (const side of ['Width', 'Height']) await page.getByLabel(side, { exact: true }).fill('64')
  await page.getByLabel('Frames').fill('4')
}

// Notes what is read out and shown while a request runs.
function watchStates(page) {
  return page.evaluate(() => {
    window.seen = []
    const note = () => window.seen.push(document.querySelector('#state').textContent + document.querySelector('#step').textContent)
    new MutationObserver(note).observe(document.querySelector('.line'), { subtree: true, childList: true, characterData: true })
  })
}

async function result(page) {
  const video = page.locator('#stage video')
  await video.waitFor({ timeout: 200 * SECONDS })
  await page.waitForFunction(() => document.querySelector('#stage video').readyState > 1, null, { timeout: 60 * SECONDS })
  return video.evaluate((shown) => ({ width: shown.videoWidth, height: shown.videoHeight, duration: shown.duration, src: shown.src }))
}

const shot = (page, name) => page.screenshot({ path: path.join(shots, `${name}.png`) })
const alerts = (page) => page.getByRole('alert').allTextContents()
const values = (page) => page.evaluate(() => [document.querySelector('#endpoint-id').textContent, ...[...document.querySelectorAll('#fields :is(input, textarea, select)')].map((control) => control.type === 'checkbox' ? control.checked : control.value)])
const focused = (page) => page.evaluate(() => document.activeElement.id)
const run = (page) => page.getByRole('button', { name: 'Run' }).click()

const tasks = {
  async run(page) {
    await open(page, 'turbo/text-to-video')
    await watchStates(page)
    await run(page)
    await page.locator('#step:not(:empty)').waitFor({ timeout: 200 * SECONDS })
    await shot(page, 'running')
    const video = await result(page)
    await shot(page, 'done')
    await page.getByLabel('Seed').fill('')
    await page.getByRole('button', { name: /Keep seed/ }).click()
    const [seen, lines] = await page.evaluate(() => [window.seen, [...document.querySelectorAll('#lines li')].map((line) => line.lastChild.textContent)])
    return { video, seen, lines, seed: await page.getByLabel('Seed').inputValue() }
  },

  async command(page) {
    await open(page, 'turbo/text-to-video')
    await page.getByLabel('Prompt', { exact: true }).fill(`it's a "red" circle $HOME \\`)
    await page.getByText('As a curl command').click()
    return { curl: await page.locator('#curl').innerText(), seed: await page.getByLabel('Seed').inputValue() }
  },

  async mistakes(page) {
    await open(page, 'video-to-video')
    await page.getByLabel('Video', { exact: true }).fill('nothing')
    await page.getByLabel('Seed').fill('abc')
    await run(page)
    const wrong = page.locator('.wrong')
    await wrong.first().waitFor()
    const first = { messages: await wrong.allTextContents(), focused: await focused(page), invalid: await page.getByLabel('Seed').getAttribute('aria-invalid') }
    await shot(page, 'mistake')
    await page.getByLabel('Seed').fill('')
    await run(page)
    await page.locator('#field-video_url-wrong').waitFor({ timeout: 60 * SECONDS })
    return { first, messages: await wrong.allTextContents(), focused: await focused(page), running: await page.locator('#bar').isVisible() }
  },

  // The file's name is markup, which may not become part of the page.
  async upload(page, clip) {
    await open(page, 'turbo/video-to-video')
    const name = '<img src=x onerror="window.isHacked = 1">.mp4'
    await page.locator('input[type=file]').setInputFiles({ name, mimeType: 'video/mp4', buffer: fs.readFileSync(clip) })
    const note = await page.locator('.drop').innerText()
    await page.getByLabel('Strength').fill('0')
    await page.getByLabel('Seconds').fill('2')
    await page.getByLabel('FPS').fill('1')
    await run(page)
    const video = await result(page)
    await page.getByRole('button', { name: 'Re-animate this' }).click()
    return { video, note, next: await page.getByLabel('Video', { exact: true }).inputValue(), hacked: await page.evaluate(() => 'isHacked' in window) }
  },

  // While a long request runs.
  async reload(page) {
    await open(page, 'text-to-video')
    await page.getByLabel('Steps').fill('50')
    await page.getByLabel('Frames').fill('16')
    await page.getByText('Zoom in').click()
    const before = await values(page)
    await run(page)
    await page.locator('#step:not(:empty)').waitFor({ timeout: 200 * SECONDS })
    await page.goto(`${baseUrl}/fal/`) // without the endpoint in the address
    await page.locator('#step:not(:empty)').waitFor({ timeout: 60 * SECONDS })
    const after = await values(page)
    await shot(page, 'reloaded')
    await page.route('**/cancel', (route) => route.fulfill({ status: 499 }), { times: 1 }) // the first try fails
    for (let tries = 0; tries < 2; tries++) await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByText('Cancelled', { exact: true }).waitFor({ timeout: 60 * SECONDS })
    await shot(page, 'cancelled')
    return { before, after, alerts: await alerts(page), focused: await focused(page), again: await page.getByRole('button', { name: 'Run' }).isEnabled() }
  },

  // With the keyboard alone, from the seed on.
  async keyboard(page) {
    await open(page, 'turbo/text-to-video')
    await page.getByLabel('Frames').fill('8')
    await page.getByLabel('Seed').focus()
    await page.keyboard.press('Enter')
    const running = await focused(page)
    await result(page)
    await page.waitForFunction(() => document.querySelector('#cancel').hidden)
    const ended = await page.evaluate(() => document.activeElement.closest('#stage') !== null)
    // Who goes on typing meanwhile is left alone.
    await run(page)
    await page.getByLabel('Prompt', { exact: true }).focus()
    await page.getByText(/^Done/).waitFor({ timeout: 200 * SECONDS })
    return { running, ended, typing: await focused(page) }
  },

  // A chosen file that is no video; then another choice. And a reload while a file is being re-animated.
  async files(page, clip) {
    await open(page, 'turbo/video-to-video')
    const choose = (name, buffer) => page.locator('input[type=file]').setInputFiles({ name, mimeType: 'video/mp4', buffer })
    await choose('broken.mp4', Buffer.from('\0\0\0\x18ftypmp42 and no more'))
    await page.getByText('broken.mp4', { exact: true }).waitFor()
    await run(page)
    await page.locator('#field-video_url-wrong').waitFor({ timeout: 60 * SECONDS })
    const problem = await page.locator('.wrong').innerText()
    await choose('clip.mp4', fs.readFileSync(clip))
    const left = { wrong: await page.locator('.wrong').count(), alerts: await alerts(page) }
    await page.waitForFunction(() => document.querySelector('.drop video')?.readyState > 1)
    await shot(page, 'chosen')
    await page.getByLabel('Steps').fill('50')
    await page.getByLabel('Seconds').fill('2')
    await page.getByLabel('FPS').fill('1')
    await run(page)
    await page.locator('#step:not(:empty)').waitFor({ timeout: 200 * SECONDS })
    await page.reload()
    await page.waitForFunction(() => document.querySelector('.drop video')?.readyState > 1)
    const note = await page.locator('.drop').innerText()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByText('Cancelled', { exact: true }).waitFor({ timeout: 60 * SECONDS })
    return { problem, left, note }
  },

  // Every form, as wide as a desk and as narrow as a telephone: names of all controls, whether it has to be scrolled sideways.
  async forms(page) {
    const found = []
    for (const [width, scheme] of [[1280, 'light'], [360, 'dark']]) {
      await page.setViewportSize({ width, height: 900 })
      await page.emulateMedia({ colorScheme: scheme })
      for (const endpoint of ['video-to-video', 'text-to-video', 'turbo/video-to-video', 'turbo/text-to-video']) {
        await open(page, endpoint)
        await shot(page, `${endpoint.replace('/', ' ')} ${width}`)
        found.push(await page.evaluate(() => {
          const controls = [...document.querySelectorAll('main :is(input, textarea, select, button)')].filter((control) => !control.hidden)
          const hasName = (control) => control.ariaLabel || control.textContent.trim() || [...control.labels].some((label) => label.textContent.trim())
          const sizes = [...document.querySelectorAll('#field-video_size option')].map((option) => option.textContent)
          return { controls: controls.length, sizes, nameless: controls.filter((control) => !hasName(control)).map((control) => control.outerHTML), overflow: document.documentElement.scrollWidth - innerWidth }
        }))
      }
    }
    return { found }
  }
}

async function main() {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'fad-chromium-'))
  const browser = await chromium.launchPersistentContext(profile, { executablePath: process.env.CHROMIUM, headless: true, args: FLAGS, viewport: { width: 1280, height: 900 } })
  const page = browser.pages()[0]
  page.setDefaultTimeout(30 * SECONDS)
  const complaints = []
  page.on('pageerror', (error) => complaints.push(`script: ${error}`))
  page.on('console', (message) => {
    const isExpected = /responded with a status of (422|499)/.test(message.text()) // the task asks for these answers
    if (message.type() === 'error' && !isExpected) complaints.push(message.text())
  })
  try {
    console.log(JSON.stringify({ ...(await tasks[task](page, ...rest)), complaints }))
  } catch (error) {
    await shot(page, 'failed').catch(() => {})
    console.error(error, '\nWhat the page complained of:', complaints)
    process.exitCode = 1
  } finally {
    await browser.close()
    fs.rmSync(profile, { recursive: true, force: true })
  }
}

main()
