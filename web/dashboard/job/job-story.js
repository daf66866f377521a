/**
 * What a job's events amount to: its attempts with their stages, what happened when, and its rate over time.
 * Events in, values out; nothing is loaded or drawn here.
 */

/**
 * @typedef {import("../../jobs.js").JobEvent} JobEvent
 * @typedef {{name: string, index: number, count: number, from: number, to: number | null,
 *   fraction: number | null}} StageSpan from and to in ms since the epoch
 * @typedef {{number: number, from: number, to: number | null, outcome: string, reason: string,
 *   fraction: number | null, stages: StageSpan[]}} Attempt outcome: a job's state, or "released", "given up"
 * @typedef {{at: number, kind: string, text: string, reason: string, count: number}} Milestone
 * @typedef {{at: number, attempt: number, rate: number | null, unit: string | null, fps: number | null}} Sample
 */

/** More points than this cannot be seen: beyond it, every other one is dropped. */
const MAX_SAMPLES = 2000;
/** Beyond this, milestones in the middle are dropped, not the first or the last. */
const MAX_MILESTONES = 300;
/** The same for attempts, and for the stages of one. */
const MAX_OF_EACH = 200;

export class JobStory {
  /** @type {Attempt[]} */
  attempts = [];
  /** @type {Milestone[]} */
  milestones = [];
  /** @type {Sample[]} */
  samples = [];
  /** Whether it starts at the beginning; the store keeps a limited number of events per job. */
  whole = true;
  #begun = false;
  #waits = false;

  /** @param {JobEvent} event the next one of the job */
  receive({ event, data }) {
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
      const waited = this.#waits && this.attempt?.number === attempt;
      this.#waits = state === "waiting" || (waited && state === "queued");
      if (this.#waits || waited) {
        // The same attempt goes on, if nothing else comes in between.
        if (state === "retrying") this.#finish(time, state, reason);
        this.#mark(time, state, state === "running" ? `attempt ${attempt} goes on` : state, reason);
        return;
      }
      const again = state === "running" && this.attempt?.number === attempt && this.attempt?.to === null;
      if (again) {
        // A second `running` in the same attempt means that cancellation was requested.
        this.#mark(time, "canceling", "cancellation requested", reason);
        return;
      }
      if (state === "running") this.#begin(attempt, time);
      else this.#finish(time, state === "queued" ? "released" : state, reason);
      this.#mark(time, state, state === "running" ? `attempt ${attempt} started` : state, reason);
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
      // The hundreds of segments of a video are one milestone.
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
 * Drop one if there are too many.
 * @param {unknown[]} list
 * @param {number} most
 */
function thin(list, most) {
  if (list.length > most) list.splice(most / 2, 1);
}
