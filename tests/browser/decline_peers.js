// Declines the question for each workflow of another pack that is dropped, in turn; returns how often it came, also on the way back.
'use strict'
const { main } = require('./page')

main(async (page, { shot, drop }, ...files) => {
  const question = page.getByRole('dialog').filter({ hasText: 'AnimateDiff packs' })
  const command = (name) => page.evaluate((id) => void window.app.extensionManager.command.execute(id), name)
  const asked = []
  for (const file of files) {
    await drop(file)
    await question.waitFor({ timeout: 10000 }).catch(() => {})
    asked.push(await question.count())
    await shot(`question ${asked.length}`)
    if (asked.at(-1)) await question.getByRole('button', { name: 'Cancel' }).click()
    await page.waitForFunction(() => window.app.graph.nodes.length && !document.querySelector('[role=dialog]'))
  }
  await command('Workspace.PreviousOpenedWorkflow')
  await page.waitForTimeout(4000)
  return { asked, back: await question.count() }
})
