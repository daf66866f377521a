"""`python -m tests.faults.mutations [NAME…]`: takes away each protection, in a copy, and sees a test fail.

First the tests that are named here run on a copy as it is, and must pass: otherwise a failure says nothing.
Exit status 1 if they do not, or if a protection can be broken without any of its tests noticing.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support import processes
from tests.support.checkout import ROOT

COPIED = ["headway", "service", "worker", "tests", "web", "pyproject.toml"]
LIMIT_S = 900
"""Of pytest over what one break concerns, or all of them: beyond it something hangs."""
STORE = "tests/integration/test_store.py"
OWNERS = "tests/integration/test_owners_share.py"
RUNTIME = "tests/integration/test_worker_runtime.py"
ENGINE = "tests/unit/test_engine.py::test_every_reader_gets_what_the_store_has_after_its_cursor_or_a_reset"
MESSAGES = "tests/integration/test_messages.py"
GROUPS = "tests/integration/test_groups.py"
CHILDREN = "tests/integration/test_children.py"
NEXT = "tests/integration/test_which_job_next.py"
MACHINE = "tests/faults/test_store_machine.py::test_the_store_does_what_the_model_does"


@dataclass(frozen=True, slots=True)
class Break:
    """A protection, the edit that takes it away (`old` occurs once), and the tests that must notice: each
    of them fails."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


