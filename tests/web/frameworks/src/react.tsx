// The component of docs/frontends.md, and the other hooks and the element beside it. `show` says what is mounted.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import "headway-progress/element";
import { useGroup, useJobs } from "headway-progress/react";

import { Bar } from "./Bar";
import { headway } from "./headway";

interface Shown {
  bars?: (string | null)[];
  ids?: string[];
  group?: string;
  element?: string;
}

const states = (jobs: { state: string }[]) => jobs.map(({ state }) => state).join(" ");

function List({ ids }: { ids: string[] }) {
  const { jobs, status, again } = useJobs(headway, ids);
  (window as any).seen?.push(jobs.length);
  return <p id="list" title={status} onClick={again}>{states(jobs)}</p>;
}

function Group({ group }: { group: string }) {
  const { group: whole, jobs } = useGroup(headway, group);
  return <p id="group">{states(jobs)} {whole ? `${whole.state} ${whole.fraction}` : String(whole)}</p>;
}

function App() {
  const [{ bars = [], ids, group, element }, show] = useState<Shown>({});
  (window as any).show = show;
  return (
    <>
      {bars.map((id, at) => <Bar key={at} id={id} />)}
      {ids && <List ids={ids} />}
      {group && <Group group={group} />}
      {element && <job-progress readonly log={false} job={element} client={headway} onchange={({ detail }) => {
        (window as any).changed = detail.job?.state;
      }} />}
    </>
  );
}

createRoot(document.getElementById("app")!).render(<StrictMode><App /></StrictMode>);
