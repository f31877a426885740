// The form of one endpoint, made from the schema of its requests: it is filled in, read, and shows problems.

import { local } from "./queue.js";

const LONG = ["prompt", "negative_prompt"];
const FIRST = ["video_url", ...LONG]; // full width, like LAST
const LAST = ["motions", "video_size"];
const NAMES = { num_inference_steps: "Steps", guidance_scale: "Guidance", first_n_seconds: "Seconds", num_frames: "Frames", video_url: "Video", fps: "FPS" };
const VIDEO_KINDS = "video/*,.mkv,.gif,.webp,.png,.apng,.ts,.avi";

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function words(name) {
  const text = (NAMES[name] ?? name).replaceAll("_", " ").replaceAll("-", " ");
  return text[0].toUpperCase() + text.slice(1);
}

// As the hosted service's page writes them: `Square HD`, `Portrait 4:3`.
function sizeWords(preset) {
  return words(preset).replace(/ hd$/, " HD").replace(/ (\d+) (\d+)$/, " $1:$2");
}

// A control is { element, read(), write(value) }, and input if that is only a part of the element.
// read() gives undefined for the service's default.
function textControl(id, name) {
  const element = LONG.includes(name) ? make("textarea", { id, rows: 3 }) : make("input", { id, type: "text" });
  return { element, read: () => element.value, write: (value) => { element.value = value ?? ""; } };
}

function numberControl(id, schema, shown) {
  const isWhole = schema.type === "integer";
  const step = isWhole ? 1 : schema.maximum <= 1 ? 0.05 : 0.1;
  const element = make("input", { id, type: "range", min: schema.minimum, max: schema.maximum, step });
  const show = () => { shown.textContent = element.value; };
  element.addEventListener("input", show);
  return { element, read: () => Number(element.value), write: (value) => { element.value = value; show(); } };
}

function seedControl(id) {
  const element = make("input", { id, type: "text", inputMode: "numeric", placeholder: "random" });
  const read = () => {
    const text = element.value.trim();
    if (!text) return undefined;
    return /^-?\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : text;
  };
  return { element, read, write: (value) => { element.value = value ?? ""; } };
}

function choicesControl(id, schema) {
  const boxes = schema.items.enum.map((value) => make("input", { type: "checkbox", value }));
  const element = make("div", { id, className: "chips" }, ...boxes.map((box) => make("label", {}, box, words(box.value))));
  const read = () => boxes.filter((box) => box.checked).map((box) => box.value);
  return { element, read, write: (chosen) => boxes.forEach((box) => { box.checked = (chosen ?? []).includes(box.value); }) };
}

function sizeControl(id, schema) {
  const presets = schema.anyOf.find((choice) => choice.enum).enum;
  const select = make("select", { id }, ...presets.map((name) => make("option", { value: name }, sizeWords(name))), make("option", { value: "" }, "Custom"));
  const [width, height] = ["width", "height"].map((name) => make("input", { type: "number", min: 64, max: 4096, step: 8, value: 512, ariaLabel: words(name) }));
  const pair = make("div", { className: "pair" }, width, "x", height);
  const show = () => { pair.hidden = select.value !== ""; };
  select.addEventListener("change", show);
  const read = () => select.value || { width: Number(width.value), height: Number(height.value) };
  const write = (value) => {
    select.value = typeof value === "string" ? value : "";
    if (typeof value === "object") [width.value, height.value] = [value.width, value.height];
    show();
  };
  return { element: make("div", {}, select, pair), input: select, read, write };
}

// A chosen file is uploaded at once: its preview then comes from this server, which every policy of the host allows.
class Chosen {
  constructor(name, upload) { Object.assign(this, { name, upload }); }

  // The address of the file on the server. An upload that failed is tried again.
  url() {
    this.uploading ??= this.upload().catch((error) => { this.uploading = null; throw error; });
    return this.uploading;
  }
}

