/**
 * What a job's events tell: its attempts with their stages, what happened when, and its pace over time.
 * Events in, values out; nothing is read or drawn here.
 */

/**
 * @typedef {import("../../jobs.js").JobEvent} JobEvent
 * @typedef {{name: string, index: number, count: number, from: number, to: number | null,
 *   fraction: number | null}} StageSpan from and to in ms since the epoch
 * @typedef {{number: number, from: number, to: number | null, outcome: string, reason: string,
 *   fraction: number | null, stages: StageSpan[]}} Attempt outcome: a job's state, or "handed back"
 * @typedef {{at: number, kind: string, text: string, reason: string, count: number}} Milestone
 * @typedef {{at: number, attempt: number, rate: number | null, unit: string | null, fps: number | null}} Sample
 */

/** More points than this nobody sees: of older ones every second goes. */
const MAX_SAMPLES = 2000;
/** The beginning is worth as much as the end: what is left out is in the middle. */
const MAX_MILESTONES = 300;
/** Of an attempt's stages, and of attempts. */
const MAX_OF_EACH = 200;

export class JobStory {
  /** @type {Attempt[]} */
  attempts = [];
  /** @type {Milestone[]} */
  milestones = [];
  /** @type {Sample[]} */
  samples = [];
  /** Whether it is told from the beginning; the store keeps only so many events of a job. */
  whole = true;
  #begun = false;

  /** @param {JobEvent} event the next one of the job */
  take({ event, data }) {
    if (!this.#begun) {
      this.#begun = true;
      this.whole = event === "state" && data.state === "queued" && data.attempt === 0;
    }
    this.#events[event]?.(data);
  }

  get attempt() {
    return this.attempts.at(-1);
  }

  /** @type {Record<string, (data: any) => void>} */
  #events = {
    state: ({ state, attempt, at, reason = "" }) => {
      const time = Date.parse(at);
      const again = state === "running" && this.attempt?.number === attempt && this.attempt.to === null;
      if (again) {
        // One that runs and is told once more that it runs was asked to stop.
        this.#mark(time, "canceling", "asked to stop", reason);
        return;
      }
      if (state === "running") this.#begin(attempt, time);
      else this.#finish(time, state === "queued" ? "handed back" : state, reason);
      this.#mark(time, state, state === "running" ? `attempt ${attempt} runs` : state, reason);
    },
    progress: ({ attempt, at, fraction, stage, rate, unit, data }) => {
      const time = Date.parse(at);
      if (this.attempt?.number !== attempt) this.#begin(attempt, time);
      const held = /** @type {Attempt} */ (this.attempt);
      held.fraction = fraction ?? null;
      if (stage) this.#enter(held, stage, time);
      const fps = typeof data?.fps === "number" ? data.fps : null;
      if (typeof rate !== "number" && fps === null) return;
      this.samples.push({ at: time, attempt, rate: rate ?? null, unit: unit ?? null, fps });
      if (this.samples.length > MAX_SAMPLES) this.samples = this.samples.filter((_, i) => i % 2 === 1);
    },
    artifact: ({ at, name }) => {
      const last = this.milestones.at(-1);
      // The hundreds of segments of a film are one thing that happened.
      if (last?.kind === "artifact") Object.assign(last, { text: name, count: last.count + 1 });
      else this.#mark(Date.parse(at), "artifact", name);
    },
    end: ({ state, error, finished_at: at }) => {
      const time = Date.parse(at);
      this.#finish(time, state, error?.message ?? "");
      this.#mark(time, state, state, error ? `${error.code}: ${error.message}` : "");
    },
  };

  /**
   * @param {number} number
   * @param {number} from
   */
  #begin(number, from) {
    this.#finish(from, "given up", "");
    this.attempts.push({ number, from, to: null, outcome: "running", reason: "", fraction: null, stages: [] });
    thin(this.attempts, MAX_OF_EACH);
  }

  /**
   * @param {number} to
   * @param {string} outcome
   * @param {string} reason
   */
  #finish(to, outcome, reason) {
    const held = this.attempt;
    if (!held || held.to !== null) return;
    Object.assign(held, { to, outcome, reason });
    const stage = held.stages.at(-1);
    if (stage) Object.assign(stage, { to, ...(outcome === "succeeded" && { fraction: 1 }) });
  }

  /**
   * @param {Attempt} attempt
   * @param {import("../../jobs.js").Stage} stage
   * @param {number} time
   */
  #enter(attempt, { name, index, count, fraction = null }, time) {
    const last = attempt.stages.at(-1);
    if (last?.name === name && last.index === index) {
      Object.assign(last, { fraction, count });
      return;
    }
    if (last) Object.assign(last, { to: time, fraction: 1 });
    attempt.stages.push({ name, index, count, from: time, to: null, fraction });
    thin(attempt.stages, MAX_OF_EACH);
    this.#mark(time, "stage", name);
  }

  /**
   * @param {number} at
   * @param {string} kind
   * @param {string} text
   */
  #mark(at, kind, text, reason = "") {
    this.milestones.push({ at, kind, text, reason, count: 1 });
    thin(this.milestones, MAX_MILESTONES);
  }
}

/**
 * Leave one out if there are too many.
 * @param {unknown[]} list
 * @param {number} most
 */
function thin(list, most) {
  if (list.length > most) list.splice(most / 2, 1);
}
