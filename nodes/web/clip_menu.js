// Opens and saves the clip that a node shows, from the node's menu.
import { app } from '../../scripts/app.js'
import { pictureOn } from './clip_view.js'

app.registerExtension({
  name: 'FastAnimateDiff.ClipMenu',

  getNodeMenuItems(node) {
    const address = pictureOn(node)?.src
    if (!address) return []
    return [
      null,
      { content: 'Open preview', callback: () => window.open(address, '_blank') },
      { content: 'Save preview', callback: () => save(address) }
    ]
  }
})

function save(address) {
  const query = new URL(address).searchParams
  const name = query.get('filename') ?? query.get('file') ?? 'preview.webp'
  Object.assign(document.createElement('a'), { href: address, download: name }).click()
}
