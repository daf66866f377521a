/** The client of a Headway service: types of `jobs.js`. */

import type { State, Links, Job, Unique, Group, EventData, JobEvent } from "./records.js";

export * from "./records.js";

/**
 * Whether the jobs that are held are current: `connecting` (nothing received yet), `live` (they are),
 * `reconnecting`, `stale` (the service is silent or behind), `gave-up` (until `again`), `closed` (not watching).
 */
export type Status = "connecting" | "live" | "reconnecting" | "stale" | "gave-up" | "closed";

type Listener<Target, Detail> =
  | ((this: Target, event: CustomEvent<Detail>) => unknown)
  | { handleEvent(event: CustomEvent<Detail>): unknown };

interface Emitter<Events> extends EventTarget {
  addEventListener<Name extends keyof Events & string>(
    type: Name,
    listener: Listener<this, Events[Name]> | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Name extends keyof Events & string>(
    type: Name,
    listener: Listener<this, Events[Name]> | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

interface Connection {
  readonly status: Status;
  /** When this status began, ms; for any but `live`, when the service was last heard. */
  readonly since: number;
  /** Try again, after the connection gave up. */
  again(): void;
}

interface FeedEvents {
  /** A job is new, changed, or gone (`job` is undefined). */
  change: { id: string; job: Job | undefined };
  event: JobEvent;
  /** Events were missed; the jobs are read again. */
  gap: null;
  status: null;
  problem: Error;
}

interface HandleEvents extends EventData {
  change: { job: Job | undefined };
  event: JobEvent;
  /** Events were missed; `state` is read again. */
  gap: null;
  status: null;
}

/** Many jobs, kept up to date. */
export interface JobFeed extends Emitter<FeedEvents>, Connection {
  readonly jobs: ReadonlyMap<string, Job>;
  start(): this;
  stop(): void;
  /** Add a document from elsewhere. */
  put(job: Job): void;
  /** Fetch a job and keep it. */
  want(id: string): void;
  /** Drop a job that has ended, so that a page that stays open does not grow. */
  forget(id: string): void;
}

/**
 * One job. It is watched from the first listener on, until its end or `close`. `end` is dispatched exactly once,
 * unless the handle was made from the document of an ended job; `done` and `state` work in any case.
 */
export interface JobHandle extends Emitter<HandleEvents>, Connection, AsyncIterable<JobEvent> {
  readonly id: string;
  /** The job as of its last event; undefined until it was first read. */
  readonly state: Job | undefined;
  /**
   * The job once it has ended, in whatever way. Rejects with a `Problem` if there is no such job, with an
   * AbortError after `close`.
   */
  readonly done: Promise<Job>;
  open(): void;
  close(): void;
  /** Request cancellation. The job may still end in another way. */
  cancel(): Promise<void>;
  /** Send a message to the job: any JSON up to 64 KiB. Rejects with a `Problem` (409) if the job has ended. */
  send(name: string, data?: unknown): Promise<void>;
  /** A new job with the same type and parameters. */
  retry(): Promise<JobHandle>;
}

/** What hooks and stores have beside their jobs. */
export interface Live {
  /** The jobs are current only while this is `live`, or once they have ended. */
  status: Status;
  /** Try again, after the connection gave up. */
  again(): void;
}

export interface LiveJob extends Live {
  /** Undefined until it was first read; null if there is no such job. */
  job: Job | null | undefined;
}

export interface LiveJobs extends Live {
  /** Those that were read so far. */
  jobs: Job[];
}

export interface LiveGroup extends LiveJobs {
  /** How far all of them are. Undefined until it was first read; null while there is no such group. */
  group: Group | null | undefined;
}

/** The service refused a request, or could not be reached (problem+json, RFC 9457). */
export class Problem extends Error {
  name: "Problem";
  /** 0 if there was no answer from the service. */
  readonly status: number;
  readonly type: string;
  readonly title: string;
  /** What is invalid, by JSON pointer. */
  readonly errors: { pointer: string; detail: string }[];
  /** When to try again, if the answer said so. */
  readonly retryAfterMs: number | null;
}

/**
 * A token or a ticket, or what is asked for one: at first, and again with the one that the service has refused (401).
 */
export type Credential = string | ((refused?: string) => string | Promise<string>);

export interface HeadwayOptions {
  /** The address of the service, with its path if it has one; default: the root of the page's origin. */
  base?: string | URL;
  /** Sent as a bearer token, never in an address. */
  token?: Credential | null;
  /** Sent in the address, to read what it is for. A URL answers with JSON that has a new `ticket`. */
  ticket?: Credential | URL | null;
  /**
   * Whether all tabs share one connection; default: true. Tabs share it if they have the same token or ticket; with
   * functions and URLs only if they name the same caller here, by any string.
   */
  share?: boolean | string;
  /** Consecutive failures until a stream gives up; default: 30. */
  attempts?: number;
  /** Whether a reload of the page continues after its last event; default: false. */
  remember?: boolean;
}

/** What a job may be asked for with, beside its type and parameters. */
export interface JobOptions {
  group?: string;
  labels?: Record<string, string>;
  max_attempts?: number;
  timeout_s?: number;
  /** Where the service sends the job's end, or the events named. */
  webhook?: WebhookTarget;
  /** Beside the other jobs of its group; default: 1. */
  size?: number;
  /** 0 to 9: which of the owner's jobs is next, 9 before 0; default: 4. */
  priority?: number;
  /** When it may begin at the earliest (RFC 3339), at most a year ahead. */
  run_at?: string | Date;
  /** It fails unless it begins within so many seconds of `run_at`, or of now. */
  expires_s?: number;
  /** As long as another of the owner's jobs holds this key, that job is the answer, and none is made. */
  unique?: Partial<Unique> & Pick<Unique, "key">;
}

export interface WebhookTarget {
  url: string;
  events?: ("state" | "artifact" | "end")[];
}

export interface SubmitOptions extends JobOptions {
  /** Submissions with the same key and body make one job; default: a new key. */
  idempotencyKey?: string;
  signal?: AbortSignal;
  /** How much of a file among the parameters has been sent, 0…1. After a break it goes on at what has arrived. */
  onUpload?(fraction: number, file: Blob): void;
}

/** One job of `submitMany`. */
export interface Submission extends JobOptions {
  type: string;
  params?: Record<string, unknown>;
}

/** A job that `submitMany` made. */
export interface Submitted {
  id: string;
  /** False: another job holds its unique key, and this is that one. */
  created: boolean;
  links: Links;
}

/** Which jobs: those that match all that is given. */
export interface JobFilter {
  state?: State;
  type?: string;
  group?: string;
  labels?: Record<string, string>;
  /** Made at least so many seconds ago. */
  older_s?: number;
}

/** Something must be given: `{older_s: 0}` alone is all jobs. */
export interface Selection extends JobFilter {
  /** Only count them: `matched` of the result. */
  dry_run?: boolean;
}

export interface Counts {
  states: Record<State, number>;
  types: Record<string, Record<State, number>>;
}

export interface Upload {
  id: string;
  name: string;
  size: number;
  media_type: string;
}

export interface JobType {
  name: string;
  title: string;
  queue: string;
  /** The JSON Schema of its parameters. */
  params: Record<string, unknown>;
  /** Whether a worker that serves it is alive. */
  alive: boolean;
}

/** All promises reject with a `Problem`, or with their signal's reason. */
export class Headway {
  constructor(options?: HeadwayOptions);
  /**
   * Submit a job. A File or Blob among the parameters is uploaded first. If the answer is lost, the
   * submission is repeated with the same key.
   */
  submit(type: string, params: Record<string, unknown>, options?: SubmitOptions): Promise<Job>;
  /** Submit many jobs, up to 1,000 and 2 MB per request. Those of one request are all made, or none of them. */
  submitMany(
    jobs: Iterable<Submission>,
    options?: { idempotencyKey?: string; signal?: AbortSignal },
  ): Promise<Submitted[]>;
  /**
   * Upload a file. Jobs take it as the input `upload:<id>`. What breaks off goes on where it was, for as long as five
   * minutes without a byte; after that, and after a reload of the page, when it is called with the same file again.
   */
  upload(
    file: Blob,
    options?: { onProgress?(fraction: number): void; signal?: AbortSignal },
  ): Promise<Upload>;
  job(job: string | Job): JobHandle;
  /** Watch these jobs, those of a group, or (by default) all of the caller's, until `stop`. */
  watch(of?: { jobs?: Iterable<string>; group?: string }): JobFeed;
  get(id: string): Promise<Job>;
  /** Jobs, newest first. */
  list(query?: JobFilter & { limit?: number; cursor?: string | null }): Promise<{ items: Job[]; next: string | null }>;
  /** How many jobs are in which state: all, and those of each type. */
  counts(): Promise<Counts>;
  types(): Promise<JobType[]>;
  cancel(id: string): Promise<Job>;
  retry(id: string): Promise<Job>;
  /**
   * Cancel all live jobs that match; retry all failed and canceled ones, or those of a `state`; delete all ended ones.
   * Each is a job itself, which is the answer; its result is `{matched, done, skipped, dry_run}`.
   */
  cancelMany(which: Selection, options?: { idempotencyKey?: string; signal?: AbortSignal }): Promise<Job>;
  retryMany(which: Selection, options?: { idempotencyKey?: string; signal?: AbortSignal }): Promise<Job>;
  deleteMany(which: Selection, options?: { idempotencyKey?: string; signal?: AbortSignal }): Promise<Job>;
  group(name: string): Promise<Group>;
  /** Say how many jobs a group will have (it ends when so many have ended), and what it is called. */
  putGroup(name: string, settings: { expected?: number | null; title?: string | null }): Promise<Group>;
  /** Request cancellation of all live jobs of a group. */
  cancelGroup(name: string): Promise<Group>;
  /** Submit all failed and canceled jobs of a group again; each new job takes the old one's place. */
  retryGroup(name: string): Promise<Group>;
  /** Send a message to a job. If the answer is lost, it is repeated with the same key. */
  send(
    id: string,
    name: string,
    data?: unknown,
    options?: { idempotencyKey?: string; signal?: AbortSignal },
  ): Promise<Extract<JobEvent, { event: "message" }>>;
}

/** A random key for one submission. */
export function newKey(): string;