function videoControl(id, upload) {
  const address = make("input", { id, type: "url", placeholder: "https://..." });
  const picker = make("input", { type: "file", accept: VIDEO_KINDS, hidden: true });
  const choose = make("button", { type: "button", className: "quiet" }, "Choose a file");
  const note = make("div");
  const drop = make("div", { className: "drop" }, choose, note, picker);
  let chosen = null;
  const preview = (src) => {
    const video = make("video", { src, muted: true, loop: true, autoplay: true });
    const image = make("img", { src, alt: "" });
    video.addEventListener("error", () => video.replaceWith(image));
    image.addEventListener("error", () => image.remove());
    drop.prepend(video);
  };
  const show = (text) => { drop.querySelectorAll("video, img").forEach((old) => old.remove()); note.textContent = text; };
  const clear = () => { chosen = null; show("or drop a video here"); };
  const take = async (taken) => {
    chosen = taken;
    address.value = "";
    show(`Uploading ${taken.name}`);
    try {
      const src = local(await taken.url());
      if (chosen !== taken) return;
      show(taken.name);
      preview(src);
    } catch (error) {
      if (chosen === taken) show(`Could not upload ${taken.name}: ${error.message}`);
    }
  };
  const takeFile = (file) => {
    if (!file) return;
    take(new Chosen(file.name, () => upload(file)));
    address.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const write = (value) => {
    const uploaded = /\/storage\/files\/[^/]+\/([^/]+)$/.exec(value);
    if (value instanceof Chosen) take(value);
    else if (uploaded) take(new Chosen(uploaded[1], async () => value));
    else { address.value = value ?? ""; clear(); }
  };
  choose.addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => { takeFile(picker.files[0]); picker.value = ""; });
  address.addEventListener("input", clear);
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("is-over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("is-over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("is-over"); takeFile(event.dataTransfer.files[0]); });
  return { element: make("div", {}, address, drop), input: address, read: () => chosen ?? address.value.trim(), write };
}

function control(id, name, schema, shown, upload) {
  if (name === "video_url") return videoControl(id, upload);
  if (name === "seed") return seedControl(id);
  if (schema.type === "array") return choicesControl(id, schema);
  if (schema.anyOf) return sizeControl(id, schema);
  if (schema.type === "integer" || schema.type === "number") return numberControl(id, schema, shown);
  return textControl(id, name);
}

export class Form {
  // Puts the fields of the schema into the place. upload: sends a file to the server and resolves to its address.
  constructor(place, schema, upload) {
    this.schema = schema;
    this.controls = new Map();
    this.boxes = new Map();
    place.replaceChildren();
    const rank = (name) => (FIRST.includes(name) ? 0 : LAST.includes(name) ? 2 : 1);
    for (const name of schema["x-fal-order-properties"].toSorted((a, b) => rank(a) - rank(b))) {
      const field = schema.properties[name];
      const id = `field-${name}`;
      const shown = make("span", { className: "value", ariaHidden: "true" }); // screen readers read it from the slider
      const made = control(id, name, field, shown, upload);
      const isGroup = field.type === "array";
      const title = make(isGroup ? "legend" : "label", isGroup ? {} : { htmlFor: id }, make("span", {}, words(name)), shown);
      const box = make(isGroup ? "fieldset" : "div", { className: "field" }, title, made.element, make("p", { className: "hint", id: `${id}-hint` }, field.description ?? ""));
      if (rank(name) !== 1) box.classList.add("wide");
      box.described = isGroup ? box : (made.input ?? made.element);
      this.controls.set(name, made);
      this.boxes.set(name, box);
      place.append(box);
    }
    place.oninput = place.onchange = (event) => this.forget(event.target);
    this.reset();
  }

  reset() {
    for (const [name, made] of this.controls) {
      const field = this.schema.properties[name];
      made.write(field.default ?? (name === "prompt" ? field.examples?.[0] : undefined));
    }
    this.explain([]);
  }

  write(name, value) { this.controls.get(name)?.write(value); }

  // The request as it is sent, except that a chosen file is an object with name and url().
  read() {
    const values = [...this.controls].map(([name, made]) => [name, made.read()]);
    return Object.fromEntries(values.filter(([, value]) => value !== undefined));
  }

  // Shows each problem at its field and focuses the first; returns those that belong to no field.
  explain(problems) {
    for (const name of this.boxes.keys()) this.mark(name, problems.filter((problem) => problem.loc?.[1] === name));
    document.querySelector("[aria-invalid=true]:is(input, textarea, select), [aria-invalid=true] input")?.focus();
    return problems.filter((problem) => !this.boxes.has(problem.loc?.[1]));
  }

  mark(name, found) {
    const box = this.boxes.get(name);
    const id = `field-${name}`;
    box.querySelector(".wrong")?.remove();
    if (found.length) box.append(make("p", { className: "wrong", id: `${id}-wrong` }, found.map((problem) => problem.msg).join("; ")));
    box.described.ariaInvalid = String(found.length > 0);
    box.described.setAttribute("aria-describedby", found.length ? `${id}-wrong ${id}-hint` : `${id}-hint`);
  }

  // Removes the problem of the field that changes.
  forget(changed) {
    for (const [name, box] of this.boxes) if (box.contains(changed)) this.mark(name, []);
  }
}
