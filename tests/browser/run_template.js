// Opens "AnimateDiff SD1.5 Video to Video" from the template browser, makes it small, runs it, waits for the video on the node.
'use strict'
const { PACK, main, saved, waitForNode } = require('./page')

main(async (page, { shot }) => {
  await page.getByRole('button', { name: 'Templates' }).first().click()
  await page.getByRole('button', { name: PACK, exact: true }).or(page.getByText(PACK, { exact: true })).first().click()
  const card = page.getByTestId('template-workflow-AnimateDiff SD1.5 Video to Video')
  await card.waitFor()
  const picture = await card.locator('img').first().evaluate(async (image) => {
    await image.decode()
    return image.naturalWidth
  })
  await shot('template browser')
  await card.click()
  await waitForNode(page, 'Export Video')
  await page.waitForTimeout(1500)
  const opened = await saved(page)
  await shot('template opened')

  await page.evaluate(() => {
    const change = (title, widget, value) => {
      const node = window.app.graph.nodes.find((candidate) => candidate.title === title)
      node.widgets.find((candidate) => candidate.name === widget).value = value
    }
    change('Load Video Frames', 'size', 'source')
    change('Load Video Frames', 'first_n_seconds', 1)
    change('AnimateDiff Sampler', 'steps', 4)
  })
  await page.getByTestId('queue-button').click()
  const video = await page.waitForFunction(playableVideo, 'Export Video', { timeout: 90000 })
  const shown = await video.evaluate((element) => ({
    duration: element.duration,
    width: element.videoWidth,
    height: element.videoHeight,
    src: element.currentSrc,
    visible: element.checkVisibility()
  }))
  await page.waitForTimeout(500)
  await shot('template done')
  return { picture, opened, shown }
})

// The video element on a node, once it can be played.
function playableVideo(title) {
  const node = window.app.graph.nodes.find((candidate) => candidate.title === title)
  const element = node.widgets.find((widget) => widget.name === 'result').element.querySelector('video')
  return element?.duration > 0 && element
}
