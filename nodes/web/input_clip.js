// The chosen clip on the nodes that load one, and the ways to choose it: a button, and files dropped anywhere on the node.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { ClipView } from './clip_view.js'

const SAMPLE = 'moving circle.mp4' // which the templates name; it lies in clips/ here
const WAIT = 150 // milliseconds without a change
const SELECTION = ['first_n_seconds', 'fps', 'start_seconds', 'size', 'max_frames']

const refreshes = new WeakMap() // by node
let read = String(Date.now()) // when the page was opened, R pressed or a file uploaded: files may have changed under their names

app.registerExtension({
  name: 'FastAnimateDiff.InputClip',

  refreshComboInNodes() {
    read = String(Date.now())
    for (const graph of [app.rootGraph, ...app.rootGraph.subgraphs.values()]) {
      for (const node of graph.nodes) refreshes.get(node)?.()
    }
  },

  nodeCreated(node) {
    const extensions = node.constructor.nodeData?.input?.required?.file?.[1]?.clip_extensions
    if (!extensions) return
    addUpload(node, extensions)
    const view = new ClipView(node, 'clip', 1)
    let timer = 0
    const refresh = () => {
      clearTimeout(timer)
      timer = setTimeout(describe, WAIT, node, view)
    }
    for (const widget of node.widgets.filter(({ name }) => ['file', ...SELECTION].includes(name))) {
      const before = widget.callback
      widget.callback = function (...values) {
        refresh()
        return before?.apply(this, values)
      }
    }
    refreshes.set(node, refresh)
    refresh() // the values of a saved workflow come right after this
  }
})

async function describe(node, view) {
  const values = Object.fromEntries(
    ['file', ...SELECTION].filter((name) => !isLinked(node, name)).map((name) => [name, widget(node, name).value])
  )
  const { file } = values
  if (file === SAMPLE && !widget(node, 'file').options.values.includes(file)) return upload(node, await sample())
  view.show(file ? [api.apiURL(`/view?${place(file)}`), route('preview', { file, read })] : [])
  if (file !== view.file) view.say('') // the line of the clip before
  view.file = file
  const asked = (view.asked = file && route('description', values))
  if (!asked) return
  const answer = await fetch(asked)
  const text = answer.ok ? await answer.text() : ''
  if (view.asked === asked) view.say(text)
}

async function sample() {
  const answer = await fetch(new URL(`clips/${SAMPLE}`, import.meta.url))
  return new File([await answer.blob()], SAMPLE)
}

function route(name, values) {
  return api.apiURL(`/fast-animatediff/clip/${name}?${new URLSearchParams(values)}`)
}

// How the host's own route names a file of a list: `folder/name.mp4 [output]`.
function place(file) {
  const [, path, type = 'input'] = /^(.*?)(?: \[(input|output|temp)\])?$/s.exec(file)
  const cut = path.lastIndexOf('/') + 1
  return new URLSearchParams({ filename: path.slice(cut), subfolder: path.slice(0, cut), type, read })
}

function widget(node, wanted) {
  return node.widgets.find(({ name }) => name === wanted)
}

function isLinked(node, name) {
  return node.inputs.some((input) => input.widget?.name === name && input.link != null)
}

function addUpload(node, extensions) {
  const button = node.addWidget('button', 'upload', 'image', () => chooser.click(), { serialize: false })
  button.label = 'choose file to upload'
  button.serialize = false // in a saved workflow its value would take the place of an input that is new
  const chooser = document.createElement('input')
  Object.assign(chooser, { type: 'file', accept: extensions.join(), onchange: () => upload(node, chooser.files[0]) })
  node.onDragOver = (event) => [...(event.dataTransfer?.items ?? [])].some(({ kind }) => kind === 'file')
  node.onDragDrop = async (event) => {
    const file = [...event.dataTransfer.files].find(({ name }) => extensions.some((end) => name.toLowerCase().endsWith(end)))
    if (file) await upload(node, file)
    return Boolean(file)
  }
}

async function upload(node, file) {
  const body = new FormData()
  body.append('image', file) // the host's name for any kind of file
  const noAnswer = { status: 'ComfyUI', statusText: 'does not answer' }
  const answer = await api.fetchApi('/upload/image', { method: 'POST', body }).catch(() => noAnswer)
  if (!answer.ok) return complain(file.name, answer)
  const { name, subfolder } = await answer.json()
  const combo = widget(node, 'file')
  const value = subfolder ? `${subfolder}/${name}` : name
  read = String(Date.now())
  if (!combo.options.values.includes(value)) combo.options.values.push(value)
  app.canvas.emitBeforeChange() // a step of its own to undo
  combo.value = value
  combo.callback(value)
  app.canvas.emitAfterChange()
  node.graph?.setDirtyCanvas(true, true)
}

function complain(name, { status, statusText }) {
  const reason = status === 413 ? 'it is larger than ComfyUI takes (--max-upload-size)' : `${status} ${statusText}`
  const detail = `${name} was not uploaded: ${reason}. You can also copy it into ComfyUI's input folder and press R.`
  app.extensionManager.toast.add({ severity: 'error', summary: 'Upload', detail, life: 10000 })
}
