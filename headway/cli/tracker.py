"""JobTracker: the jobs that are watched, as the events left them."""

from __future__ import annotations

from collections.abc import Iterable

from headway.client import Client, Event, Job, NotFound, newer, reduce

EXIT = {"succeeded": 0, "failed": 1, "canceled": 3}


class JobTracker:
    """Holds the document of each job; fetches it for a job that is known from an event only."""

    def __init__(self, client: Client) -> None:
        self.jobs: dict[str, Job] = {}
        self.why: dict[str, str] = {}
        """By job id: why it does not run, or not any more, if its last answer or event said so."""
        self._client = client

    def learn(self, job_ids: Iterable[str]) -> None:
        """Fetch the documents of the jobs. Raises ClientError."""
        for job in self._client.find(job_ids):
            job_id = job["id"]
            # Removed, as it describes this moment and no event would update it.
            waits_for = job.pop("waiting_reason", None)
            reasons = [waits_for] if waits_for else []
            if job["state"] == "retrying":
                states = [event for event in self._client.events(job_id) if event.event == "state"]
                reasons = [*(event.data.get("reason") for event in states[-1:]), *reasons]
            self.why[job_id] = "; ".join(filter(None, reasons))
            self.jobs[job_id] = newer(self.jobs.get(job_id), job)

    def happened(self, event: Event) -> list[Job]:
        """Apply an event. Returns the jobs that it changed."""
        if event.event == "reset" and "jobs" in event.data:
            for job in event.data["jobs"]:
                self.jobs[job["id"]] = job
            return list(event.data["jobs"])
        job_id = event.job_id
        if job_id is None:
            return []
        if job_id not in self.jobs and event.event not in ("snapshot", "end", "reset"):
            try:
                self.learn([job_id])
            except NotFound:
                return []
        before = self.jobs.get(job_id)
        after = reduce(before, event)
        if after is None:
            return []
        if event.event == "state" and after is not before:
            self.why[job_id] = event.data.get("reason") or ""
        self.jobs[job_id] = after
        return [after] if after is not before else []

    def status(self) -> int:
        """Return the exit status of the worst outcome, failed before canceled."""
        states = {job["state"] for job in self.jobs.values()}
        return next((EXIT[state] for state in ("failed", "canceled") if state in states), 0)
