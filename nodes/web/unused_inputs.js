// Widgets that another input leaves without effect can't be changed meanwhile, and are grey.
import { app } from '../../scripts/app.js'

const ANIMATED_PICTURES = ['gif', 'webp']
const isPicture = (format) => ANIMATED_PICTURES.includes(format)

// By kind of node: widgets, the inputs that decide, and whether their values leave those widgets without effect.
const EXPORT = [
  [['quality'], ['format', 'crf'], (format, crf) => !isPicture(format) && crf >= 0],
  [['crf'], ['format'], isPicture],
  [['loop_count'], ['format'], (format) => !isPicture(format)]
]
const RULES = {
  FAD_EmptyVideoLatent: [[['width', 'height'], ['video_size'], (size) => size !== 'custom']],
  FAD_Sampler: [[['cfg_until'], ['cfg'], (cfg) => cfg === 1]],
  FAD_ContextWindows: [[['context_stride'], ['context_schedule'], (schedule) => !String(schedule).endsWith('uniform')]],
  FAD_ExportVideo: EXPORT,
  FAD_DecodeAndExport: EXPORT
}
// Widgets in whose place a connected input is used.
const REPLACED = {
  FAD_ApplyMotionModule: { strength: 'strength_per_frame', motion_scale: 'motion_scale_per_frame' },
  FAD_ControlNetStrength: { strength: 'strength_per_frame' }
}
// Widgets that have no effect without a connected input.
const DEPENDENT = { FAD_ApplyMotionModule: { still_background: 'mask' } }

app.registerExtension({
  name: 'FastAnimateDiff.UnusedInputs',

  nodeCreated(node) {
    const rules = RULES[node.comfyClass] ?? []
    const replaced = REPLACED[node.comfyClass] ?? {}
    const dependent = DEPENDENT[node.comfyClass] ?? {}
    const refresh = () => {
      for (const [names, deciding, isUnused] of rules) {
        // What a linked widget will be is not known yet.
        const isKnown = !deciding.some((name) => isLinked(node, name))
        disable(node, names, isKnown && isUnused(...deciding.map((name) => widget(node, name).value)))
      }
      for (const [name, input] of Object.entries(replaced)) disable(node, [name], isLinked(node, input))
      for (const [name, input] of Object.entries(dependent)) disable(node, [name], !isLinked(node, input))
      node.graph?.setDirtyCanvas(true, true)
    }
    if (!rules.length && !Object.keys(replaced).length) return
    for (const name of new Set(rules.flatMap(([, deciding]) => deciding))) after(widget(node, name), 'callback', refresh)
    after(node, 'onConfigure', refresh)
    after(node, 'onConnectionsChange', refresh)
    refresh()
  }
})

function disable(node, names, isUnused) {
  for (const name of names) widget(node, name).disabled = isUnused
}

function after(owner, name, then) {
  const before = owner[name]
  owner[name] = function (...values) {
    const result = before?.apply(this, values)
    then()
    return result
  }
}

function widget(node, wanted) {
  return node.widgets.find(({ name }) => name === wanted)
}

function isLinked(node, name) {
  return node.inputs.some((input) => (input.widget?.name ?? input.name) === name && input.link != null)
}
