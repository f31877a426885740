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
      { content: 'Open preview', callback: () => openClip(address) },
      { content: 'Save preview', callback: () => save(address) }
    ]
  }
})

// Browsers don't open a tab on the data that some previews are.
async function openClip(address) {
  const url = address.startsWith('data:') ? URL.createObjectURL(await (await fetch(address)).blob()) : address
  window.open(url, '_blank')
}

// What the server makes of a clip, by the clip's name as the node has it, is an mp4.
function save(address) {
  const query = new URL(address).searchParams
  const clip = query.get('file')?.replace(/ \[\w+\]$/, '').replace(/\/$/, '').split('/').pop()
  const name = query.get('filename') ?? (clip ? `${clip.replace(/\.\w+$/, '')}.mp4` : 'preview.webp')
  Object.assign(document.createElement('a'), { href: address, download: name }).click()
}
