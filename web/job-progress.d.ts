/** `<job-progress>`: types of `job-progress.js`. */

import type { Headway, HeadwayOptions, Job } from "./jobs.js";

/** The part of `Headway` that the element needs. */
export interface Client extends Pick<Headway, "submit" | "watch" | "get" | "list" | "cancel"> {}

export const Client: new (options?: Omit<HeadwayOptions, "remember">) => Client;

/** What may be written in a page. `job`, `jobs` or `group` select what it shows. */
export interface JobProgressAttributes {
  job?: string;
  /** Ids, with spaces between. */
  jobs?: string;
  group?: string;
  /** The address of the service. */
  base?: string;
  token?: string;
  ticket?: string;
  /** An address that answers with a ticket. */
  "ticket-url"?: string;
  /** Show the log. */
  log?: boolean;
  /** No cancel button. */
  readonly?: boolean;
}

export interface JobProgressEvents {
  /** A job has changed, or is gone (`job` is undefined). */
  change: CustomEvent<{ id: string; job: Job | undefined }>;
  /** A cancellation was refused. */
  problem: CustomEvent<Error>;
}

export class JobProgress extends HTMLElement {
  /** The client to use; set it before the element is in the page. */
  client: Client | undefined;
  addEventListener<Name extends keyof JobProgressEvents>(
    type: Name,
    listener: (this: JobProgress, event: JobProgressEvents[Name]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "job-progress": JobProgress;
  }
}
