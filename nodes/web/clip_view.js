// A clip on a node with a line of text below it: one element for canvas nodes and for Nodes 2.0.
import { app } from '../../scripts/app.js'

const STYLE = {
  frame: 'display: none; flex-direction: column; gap: 4px; box-sizing: border-box; width: 100%; height: 100%; overflow: hidden',
  picture: 'flex: 1 1 auto; min-height: 0; width: 100%; object-fit: contain; border-radius: 4px',
  line: 'flex: none; padding: 0 4px; text-align: center; font-size: 12px; line-height: 16px; color: var(--input-text); white-space: pre-line; overflow-wrap: anywhere'
}
const SIDES = 20 // pixels that the host keeps free around an element, in both directions
const LINE_HEIGHT = 16 // as above

const TYPE = 'fad_clip_'
let made = 0

export class ClipView {
  // highest: the height by the width up to which a picture gets room by itself; a taller one is shown smaller.
  constructor(node, name, highest = Infinity) {
    this.node = node
    this.highest = highest
    this.frame = element('div', STYLE.frame)
    this.line = element('div', STYLE.line)
    this.frame.append(this.line)
    this.urls = []
    this.ratio = 0 // height by width of the picture's room; 0 without one
    this.lines = 0 // height of the text
    // A type of its own: of two with the same name and type on nodes with one id, Nodes 2.0 goes on showing the first.
    this.widget = node.addDOMWidget(name, `${TYPE}${made++}`, this.frame, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => this.height()
    })
    this.widget.serialize = false
    this.frame.addEventListener('dragover', (event) => takeFiles(node, event))
    this.frame.addEventListener('wheel', zoomCanvas)
  }

  // Shows the first of the addresses that the browser can play: nothing of an older clip stays. The same list is left alone.
  async show(urls) {
    if (urls.join() === this.urls.join()) return
    this.urls = urls
    if (!isInline(urls[0])) this.place(null) // what has to be fetched may take a while
    for (const url of urls) {
      const picture = await loaded(url)
      if (this.urls !== urls) return // another clip was chosen meanwhile
      if (picture) return this.place(picture)
    }
    this.urls = [] // another call tries again
    this.place(null)
  }

  say(text) {
    this.line.textContent = text
    this.fit()
  }

  place(picture) {
    this.frame.querySelector('img, video')?.remove()
    if (picture) {
      const ratio = (picture.videoHeight || picture.naturalHeight) / (picture.videoWidth || picture.naturalWidth)
      this.ratio = Math.min(ratio, this.highest)
      picture.style.aspectRatio = String(1 / this.ratio)
      this.frame.prepend(picture)
    } else if (!this.urls.length) {
      this.ratio = 0
    }
    this.fit()
  }

  height() {
    const width = this.node.size?.[0] - SIDES || 0
    return this.ratio || this.lines ? Math.round(width * this.ratio) + this.lines + SIDES : 0
  }

  // Makes room on the node; it never takes any back, as people arrange their nodes.
  fit() {
    const { node } = this
    const [width, height] = node.size
    const text = this.line.textContent
    this.lines = text ? Math.max(2 * LINE_HEIGHT, heightOf(text, STYLE.line, width - SIDES)) : 0
    this.frame.style.display = this.ratio || text ? 'flex' : 'none'
    const needed = window.LiteGraph.vueNodesMode ? 0 : node.computeSize()[1]
    if (height < needed) node.setSize([width, needed])
    node.graph?.setDirtyCanvas(true, true)
  }
}

// What a node shows, or nothing.
export function pictureOn(node) {
  const shown = (node.widgets ?? []).filter(({ type }) => String(type).startsWith(TYPE))
  return shown.map(({ element }) => element.querySelector('img, video')).find(Boolean)
}

// What a text takes in an element of this style.
export function heightOf(text, style, width) {
  const ruler = element('div', `${style}; position: absolute; visibility: hidden; box-sizing: border-box; width: ${width}px`)
  ruler.textContent = text
  document.body.append(ruler)
  const height = ruler.offsetHeight
  ruler.remove()
  return height
}

function isInline(url) {
  return url?.startsWith('data:')
}

function element(tag, style) {
  const created = document.createElement(tag)
  created.style.cssText = style
  return created
}

// An element that shows what is at an address, or null if the browser can't.
function loaded(url) {
  const file = new URL(url, location.href).searchParams.get('filename') ?? ''
  const isPicture = isInline(url) || /\.(gif|webp|a?png)$/i.test(file)
  const picture = element(isPicture ? 'img' : 'video', STYLE.picture)
  if (!isPicture) Object.assign(picture, { muted: true, autoplay: true, loop: true, playsInline: true })
  return new Promise((resolve) => {
    picture.onload = () => resolve(picture)
    picture.onloadeddata = () => resolve(picture.videoWidth ? withControls(picture) : null) // sound alone
    picture.onerror = () => resolve(null)
    picture.src = url
  })
}

function withControls(video) {
  video.title = 'Click for sound'
  // Browsers pause what leaves the page, as when Nodes 2.0 folds a node, and leave it so.
  let left = false
  video.addEventListener('pause', () => (left = !video.isConnected))
  new ResizeObserver(() => left && video.isConnected && video.play()).observe(video)
  video.addEventListener('pointerenter', () => (video.controls = true))
  video.addEventListener('pointerleave', () => (video.controls = false))
  video.addEventListener('click', (event) => {
    event.preventDefault() // where the browser would pause
    video.muted = !video.muted
  })
  return video
}

// The host asks a canvas node for files only where its own canvas lies under the pointer.
function takeFiles(node, event) {
  if (window.LiteGraph.vueNodesMode || !node.onDragOver?.(event)) return
  event.preventDefault()
  app.dragOverNode = node
}

function zoomCanvas(event) {
  if (window.LiteGraph.vueNodesMode) return // Nodes 2.0 does it
  event.preventDefault()
  app.canvas.canvas.dispatchEvent(new WheelEvent(event.type, event))
}
