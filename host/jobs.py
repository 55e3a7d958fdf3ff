"""The queue of prompts, the thread that runs them, and the record of those that ran."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .executor import Executor, Run
from .runtime import interrupt

log = logging.getLogger(__name__)
LARGEST_HISTORY = 200


@dataclass
class Job:
    """One queued prompt.

    Attributes:
        number: place in the queue, lowest first.
        targets: ids of the output nodes to run.
        run: its record, once it runs.
    """

    number: float
    prompt: dict
    extra_data: dict
    targets: list[str]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    run: Run | None = None

    @property
    def client_id(self) -> str | None:
        return self.extra_data.get("client_id")

    def as_queue_item(self) -> list:
        return [self.number, self.id, self.prompt, self.extra_data, self.targets]

    def as_history(self) -> dict:
        status = "success" if self.run.success else "error"
        return {
            "prompt": self.as_queue_item(),
            "outputs": self.run.outputs,
            "status": {"status_str": status, "completed": bool(self.run.success), "messages": self.run.messages},
            "meta": {i: {"node_id": i, "display_node": i, "real_node_id": i} for i in self.run.outputs},
        }


class JobQueue:
    """Runs one job at a time on a thread of its own.

    Args:
        send: called from that thread with (client id, event, data).
        changed: called when the number of waiting jobs has changed.
    """

    def __init__(self, executor: Executor, send: Callable, changed: Callable[[], None]):
        self.executor, self._send, self._changed = executor, send, changed
        self._condition = threading.Condition()
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._done: dict[str, Job] = {}
        self._forget = self._stop = False
        self._next_number = 0
        self._thread = threading.Thread(target=self._work, name="llia-host-jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops the running job and the thread, and waits for it."""
        with self._condition:
            self._stop = True
            self._waiting.clear()
            self._condition.notify()
        if self._thread.is_alive():
            interrupt()
            self._thread.join(timeout=30)

    def number(self, front: bool = False) -> float:
        with self._condition:
            self._next_number += 1
            return -self._next_number if front else self._next_number

    def put(self, job: Job) -> None:
        with self._condition:
            self._waiting.append(job)
            self._waiting.sort(key=lambda j: j.number)
            self._condition.notify()
        self._changed()

    def snapshot(self) -> tuple[Job | None, list[Job], list[Job]]:
        """(running, waiting, done), the last oldest first."""
        with self._condition:
            return self._running, list(self._waiting), list(self._done.values())

    @property
    def remaining(self) -> int:
        running, waiting, _ = self.snapshot()
        return len(waiting) + (running is not None)

    def remove_waiting(self, ids: list[str] | None = None) -> None:
        """Takes these jobs out of the queue; all that wait if None."""
        with self._condition:
            self._waiting = [j for j in self._waiting if ids is not None and j.id not in ids]
        self._changed()

    def remove_done(self, ids: list[str] | None = None) -> None:
        with self._condition:
            for job_id in list(self._done) if ids is None else ids:
                self._done.pop(job_id, None)

    def interrupt(self, job_id: str | None = None) -> None:
        """Stops the running job if it has this id, or any if None."""
        with self._condition:
            if self._running is not None and job_id in (None, self._running.id):
                interrupt()

    def forget_results(self) -> None:
        """Frees what the executor keeps, as soon as no job runs."""
        with self._condition:
            self._forget = True
            self._condition.notify()

    def _next(self) -> Job | None:
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._stop or self._forget)
            if self._forget:
                self.executor.forget()
                self._forget = False
            if self._stop or not self._waiting:
                return None
            self._running = self._waiting.pop(0)
            return self._running

    def _work(self) -> None:
        while not self._stop:
            if (job := self._next()) is None:
                continue
            self._changed()
            start = time.monotonic()
            job.run = Run(job.id, job.prompt, job.extra_data, partial(self._send, job.client_id))
            try:
                self.executor.execute(job.run, job.targets)
            except Exception:  # a fault of the host itself must not end the queue
                log.exception("The host failed on prompt %s", job.id)
                job.run.success = False
            log.info("Prompt %s: %.2f s", "executed" if job.run.success else "stopped", time.monotonic() - start)
            self._finish(job)

    def _finish(self, job: Job) -> None:
        with self._condition:
            self._running = None
            self._done[job.id] = job
            while len(self._done) > LARGEST_HISTORY:
                self._done.pop(next(iter(self._done)))
        self._send(job.client_id, "executing", {"node": None, "prompt_id": job.id})
        self._changed()


def describe(job: Job, state: str, full: bool = False) -> dict:
    """The job's entry in /jobs; with outputs and workflow if full."""
    times = {event: data["timestamp"] for event, data in (job.run.messages if job.run else [])}
    errors = [data for event, data in (job.run.messages if job.run else []) if event == "execution_error"]
    outputs = dict(job.run.outputs) if job.run else {}
    files = [
        {**item, "nodeId": node, "mediaType": kind}
        for node, shown in outputs.items()
        for kind, items in shown.items()
        for item in items
        if isinstance(item, dict) and "filename" in item
    ]
    workflow = (job.extra_data.get("extra_pnginfo") or {}).get("workflow") or {}
    entry = {
        "id": job.id,
        "status": state,
        "priority": job.number,
        "create_time": job.extra_data.get("create_time"),
        "execution_start_time": times.get("execution_start"),
        "execution_end_time": max(times.values()) if state in ("completed", "failed") and times else None,
        "execution_error": errors[0] if errors else None,
        "outputs_count": len(files),
        "preview_output": next(iter(sorted(files, key=lambda f: f.get("type") != "output")), None),
        "workflow_id": workflow.get("id"),
    }
    if full:
        entry |= {"outputs": outputs, "workflow": {"prompt": job.prompt, "extra_data": job.extra_data}}
        if state in ("completed", "failed"):
            entry["execution_status"] = job.as_history()["status"]
    return {key: value for key, value in entry.items() if value is not None}


def describe_all(queue: JobQueue, full: bool = False) -> list[dict]:
    """Entries of all jobs, newest first."""
    running, waiting, done = queue.snapshot()
    entries = [describe(j, "pending", full) for j in reversed(waiting)]
    if running is not None:
        entries.append(describe(running, "in_progress", full))
    entries += [describe(j, "completed" if j.run.success else "failed", full) for j in reversed(done)]
    return entries
