// Lets a person choose an endpoint, sends its form, and shows the progress of the request and its video.

import { Form, make } from "./form.js";
import { Endpoints, local } from "./queue.js";

const at = (id) => document.getElementById(id);
const KEY = "fast-animatediff-key";
const RUNNING = "fast-animatediff-running";
const STEP = /step (\d+) of (\d+)/;

at("key").value = sessionStorage.getItem(KEY) ?? "";
const endpoints = new Endpoints(() => at("key").value.trim());
let described, chosen, form, running = null;

at("key-form").addEventListener("submit", (event) => event.preventDefault());
at("key").addEventListener("input", () => sessionStorage.setItem(KEY, at("key").value.trim()));

function titleOf(endpoint) {
  const words = endpoint.split("/").slice(2).join(" ").replaceAll("-", " ");
  return words[0].toUpperCase() + words.slice(1);
}

function appOf(endpoint) { return endpoint.split("/").slice(0, 2).join("/"); }

function inputOf(endpoint) {
  const body = described.paths[`/queue/${endpoint}`].post.requestBody.content["application/json"].schema;
  return described.components.schemas[body.$ref.split("/").at(-1)];
}

// Shows the form of an endpoint, with these values and, of the last form, what was being worked on.
function choose(endpoint, values = {}) {
  const { prompt, video_url } = form?.read() ?? {};
  const kept = Object.entries({ prompt, video_url }).filter(([, value]) => value);
  chosen = endpoint;
  for (const link of at("endpoints").children) {
    link.dataset.id === endpoint ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  at("endpoint-id").textContent = endpoint;
  form = new Form(at("fields"), inputOf(endpoint), (file) => endpoints.upload(file));
  for (const [name, value] of [...kept, ...Object.entries(values)]) form.write(name, value);
  showCode();
}

function showCode() {
  const input = form.read();
  if (input.video_url?.url) input.video_url = "https://example.com/your-video.mp4";
  const key = at("key").value ? ' \\\n  --header "Authorization: Key $FAL_KEY"' : "";
  const body = JSON.stringify(input, null, 2).replaceAll("'", "'\\''");
  at("curl").textContent = `curl --request POST --url ${new URL(`run/${chosen}`, location.href)}${key} \\\n  --header "Content-Type: application/json" \\\n  --data '${body}'`;
}

function showProblem(error) {
  const rest = form.explain(error.problems ?? []);
  const text = error.problems?.length ? rest.map((problem) => problem.msg).join("; ") : error.message;
  at("problem").textContent = text;
  at("problem").hidden = !text;
  if (error.status === 401) { at("access").open = true; at("key").focus(); }
}

// Screen readers announce the state, but not each step.
function showState(text) {
  if (at("state").textContent !== text) at("state").textContent = text;
}

// The last step stays in sight when sampling is over: it may last less than a moment.
function addLines(lines, isWhole) {
  if (isWhole) at("lines").replaceChildren();
  for (const { timestamp, message } of lines) {
    at("lines").append(make("li", {}, make("time", {}, new Date(timestamp).toLocaleTimeString()), message));
    const step = STEP.exec(message);
    if (!step) continue;
    at("step").textContent = step[0];
    Object.assign(at("bar"), { max: Number(step[2]), value: Number(step[1]) });
  }
  at("log").hidden = !at("lines").children.length;
  at("lines").scrollTop = at("lines").scrollHeight;
}

function showStatus(status, isWhole) {
  addLines(status.logs ?? [], isWhole);
  const last = at("lines").lastElementChild?.lastChild.textContent ?? "Starting";
  if (!STEP.test(last)) at("bar").removeAttribute("value");
  if (status.status === "AWAY") showState("The server is not responding. Retrying");
  else if (status.status === "IN_QUEUE") showState(status.queue_position ? `In the queue, ${status.queue_position} ahead` : "Next in the queue");
  else if (status.status === "COMPLETED") showState(status.error ? "" : `Done in ${(status.metrics?.inference_time ?? 0).toFixed(1)} seconds`);
  else showState(STEP.test(last) ? "Sampling" : last);
}

function showResult(result) {
  const { url, content_type: kind, file_name: name, file_size: size } = result.video;
  const src = local(url);
  const player = kind?.startsWith("image/") ? make("img", { src, alt: "The result" }) : make("video", { src, ariaLabel: "The result", controls: true, loop: true, autoplay: true, muted: true, playsInline: true });
  player.tabIndex = 0;
  at("stage").replaceChildren(player);
  const download = make("a", { href: src, download: name ?? "" }, `Download (${(size / 1024).toFixed(0)} KiB)`);
  const again = make("button", { type: "button", className: "quiet" }, `Keep seed ${result.seed}`);
  again.addEventListener("click", () => { form.write("seed", result.seed); showCode(); });
  const next = make("button", { type: "button", className: "quiet" }, "Re-animate this");
  next.addEventListener("click", () => go(chosen.replace(/[^/]+$/, "video-to-video"), { video_url: url }));
  at("facts").replaceChildren(download, again, next);
  at("facts").hidden = false;
  return player;
}

function clearOutcome() {
  at("stage").replaceChildren(at("idle") ?? make("p", { id: "idle" }, "The video will appear here."));
  at("lines").replaceChildren();
  at("problem").hidden = at("facts").hidden = at("log").hidden = true;
  at("step").textContent = "";
  at("bar").removeAttribute("value");
}

function setRunning(request) {
  running = request;
  at("run").disabled = request !== null;
  at("bar").hidden = at("cancel").hidden = request === null;
  at("cancel").disabled = false;
}

// Follows a request to its end and shows what came of it. begin: sends it, or finds it again after a reload.
// The focus goes with it, to Cancel and then to the result, unless it is elsewhere by then.
async function follow(begin) {
  const request = { isCancelled: false };
  const stopped = new Promise((_, reject) => { request.stop = reject; });
  stopped.catch(() => {});
  clearOutcome();
  setRunning(request);
  at("cancel").focus();
  let next = at("run");
  let problem = null;
  try {
    Object.assign(request, await begin(stopped));
    if (request.isCancelled) await cancel(request);
    sessionStorage.setItem(RUNNING, JSON.stringify(request));
    await endpoints.follow(appOf(request.endpoint), request.id, showStatus);
    next = showResult(await endpoints.result(appOf(request.endpoint), request.id));
  } catch (error) {
    problem = error;
  }
  sessionStorage.removeItem(RUNNING);
  const hasFocus = [document.body, at("cancel")].includes(document.activeElement);
  setRunning(null);
  if (hasFocus) next.focus();
  if (problem) showState(request.isCancelled ? "Cancelled" : "");
  if (problem && !request.isCancelled) showProblem(problem);
}

async function send(stopped) {
  const endpoint = chosen;
  const input = form.read();
  if (input.video_url?.url) {
    showState(`Uploading ${input.video_url.name}`);
    input.video_url = await Promise.race([input.video_url.url(), stopped]);
  }
  showState("Sending");
  return { endpoint, input, id: (await endpoints.submit(endpoint, input)).request_id };
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  form.explain([]);
  follow(send);
  at("outcome").scrollIntoView({ block: "nearest" });
});

