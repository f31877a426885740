// The endpoints, as their clients use them. Every path is relative to this page.

const POLL = 700; // milliseconds

// The path, relative to this page, of an address below /fal: the same file whatever name the server goes by.
export function local(url) { return new URL(url).pathname.replace(/^.*?\/fal\//, ""); }

export class Failure extends Error {
  constructor(status, body) {
    const problems = Array.isArray(body?.detail) ? body.detail : [];
    super(problems.map((problem) => problem.msg).join("; ") || body?.detail || `HTTP ${status}`);
    Object.assign(this, { status, problems });
  }
}

export class Endpoints {
  constructor(readKey) { this.readKey = readKey; }

  async ask(path, options = {}) {
    const key = this.readKey();
    const headers = { Accept: "application/json", ...(key && { Authorization: `Key ${key}` }), ...options.headers };
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch {
      throw new Failure(0, { detail: "The server is not responding." });
    }
    if (!answer.ok) throw new Failure(answer.status, await answer.json().catch(() => null));
    return answer;
  }

  async json(path, options) { return (await this.ask(path, options)).json(); }

  post(path, body) {
    return this.json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  }

  async upload(file) {
    const { upload_url, file_url } = await this.post("storage/upload/initiate", { file_name: file.name, content_type: file.type });
    await this.ask(local(upload_url), { method: "PUT", body: file });
    return file_url;
  }

  submit(endpoint, input) { return this.post(`queue/${endpoint}`, input); }

  cancel(app, id) { return this.json(`queue/${app}/requests/${id}/cancel`, { method: "PUT" }); }

  result(app, id) { return this.json(`queue/${app}/requests/${id}`); }

  // Calls back with every status until the request has ended. If the stream breaks off, it polls: a server that has
  // restarted still knows the request.
  async follow(app, id, onStatus) {
    const base = `queue/${app}/requests/${id}/status`;
    if (await this.stream(`${base}/stream?logs=1`, onStatus).catch(() => false)) return;
    for (;;) {
      try {
        const status = await this.json(`${base}?logs=1`);
        onStatus(status, true);
        if (status.status === "COMPLETED") return;
      } catch (error) {
        if (error.status && error.status !== 503) throw error;
        onStatus({ status: "AWAY" }, false);
      }
      await new Promise((done) => setTimeout(done, POLL));
    }
  }

  // Reads server-sent events by hand, as EventSource can't send a key. Resolves to whether the request has ended.
  async stream(path, onStatus) {
    const answer = await this.ask(path, { headers: { Accept: "text/event-stream" } });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return false;
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
        if (!data) continue;
        const status = JSON.parse(data);
        onStatus(status, false);
        if (status.status === "COMPLETED") return true;
      }
    }
  }
}