BREAKS = (
    Break(
        "fence",
        "headway/contract/lua/append.lua",
        "if not job or job.state ~= 'running' or job.fence ~= ARGV[5] then",
        "if not job or job.state ~= 'running' then",
        (f"{STORE}::test_a_write_with_an_old_fence_is_refused_and_changes_nothing", MACHINE),
    ),
    Break(
        "turns",
        "headway/contract/lua/line.lua",
        "    local place, newest = next_place(unpack(tags, 1, 3))\n",
        "    local place, newest = n * TURN, 0\n",
        (
            f"{OWNERS}::test_the_first_job_of_an_owner_does_not_wait_behind_all_those_of_another",
            f"{OWNERS}::test_a_worker_gives_each_owner_its_turn",
        ),
    ),
    Break(
        "turns of groups",
        "headway/contract/lua/line.lua",
        "(class < 0 and class * CLASS + n or group_place(class))",
        "(class * CLASS + n)",
        (
            f"{NEXT}::test_the_groups_of_an_owner_take_turns_and_each_has_its_jobs_in_their_order",
            f"{NEXT}::test_a_group_that_comes_later_does_not_wait_behind_all_of_another_nor_go_before_it",
        ),
    ),
    Break(
        "seal",
        "headway/contract/lua/append.lua",
        "if not job or job.state ~= 'running' or job.fence ~= ARGV[5] then",
        "if not job or job.fence ~= ARGV[5] then",
        (f"{STORE}::test_nothing_comes_after_the_end", MACHINE),
    ),
    Break(
        "alarm",
        "headway/contract/lua/creation.lua",
        "  look_at({expires = expires}, look)\n",
        "",
        (f"{STORE}::test_a_new_job_is_queued_and_has_its_first_event_and_an_alarm", MACHINE),
    ),
    Break(
        "a message comes once",
        "headway/contract/lua/message.lua",
        "  if hash then\n",
        "  if false then\n",
        (f"{MESSAGES}::test_the_same_key_sends_one_message", MACHINE),
    ),
    Break(
        "no message after the end",
        "headway/contract/lua/message.lua",
        "if ended(job) then return {'ended'} end",
        "",
        (f"{MESSAGES}::test_an_ended_job_gets_no_message_and_repeats_what_it_answered", MACHINE),
    ),
    Break(
        "what a checkpoint knows is not read again",
        "headway/contract/lua/reports.lua",
        "      redis.call('XDEL', UNREAD, value)\n",
        "",
        (
            f"{MESSAGES}::test_the_next_attempt_begins_with_the_messages_after_the_last_checkpoint",
            MACHINE,
        ),
    ),
    Break(
        "a group ends",
        "headway/contract/lua/prelude.lua",
        "  for _, group in ipairs(GROUPS) do settle_group(group) end\n",
        "",
        (f"{GROUPS}::test_a_group_ends_once_when_all_that_are_expected_have_ended", MACHINE),
    ),
    Break(
        "a group ends once",
        "headway/contract/lua/tally.lua",
        "  if whole and not ended_at then\n",
        "  if whole then\n",
        (f"{GROUPS}::test_a_group_ends_once_when_all_that_are_expected_have_ended",),
    ),
    Break(
        "a group counts in the same write",
        "headway/contract/lua/prelude.lua",
        "  recount(job.state, state)\n",
        "",
        (f"{GROUPS}::test_a_group_counts_its_jobs_by_state_in_the_same_write", MACHINE),
    ),
    Break(
        "a retry takes its job's place",
        "headway/contract/lua/creation.lua",
        "    if old and i == 1 then replace(key_of(old)) end\n",
        "",
        (f"{GROUPS}::test_a_retry_takes_the_place_of_its_job_in_the_group", MACHINE),
    ),
    Break(
        "a reader of a group is told how it is",
        "service/streaming/catchup.py",
        "            latest.append(page.group)\n",
        "            pass\n",
        (f"{GROUPS}::test_a_reader_that_catches_up_is_told_how_the_group_is",),
    ),
    Break(
        "a parent is woken by its last child",
        "headway/contract/lua/prelude.lua",
        "      redis.call('ZADD', ALARMS, int(now()), parent)\n",
        "",
        (f"{CHILDREN}::test_a_parent_and_its_children_need_one_place",),
    ),
    Break(
        "children do not outlive their parent",
        "headway/contract/lua/prelude.lua",
        "    redis.call('ZADD', ORPHANS, int(ms), JOB_ID)\n",
        "",
        (f"{CHILDREN}::test_a_cancellation_reaches_the_children_and_theirs",),
    ),
    Break(
        "a wait counts no attempt",
        "headway/contract/lua/prelude.lua",
        "  if job.continues then\n",
        "  if false then\n",
        (f"{CHILDREN}::test_a_parent_and_its_children_need_one_place", MACHINE),
    ),
    Break(
        "a message wakes who waits for it",
        "headway/contract/lua/message.lua",
        "if job.state == 'waiting' then look_whether_it_waits(job) end\n",
        "",
        (f"{CHILDREN}::test_a_question_is_answered_while_the_place_is_free", MACHINE),
    ),
    Break(
        "gap check",
        "service/streaming/topic.py",
        "return self.last is not None and message.prev > self.last",
        "return False",
        (
            "tests/integration/test_sockets.py::"
            "test_a_gap_in_what_is_published_sends_the_readers_to_the_store",
            ENGINE,
        ),
    ),
    Break(
        "a page is for the reader as it was asked for",
        "service/streaming/sockets.py",
        "            if reader.moves != moves:\n                return",
        "            if reader.place is Place.GONE:\n                return",
        (ENGINE,),
    ),
    Break(
        "only the last SSUBSCRIBE's confirmation counts",
        "service/streaming/link.py",
        "self._unconfirmed.pop(name, 1) - 1",
        "0",
        ("tests/unit/test_hub.py::test_an_older_confirmation_does_not_make_a_new_topic_ready",),
    ),
    Break(
        "ids that were lost are not handed out again",
        "headway/contract/lua/clock.lua",
        "elseif held[3] and lineage ~= held[3] then",
        "elseif false then",
        (
            "tests/integration/test_lost_writes.py::"
            "test_what_a_lost_primary_handed_out_is_ahead_for_ever_and_no_id_of_it_comes_again",
        ),
    ),
    Break(
        "a repeated submission waits for its replicas too",
        "headway/contract/database.py",
        'then = [("SET", ready, "", "PX", READY_MS), ("WAIT", replicas, REPLICAS_MS)]',
        'then = [("WAIT", replicas, REPLICAS_MS)]',
        (
            "tests/integration/test_lost_writes.py::"
            "test_a_job_is_accepted_when_as_many_replicas_have_it_as_it_needs",
        ),
    ),
    Break(
        "what was trimmed is not taken for progress that was not kept",
        "headway/contract/lua/prelude.lua",
        "    before = before or fields[4]\n",
        "    before = before or '0-0'\n",
        (f"{STORE}::test_what_was_trimmed_is_not_taken_for_progress_that_was_not_kept",),
    ),
    Break(
        "what a feed's state has is not told again",
        "service/streaming/catchup.py",
        "event.id > told.get(event.job, ZERO)",
        "True",
        (
            "tests/unit/test_catchup.py::"
            "test_a_feeds_state_that_is_read_over_a_while_misses_nothing_and_repeats_nothing",
        ),
    ),
    Break(
        "what a former primary said is not gone on from",
        "service/streaming/link.py",
        "if topic.forks_before(message):",
        "if False:",
        (
            "tests/unit/test_hub.py::"
            "test_readers_who_were_caught_up_by_a_former_primary_are_read_for_again_at_the_new_one",
        ),
    ),
    Break(
        "a feed's reader stands at the clock",
        "service/streaming/catchup.py",
        "return Page(page.clock, events=events, lasts=(page.last,))",
        "return Page(max(cursor, page.last), events=events, lasts=(page.last,))",
        ("tests/unit/test_catchup.py::test_a_reader_that_has_caught_up_on_a_feed_stands_at_the_clock",),
    ),
    Break(
        "a list knows what it has heard of each job",
        "service/streaming/reader.py",
        "self._seen = tuple(map(max, self.seen, lasts))",
        "self._seen = None",
        (
            "tests/unit/test_sockets.py::test_a_list_that_another_job_led_past_a_lost_event_is_reset[audit]",
            ENGINE,
        ),
    ),
    Break(
        "a list is told what it has missed",
        "service/streaming/sockets.py",
        "if reader.has_missed(page.befores):",
        "if False:",
        (
            "tests/unit/test_sockets.py::test_a_list_that_another_job_led_past_a_lost_event_is_reset[gap]",
            ENGINE,
        ),
    ),
    Break(
        "lease renewal",
        "headway/sdk/lease.py",
        "if self._store.renew(self._claim, lease_s=self._lease_s):",
        "if self._claim.job.cancel_requested:",
        (f"{RUNTIME}::test_the_lease_is_kept_while_the_task_says_nothing",),
    ),
    Break(
        "atomic rename",
        "headway/contract/local_files.py",
        "            os.replace(path, target)  # noqa: PTH105\n",
        "            shutil.copy(path, target)\n            path.unlink()\n",
        (f"{RUNTIME}::test_a_published_file_is_moved_in_one_step_and_belongs_to_its_attempt",),
    ),
    Break(
        "idempotency",
        "headway/contract/lua/create.lua",
        "  if before then\n",
        "  if false then\n",
        (f"{STORE}::test_one_idempotency_key_makes_one_job_however_many_ask_at_once", MACHINE),
    ),
    Break(
        "process-group kill",
        "headway/sdk/subprocesses.py",
        "os.killpg(process.pid, number)",
        "os.kill(process.pid, number)",
        (f"{RUNTIME}::test_a_subprocess_ends_with_its_whole_group",),
    ),
    Break(
        "last-value flush",
        "headway/sdk/reporter.py",
        "if since < INTERVAL_S and not self._closing:",
        "if since < INTERVAL_S or self._closing:",
        (
            "tests/integration/test_worker_jobs.py::"
            "test_the_last_progress_before_the_end_is_the_last_that_was_noted",
        ),
    ),
    Break(
        "clock that never goes back",
        "headway/contract/lua/clock.lua",
        "    elseif ms > last_ms then\n",
        "    elseif ms ~= last_ms then\n",
        (f"{STORE}::test_the_clock_never_goes_back_when_the_machines_clock_does", MACHINE),
    ),
    Break(
        "a unique key belongs to one job",
        "headway/contract/lua/create.lua",
        "if holder then\n",
        "if false then\n",
        (
            f"{NEXT}::test_a_unique_key_belongs_to_one_job_until_that_ends",
            f"{NEXT}::test_many_at_once_with_one_unique_key_make_one_job",
        ),
    ),
    Break(
        "nothing begins before its time",
        "headway/contract/lua/claiming.lua",
        "  if time < not_before then return {'refused', job.state} end\n",
        "",
        (f"{NEXT}::test_a_job_is_never_begun_before_its_time_and_has_its_message_then",),
    ),
    Break(
        "nothing is taken from what is paused",
        "headway/contract/lua/claiming.lua",
        "  if is_paused() then return {'refused', job.state} end\n",
        "",
        (f"{NEXT}::test_nothing_is_taken_from_what_is_paused_also_by_who_has_the_message",),
    ),
    Break(
        "a replica is not written to",
        "headway/contract/connections.py",
        'if said.get("role") == "slave" and not self._any_role:',
        "if False:",
        ("tests/integration/test_failover.py::test_a_replica_is_not_where_to_begin",),
    ),
    Break(
        "one writer moves an upload's offset",
        "headway/contract/lua/upload.lua",
        "  if held[2] ~= ARGV[4] then return {'lost'} end\n",
        "",
        ("tests/integration/test_tus.py::test_only_the_last_writer_moves_the_offset",),
    ),
)


