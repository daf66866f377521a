/* Shows bars, and notes what a person would see of each: five times a second, of what is painted. */
const [bars, alone, done] = arguments;
const EVERY_MS = 200;
/** Timers that were late by more: the page stood still. */
const STILL_MS = 1500;
/** The page looks whether it is out of date once a second. */
const WAKING_MS = 1500;

document.body.textContent = "";
document.body.style.background = "white";
window.shown = [];
window.errors = [];
addEventListener("error", ({ message, error }) => errors.push(`${message} ${error?.stack}`));
addEventListener("unhandledrejection", ({ reason }) => errors.push(`${reason} ${reason?.stack}`));

function sample(elements) {
  const now = Date.now();
  const still = now - window.sampledAt > STILL_MS;
  if (still) window.wokeAt = now;
  const awake = now - window.wokeAt > WAKING_MS;
  window.sampledAt = now;
  elements.forEach((element, n) => {
    for (const row of element.shadowRoot.querySelectorAll("[part~=job]")) {
      const part = (name) => row.querySelector(`[part~=${name}]`);
      const job = element.getAttribute("job") ?? part("name").textContent;
      const percent = part("bar").getAttribute("aria-valuenow");
      const attempt = /attempt (\d+)/.exec(part("state").textContent)?.[1] ?? "1";
      const look = [row.classList[1], Number(attempt), percent === null ? null : Number(percent)];
      const showing = { bar: n, job, look, fresh: !row.classList.contains("stale"), awake };
      const key = JSON.stringify(showing);
      const before = window.latest[`${n} ${job}`];
      if (before?.key === key && !still) {
        before.until = now;
        before.samples += 1;
      } else {
        window.shown.push((window.latest[`${n} ${job}`] = { ...showing, key, since: now, until: now, samples: 1 }));
      }
    }
  });
}

window.latest = {};
window.sampledAt = Date.now();
window.wokeAt = 0;
Promise.all([import("/web/job-progress.js"), import("/web/jobs.js")]).then(([, { Headway }]) => {
  const client = new Headway({ share: !alone });
  window.stream = client.stream();
  const elements = bars.map((attributes) => {
    const element = document.createElement("job-progress");
    element.client = client;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  });
  document.body.append(...elements);
  setInterval(() => requestAnimationFrame(() => sample(elements)), EVERY_MS);
  done();
});
