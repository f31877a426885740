// Picks an endpoint, sends its form, shows the way of the request through the queue and the video at its end.

import { Form, make } from "./form.js";
import { Endpoints } from "./queue.js";

const at = (id) => document.getElementById(id);
const KEY = "fast-animatediff-key";
const RUNNING = "fast-animatediff-running";

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

function choose(endpoint, values = {}) {
  const kept = { ...(form?.read() ?? {}), ...values };
  chosen = endpoint;
  for (const link of at("endpoints").children) {
    link.dataset.id === endpoint ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  at("endpoint-id").textContent = endpoint;
  form = new Form(at("fields"), inputOf(endpoint), form ? kept : values);
  showCode();
}

function showCode() {
  const input = form.read();
  if (input.video_url instanceof File) input.video_url = "https://example.com/your-video.mp4";
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

// The state is read out where a screen is; the steps within it are not.
function showState(text, done, all) {
  if (at("state").textContent !== text) at("state").textContent = text;
  at("step").textContent = all ? `step ${done} of ${all}` : "";
  if (all) Object.assign(at("bar"), { max: all, value: done });
  else at("bar").removeAttribute("value");
}

function addLines(lines, isWhole) {
  if (isWhole) at("lines").replaceChildren();
  for (const { timestamp, message } of lines) {
    at("lines").append(make("li", {}, make("time", {}, new Date(timestamp).toLocaleTimeString()), message));
  }
  at("log").hidden = !at("lines").children.length;
  at("lines").scrollTop = at("lines").scrollHeight;
}

function showStatus(status, isWhole) {
  addLines(status.logs ?? [], isWhole);
  const last = at("lines").lastElementChild?.lastChild.textContent ?? "Starting";
  const step = /step (\d+) of (\d+)/.exec(last);
  if (status.status === "AWAY") showState("The server does not answer; asking again");
  else if (status.status === "IN_QUEUE") showState(status.queue_position ? `In the queue, ${status.queue_position} before it` : "In the queue, next");
  else if (status.status === "COMPLETED") showState(status.error ? "" : `Done in ${(status.metrics?.inference_time ?? 0).toFixed(1)} seconds`);
  else if (step) showState("Sampling", Number(step[1]), Number(step[2]));
  else showState(last);
}

function showResult(result) {
  const { url, content_type: kind, file_name: name, file_size: size } = result.video;
  const player = kind?.startsWith("image/") ? make("img", { src: url, alt: "The result" }) : make("video", { src: url, controls: true, loop: true, autoplay: true, muted: true, playsInline: true });
  at("stage").replaceChildren(player);
  const download = make("a", { href: url, download: name ?? "" }, `Download (${(size / 1024).toFixed(0)} KiB)`);
  const again = make("button", { type: "button", className: "quiet" }, `Keep seed ${result.seed}`);
  again.addEventListener("click", () => { form.write("seed", result.seed); showCode(); });
  const next = make("button", { type: "button", className: "quiet" }, "Re-animate this");
  next.addEventListener("click", () => go(chosen.replace(/[^/]+$/, "video-to-video"), { video_url: url }));
  at("facts").replaceChildren(download, again, next);
  at("facts").hidden = false;
}

function clearOutcome() {
  at("stage").replaceChildren(at("idle") ?? make("p", { id: "idle" }, "The video will appear here."));
  at("lines").replaceChildren();
  at("problem").hidden = at("facts").hidden = at("log").hidden = true;
  showState("");
}

function setRunning(request) {
  running = request;
  at("run").disabled = request !== null;
  at("bar").hidden = at("cancel").hidden = request === null;
  at("cancel").disabled = !request?.id;
}

// Follows a request to its end and shows what came of it. A reload of the page finds it again.
async function finish(app, id) {
  setRunning({ app, id });
  sessionStorage.setItem(RUNNING, JSON.stringify({ app, id }));
  await endpoints.follow(app, id, showStatus);
  showResult(await endpoints.result(app, id));
}

async function whileRunning(work) {
  try {
    await work();
  } catch (error) {
    showState("");
    showProblem(error);
  } finally {
    sessionStorage.removeItem(RUNNING);
    setRunning(null);
  }
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  clearOutcome();
  form.explain([]);
  setRunning({ id: null });
  at("outcome").scrollIntoView({ block: "nearest" });
  whileRunning(async () => {
    const endpoint = chosen;
    const input = form.read();
    if (input.video_url instanceof File) {
      showState(`Uploading ${input.video_url.name}`);
      input.video_url = await endpoints.upload(input.video_url);
    }
    showState("Sending");
    const { request_id: id } = await endpoints.submit(endpoint, input);
    await finish(appOf(endpoint), id);
  });
});

at("form").addEventListener("reset", (event) => { event.preventDefault(); form.reset(); showCode(); });
for (const kind of ["input", "change"]) at("form").addEventListener(kind, showCode);

at("cancel").addEventListener("click", async () => {
  at("cancel").disabled = true;
  await endpoints.cancel(running.app, running.id).catch(showProblem);
});

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
  choose(fromAddress());
  const before = JSON.parse(sessionStorage.getItem(RUNNING) ?? "null");
  if (before) await whileRunning(() => finish(before.app, before.id));
}

start().catch((error) => {
  at("problem").textContent = `The endpoints could not be read: ${error.message}`;
  at("problem").hidden = false;
});
