// The component of docs/frontends.md and the element, as a server renders them and a browser takes them over.
import { StrictMode } from "react";

import { Bar } from "./Bar";
import { headway } from "./headway";

export const Rendered = ({ job }: { job: any }) => (
  <StrictMode>
    <Bar id={job} />
    {/* React sets no properties of an element that it takes over, such as `client`. */}
    <job-progress readonly log={false} job={job.id} base={(headway as any).url("/").href} ticket-url="/ticket" />
  </StrictMode>
);