def copy(directory: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)


def take_away(directory: Path, broken: Break) -> None:
    path = directory / broken.file
    text = path.read_text()
    if text.count(broken.old) != 1:
        raise SystemExit(f"{broken.name}: {broken.file} has changed, the edit does not fit any more")
    path.write_text(text.replace(broken.old, broken.new))


def run(directory: Path, tests: tuple[str, ...]) -> tuple[int, set[str]]:
    """pytest's exit status, and which of the tests failed."""
    mark = f"HEADWAY_BROKEN={secrets.token_hex(8)}"
    name, _, value = mark.partition("=")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", *tests],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory), "BROKEN_ON_PURPOSE": "1", name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    # What a protection would have ended may have outlived its test.
    processes.signal_all(processes.ours(mark), signal.SIGKILL)
    failed = re.findall(r"(?m)^FAILED (\S+)", done.stdout)
    # A test may be named with one of its cases, or for all.
    return done.returncode, {*failed, *(test.partition("[")[0] for test in failed)}


def main() -> int:
    names = [broken.name for broken in BREAKS]
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument(
        "name", nargs="*", metavar="NAME", choices=[*names, []], help=f"of {', '.join(names)} (all)"
    )
    chosen = parser.parse_args().name
    wanted = [broken for broken in BREAKS if not chosen or broken.name in chosen]
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="headway-broken-") as name:
        whole = Path(name) / "whole"
        copy(whole)
        status, failed = run(whole, tuple(sorted({test for b in wanted for test in b.tests})))
        if status != 0:
            print(f"unbroken, pytest ends with {status}; failed: {sorted(failed)}")
            return 1
        print("unbroken: all of these tests pass")
        for n, broken in enumerate(wanted):
            began = time.monotonic()
            directory = Path(name) / str(n)
            copy(directory)
            take_away(directory, broken)
            _, failed = run(directory, broken.tests)
            for test in broken.tests:
                unnoticed += test not in failed
                print(f"{broken.name}: {'failed' if test in failed else 'NOT NOTICED'}: {test}")
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{unnoticed} not noticed" if unnoticed else f"all {len(wanted)} were noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