at("form").addEventListener("reset", (event) => { event.preventDefault(); form.reset(); showCode(); });
for (const kind of ["input", "change"]) at("form").addEventListener(kind, () => { at("problem").hidden = true; showCode(); });

// A request that is being sent is cancelled as soon as its id is known.
async function cancel(request) {
  at("cancel").disabled = request.isCancelled = true;
  request.stop(new Error("Cancelled"));
  if (request.id) await endpoints.cancel(appOf(request.endpoint), request.id).catch(() => { at("cancel").disabled = request.isCancelled = false; });
}

at("cancel").addEventListener("click", () => cancel(running));
// Enter, held down a little too long on Run, is not meant for Cancel.
at("cancel").addEventListener("keydown", (event) => { if (event.repeat) event.preventDefault(); });

function go(endpoint, values) {
  history.replaceState(null, "", `#${endpoint}`);
  choose(endpoint, values);
}

async function start() {
  described = await endpoints.json("openapi.json");
  const ids = Object.keys(described.paths).filter((path) => path.startsWith("/run/")).map((path) => path.slice(5));
  at("endpoints").replaceChildren(...ids.map((id) => make("a", { href: `#${id}` }, titleOf(id))));
  ids.forEach((id, index) => { at("endpoints").children[index].dataset.id = id; });
  const fromAddress = () => (ids.includes(location.hash.slice(1)) ? location.hash.slice(1) : ids[0]);
  addEventListener("hashchange", () => choose(fromAddress()));
  const before = JSON.parse(sessionStorage.getItem(RUNNING) ?? "null");
  if (!ids.includes(before?.endpoint)) return choose(fromAddress());
  go(before.endpoint, before.input);
  await follow(async () => before);
}

start().catch((error) => {
  at("problem").textContent = `Could not load the endpoints: ${error.message}`;
  at("problem").hidden = false;
});
