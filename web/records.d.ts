/** What the service says of jobs: its documents and events. */

export type State = "queued" | "running" | "retrying" | "waiting" | "succeeded" | "failed" | "canceled";
export type ErrorCode = "error" | "timeout" | "worker_lost" | "canceled" | "invalid_input" | "no_space";

export interface Stage {
  name: string;
  /** From 1. */
  index: number;
  count: number;
  fraction?: number | null;
}

export interface Progress {
  /** 0…1; null while the total is unknown. 1 only when the job has succeeded. */
  fraction?: number | null;
  current?: number | null;
  total?: number | null;
  unit?: string | null;
  message?: string | null;
  stage?: Stage | null;
  /** Units per second. */
  rate?: number | null;
  /** Estimated seconds left; absent while there is no estimate. */
  eta_s?: number | null;
  data?: Record<string, unknown>;
}

export interface Artifact {
  name: string;
  media_type: string;
  /** Bytes. */
  size: number;
  url: string;
  /** The attempt that made it. */
  attempt: number;
}

export interface JobError {
  code: ErrorCode;
  message: string;
}

export interface Links {
  self: string;
  events: string;
}

/** A job as `GET /jobs/{id}` returns it. Times are RFC 3339 in UTC. */
export interface Job {
  id: string;
  type: string;
  state: State;
  owner: string;
  group: string | null;
  labels: Record<string, string>;
  params: Record<string, unknown>;
  attempt: number;
  max_attempts: number;
  timeout_s: number | null;
  progress: Progress | null;
  result: unknown;
  error: JobError | null;
  artifacts: Artifact[];
  cancel_requested: boolean;
  retry_of: string | null;
  /** Beside the other jobs of its group; null: it is older than sizes, and counts as 1. */
  size: number | null;
  /** The job whose task submitted it. */
  parent: string | null;
  /** 0 to 9: which of its owner's jobs is next. */
  priority: number | null;
  run_at: string | null;
  expires_at: string | null;
  unique: Unique | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  updated_at: string;
  last_event_id: string;
  links: Links;
  /** How many of the jobs that its task submitted are in which state; only in answers to requests, not in events. */
  children?: { counts: Record<State, number> } | null;
  /** Why a job that is queued, retrying or waiting does not run; only in answers to requests, not in events. */
  waiting_reason?: string | null;
}

/** The key of which an owner has one job: while it is live, or only while it is queued. */
export interface Unique {
  key: string;
  while: "queued" | "live";
}

interface Origin {
  job: string;
  attempt: number;
  at: string;
}

/** A group of jobs. */
export interface Group {
  group: string;
  title: string | null;
  counts: Record<State, number>;
  /** How many jobs it will have; null: nobody has said, and it does not end. */
  expected: number | null;
  /** How much of all its jobs is done, each by its size. */
  fraction: number | null;
  /** Sizes per second. */
  rate: number | null;
  eta_s: number | null;
  started_at: string | null;
  ended_at: string | null;
  state: "queued" | "running" | "ended";
}

/** What the task has to say, or somebody else to the task. */
export type Message = Origin & { from: "task" | "client"; name: string; data: unknown };

/** The data of events, by type. */
export interface EventData {
  snapshot: Job;
  state: Origin & { state: State; reason?: string };
  progress: Origin & Progress;
  log: Origin & { level: string; message: string };
  message: Message;
  /** On the feed of a group only. */
  group: Group;
  "group-end": Group;
  artifact: Origin & Artifact;
  end: Job;
  reset: { reason: string; job?: Job; jobs?: Job[] };
}

export type JobEvent = {
  [Name in keyof EventData]: { id: string; event: Name; data: EventData[Name] };
}[keyof EventData];
