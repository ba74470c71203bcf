"""Work that the fake provider does while nobody waits: background responses and batches.

    POST /v1/responses with background   -> GET /v1/responses/ID, POST .../cancel
    POST /v1/messages/batches            -> GET .../ID, .../ID/results, POST .../ID/cancel
    POST /v1/files, POST /v1/batches     -> GET /v1/batches, .../ID, /v1/files/ID/content, POST /v1/batches/ID/cancel

What is asked is answered and billed at once, as a provider would bill it whoever fetches it, or nobody; it is only
told after a while.
"""

from __future__ import annotations

import email
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from perdure.testing.fake_llm.openai_wire import CREATED
from perdure.testing.fake_llm.wire import Json

#: Does a request of a batch: its path and body -> the status and the body of the answer.
Does = Callable[[str, Json], tuple[int, Json]]
_DAY = 86_400


@dataclass
class Job:
    """A background response, or a batch.

    Attributes:
        ready_at: wall-clock time from which it is told.
        requests: how many requests it has.
    """

    id: str
    ready_at: float
    body: Json
    requests: int = 1
    cancelled: bool = False
    results: list[Json] = field(default_factory=list[Json])


class Jobs:
    """All jobs of a provider, and the files that they read and write.

    Args:
        takes: seconds that a job takes.

    Attributes:
        looks: how often somebody has asked how a job stands.
    """

    def __init__(self, takes: float) -> None:
        self.takes = takes
        self._jobs: dict[str, Job] = {}
        self._files: dict[str, bytes] = {}
        self.looks = 0

    def post(self, path: str, data: bytes, now: float, does: Does) -> tuple[int, Json] | None:
        """A request that begins or cancels a job, or brings a file; None if it isn't one of these."""
        if path.endswith("/files"):
            return self._file(data)
        if path.endswith("/cancel"):
            return self._cancel(path.split("/")[-2], now)
        if path.endswith("/messages/batches"):
            return self._messages(json.loads(data), now, does)
        if path.endswith("/batches"):
            return self._batch(json.loads(data), now, does)
        return None

    def get(self, path: str, now: float, url: str) -> tuple[int, Json | bytes] | None:
        """A question about jobs, or for what came of one; None if it isn't one."""
        parts = path.strip("/").split("/")
        if parts[-1] == "content":
            return 200, self._files[parts[-2]]
        if parts[-1] == "results":
            return 200, b"".join(json.dumps(line).encode() + b"\n" for line in self._jobs[parts[-2]].results)
        if parts[-1] == "batches":
            found = [_openai_batch(job, now) for job in self._jobs.values() if job.id.startswith("batch_")]
            return 200, {"object": "list", "data": found[::-1], "has_more": False}
        job = self._jobs.get(parts[-1])
        if job is None:
            return None
        self.looks += 1
        return 200, _told(job, now, url)

    def background(self, answer: Json, now: float) -> Json:
        """Keep a response for later. Returns how it stands."""
        job = Job(answer["id"], now + self.takes, answer)
        self._jobs[job.id] = job
        return _response(job, now, "queued")

    @property
    def cancelled(self) -> int:
        """How many were cancelled before they were over."""
        return sum(job.cancelled for job in self._jobs.values())

    def _file(self, data: bytes) -> tuple[int, Json]:
        message = email.message_from_bytes(data)
        found = b""
        for part in message.walk():
            if part.get_filename() is not None:
                content = part.get_payload(decode=True)
                found = content if isinstance(content, bytes) else b""
        return 200, self._kept(found)

    def _kept(self, content: bytes) -> dict[str, Any]:
        id = f"file-{len(self._files) + 1:06d}"
        self._files[id] = content
        return {
            "id": id,
            "object": "file",
            "bytes": len(content),
            "created_at": CREATED,
            "filename": "batch.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def _cancel(self, id: str, now: float) -> tuple[int, Json] | None:
        job = self._jobs.get(id)
        if job is None:
            return None
        job.cancelled = job.cancelled or now < job.ready_at
        return 200, _told(job, now, "")

    def _messages(self, body: Json, now: float, does: Does) -> tuple[int, Json]:
        requests: list[Json] = body["requests"]
        job = Job(f"msgbatch_{len(self._jobs) + 1:06d}", now + self.takes, body, len(requests))
        for request in requests:
            status, answer = does("/v1/messages", request["params"])
            result = {"type": "succeeded", "message": answer}
            if status != 200:
                result = {"type": "errored", "error": {**answer, "request_id": None}}
            job.results.append({"custom_id": request["custom_id"], "result": result})
        job.results.reverse()  # in no order that one could rely on
        self._jobs[job.id] = job
        return 200, _told(job, now, "")

    def _batch(self, body: Json, now: float, does: Does) -> tuple[int, Json]:
        lines = [json.loads(line) for line in self._files[body["input_file_id"]].splitlines()]
        job = Job(f"batch_{len(self._jobs) + 1:06d}", now + self.takes, body, len(lines))
        failed: list[Json] = []
        for line in lines:
            status, answer = does(line["url"], line["body"])
            response = {"status_code": status, "request_id": f"req_{line['custom_id']}", "body": answer}
            kept = job.results if status == 200 else failed
            kept.append(
                {"id": "batch_req", "custom_id": line["custom_id"], "response": response, "error": None}
            )
        written = [
            self._kept(b"\n".join(json.dumps(each).encode() for each in reversed(several)))["id"]
            if several
            else None
            for several in (job.results, failed)
        ]
        job.body = {**body, "output_file_id": written[0], "error_file_id": written[1]}
        self._jobs[job.id] = job
        return 200, _openai_batch(job, now)


def _told(job: Job, now: float, url: str) -> Json:
    if job.id.startswith("resp_"):
        return _response(job, now, "in_progress")
    return _openai_batch(job, now) if job.id.startswith("batch_") else _message_batch(job, now, url)


def _response(job: Job, now: float, meanwhile: str) -> Json:
    if now >= job.ready_at and not job.cancelled:
        return {**job.body, "background": True}
    status = "cancelled" if job.cancelled else meanwhile
    return {**job.body, "background": True, "status": status, "output": [], "usage": None}


def _message_batch(job: Job, now: float, url: str) -> Json:
    ended = job.cancelled or now >= job.ready_at
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    if not ended:
        counts["processing"] = job.requests
    for line in job.results if ended else ():
        counts[line["result"]["type"]] += 1
    return {
        "id": job.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts,
        "created_at": _moment(CREATED),
        "expires_at": _moment(CREATED + _DAY),
        "ended_at": _moment(CREATED) if ended else None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": f"{url}/v1/messages/batches/{job.id}/results" if ended else None,
    }


def _openai_batch(job: Job, now: float) -> Json:
    done = now >= job.ready_at
    body: Mapping[str, Any] = job.body
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": body["endpoint"],
        "input_file_id": body["input_file_id"],
        "completion_window": body["completion_window"],
        "status": "cancelled" if job.cancelled else "completed" if done else "in_progress",
        "created_at": CREATED,
        "output_file_id": body["output_file_id"] if done else None,
        "error_file_id": body["error_file_id"] if done else None,
        "request_counts": {"total": job.requests, "completed": len(job.results) if done else 0, "failed": 0},
        "metadata": body.get("metadata"),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
