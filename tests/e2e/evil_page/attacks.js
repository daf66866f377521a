// What a page of another origin tries against a service that the same browser can reach. `attack` runs all
// of it and returns, by name, what was learned; what was done is for the test to see in the service.

/** What an element says once it has loaded or failed to. */
function loaded(element, properties) {
  return new Promise((resolve) => {
    element.onload = element.onloadedmetadata = () => resolve("loaded");
    element.onerror = () => resolve();
    Object.assign(element, properties);
    document.body.append(element);
  });
}

/** The beginning of an answer that is more than a refusal: of one that is opaque, nobody knows. */
async function text(response) {
  if (!response.ok && response.type !== "opaque") return "";
  const reader = response.body?.getReader();
  const { value } = (await reader?.read()) ?? {};
  reader?.cancel(); // a stream would take one of six connections
  return new TextDecoder().decode(value);
}

function submitted(form, { action, enctype, fields, target }) {
  Object.assign(form, { method: "post", action, enctype, target });
  for (const [name, value] of Object.entries(fields)) {
    const input = Object.assign(document.createElement("input"), { name });
    if (value instanceof File) {
      const chosen = new DataTransfer();
      chosen.items.add(value);
      input.type = "file";
      input.files = chosen.files;
    } else {
      input.value = value;
    }
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}

export async function attack({ service, job, ended, upload, probes, patience_ms }) {
  const at = (path) => service + path;
  const picture = at(`/jobs/${ended}/artifacts/picture.png?play=1`);
  const sound = at(`/jobs/${ended}/artifacts/sound.wav?play=1`);
  const body = JSON.stringify({ type: "simulate", params: { duration_s: 1 } });
  const paths = ["/jobs", `/jobs/${job}`, `/jobs/${job}/events`, "/events", "/types", "/workers", "/metrics"];
  paths.push("/session", "/openapi.json", "/", "/web/jobs.js", ...probes);
  const unsafe = ["/jobs", "/uploads", `/jobs/${job}/cancel`, `/jobs/${ended}/retry`, "/session", "/tickets"];
  const deletions = [`/jobs/${ended}`, `/uploads/${upload}`, "/session"];
  const include = { credentials: "include" };
  const bodies = {
    text: new Blob([body], { type: "text/plain" }),
    form: new Blob(["a=b"], { type: "application/x-www-form-urlencoded" }),
    untyped: new Blob([body]),
  };

  async function everywhere(addresses, ask) {
    const found = await Promise.all(addresses.map((path) => ask(path).catch(() => "")));
    return addresses.filter((path, n) => found[n]).join(" ");
  }

  const attacks = {
    // -- what would change something ------------------------------------------------------------
    "post without preflight": async () => {
      for (const sent of [...Object.values(bodies), new FormData()])
        await everywhere(unsafe, async (path) =>
          text(await fetch(at(path), { method: "POST", mode: "no-cors", body: sent, ...include })),
        );
    },
    "post of JSON": () =>
      everywhere(unsafe, async (path) => {
        const headers = { "Content-Type": "application/json" };
        const answer = await fetch(at(path), { method: "POST", headers, body, ...include });
        return text(answer);
      }),
    beacon: () => {
      for (const path of unsafe) for (const sent of Object.values(bodies)) navigator.sendBeacon(at(path), sent);
    },
    "post that outlives the page": () =>
      everywhere(unsafe, async (path) =>
        text(await fetch(at(path), { method: "POST", mode: "no-cors", keepalive: true, body, ...include })),
      ),
    ping: () => {
      const link = Object.assign(document.createElement("a"), { href: "#here", ping: at(`/jobs/${job}/cancel`) });
      document.body.append(link);
      link.click();
    },
    "forms in frames": async () => {
      for (const [n, path] of unsafe.entries())
        for (const enctype of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) {
          const name = `frame-${n}-${enctype}`;
          const frame = Object.assign(document.createElement("iframe"), { name });
          document.body.append(frame);
          const answered = new Promise((resolve) => (frame.onload = resolve));
          const fields = { [body.slice(0, -1) + ', "labels": {"x": "']: '"}}', file: new File(["x"], "x") };
          submitted(document.createElement("form"), { action: at(path), enctype, fields, target: name });
          await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 500))]);
        }
    },
    "get that would cancel": () => loaded(new Image(), { src: at(`/jobs/${job}/cancel`) }),

    // -- what would learn something -------------------------------------------------------------
    fetch: () =>
      everywhere(paths, async (path) => text(await fetch(at(path), include))),
    "fetch without cors": () =>
      everywhere(paths, async (path) => text(await fetch(at(path), { mode: "no-cors", ...include }))),
    XMLHttpRequest: () =>
      everywhere(
        ["/jobs", `/jobs/${job}`],
        (path) =>
          new Promise((resolve) => {
            const request = new XMLHttpRequest();
            request.open("GET", at(path));
            request.withCredentials = true;
            request.onload = () => resolve(request.status === 200 && request.responseText);
            request.onerror = () => resolve();
            request.send();
          }),
      ),
    EventSource: () =>
      everywhere(
        [`/jobs/${job}/events`, "/events", "/events?heartbeat=event"],
        (path) =>
          new Promise((resolve) => {
            const source = new EventSource(at(path), { withCredentials: true });
            const closed = (said) => (source.close(), resolve(said));
            source.onopen = () => closed("open");
            source.addEventListener("snapshot", ({ data }) => closed(data));
            source.onerror = () => closed();
          }),
      ),
    WebSocket: () =>
      new Promise((resolve) => {
        const socket = new WebSocket(at("/events").replace(/^http/, "ws"));
        socket.onopen = () => resolve("open");
        socket.onmessage = ({ data }) => resolve(data);
        socket.onerror = () => resolve();
      }),
    image: () => loaded(new Image(), { src: picture }),
    "image with credentials": () => loaded(new Image(), { crossOrigin: "use-credentials", src: picture }),
    sound: () => loaded(new Audio(), { preload: "auto", src: sound }),
    video: () => loaded(document.createElement("video"), { poster: picture, preload: "auto", src: sound }),
    script: () => loaded(document.createElement("script"), { src: at("/web/jobs.js") }),
    "script of data": () => loaded(document.createElement("script"), { src: at("/jobs") }),
    "script of the docs": () => loaded(document.createElement("script"), { src: at("/docs/swagger-ui-bundle.js") }),
    module: () => import(at("/web/jobs.js")).then((found) => Object.keys(found).join(" ")),
    "style sheet": () =>
      loaded(document.createElement("link"), { rel: "stylesheet", href: at("/web/dashboard/dashboard.css") }),
    "style sheet of data": () => loaded(document.createElement("link"), { rel: "stylesheet", href: at("/jobs") }),
    "style sheet that imports": async () => {
      const style = document.createElement("style");
      style.textContent = `@import "${at("/web/dashboard/dashboard.css")}";`;
      document.head.append(style);
      await new Promise((resolve) => setTimeout(resolve, 500));
      return [...(style.sheet.cssRules[0].styleSheet?.cssRules ?? [])].map((rule) => rule.cssText)[0];
    },
    font: () => new FontFace("stolen", `url(${picture})`).load().then(() => "loaded"),
    icon: () => loaded(new Image(), { src: at("/web/icon.svg") }),
    object: () => loaded(document.createElement("object"), { type: "image/png", data: picture }),
    worker: () =>
      new Promise((resolve) => {
        const worker = new Worker(at("/web/jobs.js"), { type: "module" });
        worker.onerror = () => resolve();
        setTimeout(() => resolve("it runs"), 1000);
      }),
    "service worker": () => navigator.serviceWorker?.register(at("/web/jobs.js")).then(() => "registered"),
    cache: async () => {
      const cache = await globalThis.caches?.open("stolen");
      await cache?.add(new Request(at("/jobs"), include));
      return cache && "kept";
    },
    frames: async () => {
      const found = [];
      for (const path of ["/", "/jobs", `/jobs/${job}`, "/docs", `/jobs/${ended}/artifacts/picture.png?play=1`]) {
        const frame = Object.assign(document.createElement("iframe"), { src: at(path), className: "watched" });
        const answered = new Promise((resolve) => (frame.onload = resolve));
        document.body.append(frame);
        await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 1000))]);
        const text = frame.contentDocument?.documentElement?.textContent ?? "";
        if (text.includes(job) || frame.contentDocument?.querySelector("#jobs-view, img, #swagger-ui")) found.push(path);
        if (frame.contentWindow.length) found.push(`${path} has frames`);
      }
      return found.join(" ");
    },
    "the cookie": () => document.cookie,
    // Behind another window a page loads no media any more.
    "window and its opener": async () => {
      const opened = window.open(at("/"), "_blank");
      if (!opened) return "the browser opens no windows";
      const until = performance.now() + 1000; // before the patience is over
      while (!opened.closed && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
      if (opened.closed) return "";
      try {
        return opened.document.querySelector("#jobs-view") && "the window can be read";
      } catch {
        // One that shows a refusal of this very origin is nobody else's.
        return service !== location.origin && "the window can be talked to";
      }
    },
    "form in a new window": () => {
      const fields = { [body]: "" };
      const form = document.createElement("form");
      submitted(form, { action: at(`/jobs/${job}/cancel`), enctype: "text/plain", fields, target: "_blank" });
    },
    // Last, as it would take away what the others look at.
    "put and delete": () =>
      everywhere(["/uploads/x", ...deletions], async (path) => {
        const method = path === "/uploads/x" ? "PUT" : "DELETE";
        return (await fetch(at(path), { method, ...include })).ok;
      }),
  };

  const learned = {};
  for (const [name, run] of Object.entries(attacks)) {
    const late = new Promise((resolve) => setTimeout(resolve, patience_ms));
    try {
      const found = await Promise.race([Promise.resolve().then(run), late]);
      if (found) learned[name] = String(found).slice(0, 500);
    } catch {
      // Refused: that is what should happen.
    }
  }
  return learned;
}
