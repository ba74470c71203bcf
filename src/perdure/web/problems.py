"""Errors as problem details (RFC 9457): what happened, why, and what to do, as the error's own text says it."""

from __future__ import annotations

import http
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from perdure import errors
from perdure.codec.redaction import mask, mask_value

logger = logging.getLogger("perdure.web")

MEDIA_TYPE = "application/problem+json"

#: What an error of the engine means over HTTP; the first that fits counts.
_STATUSES: Sequence[tuple[type[BaseException], int]] = (
    (errors.UnknownRunError, 404),
    (errors.UnknownScheduleError, 404),
    (errors.UnknownHandlerError, 404),
    (errors.UnknownCallbackError, 404),
    (errors.UnknownQuestionError, 404),
    (errors.QuestionAnsweredError, 409),
    (errors.QuestionClosedError, 410),
    (errors.InvalidAnswerError, 422),
    (errors.NothingToDecideError, 409),
    (errors.CallbackExpiredError, 410),
    (errors.CallbackError, 409),
    (errors.RunConflictError, 409),
    (errors.ScheduleConflictError, 409),
    (errors.PayloadTooLargeError, 413),
    (errors.UpdateRejected, 422),
    (errors.NotSerializableError, 422),
    (errors.LimitExceededError, 429),
    (errors.NamespaceError, 403),
    (errors.UsageError, 422),
    (errors.ConfigurationError, 422),
    (errors.ReadOnlyError, 422),
    (errors.HandlerFailed, 422),
    (errors.HandlerUnreachableError, 503),
    (errors.NoCodeError, 409),
    (errors.TravelError, 503),
    (errors.DamagedHistoryError, 409),
    (errors.UndecodableError, 409),
    (TimeoutError, 504),
    (errors.StoreError, 503),
    (errors.EngineClosedError, 503),
)


def problem(status: int, kind: str, detail: str, **more: Any) -> JSONResponse:
    """An answer that tells of a problem.

    Args:
        kind: names the error for programs, such as "UnknownRunError".
        detail: tells it to people.
    """
    title = http.HTTPStatus(status).phrase
    body = {
        "type": f"urn:perdure:error:{kind}",
        "title": title,
        "status": status,
        "detail": mask(detail),
        **mask_value(more),
    }
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE)


def status_of(error: BaseException) -> int | None:
    """The status that says what an error of the engine means; None if it isn't one of those."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), None)


def install(app: FastAPI) -> None:
    """Let an application answer errors as problem details."""

    async def engine_error(request: Request, error: Exception) -> JSONResponse:
        status = status_of(error)
        if status is None:
            return await unexpected(request, error)
        fields = error.problems if isinstance(error, errors.InvalidAnswerError) else {}
        found = [{"where": where, "what": what} for where, what in fields.items()]
        return problem(status, type(error).__name__, str(error), **({"errors": found} if found else {}))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = [
            {"where": "/".join(map(str, item["loc"])), "what": str(item["msg"])} for item in error.errors()
        ]
        told = "; ".join(f"{item['where']}: {item['what']}" for item in found)
        return problem(
            422, "InvalidRequest", f"The request doesn't have the form it should: {told}", errors=found
        )

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        answer = problem(error.status_code, "Http", str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    app.add_exception_handler(errors.PerdureError, engine_error)
    app.add_exception_handler(TimeoutError, engine_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


async def unexpected(request: Request, error: Exception) -> JSONResponse:
    """A defect of ours: the log has it all, the answer nothing that might be secret."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    told = "The server failed in a way it shouldn't have. Its log says more."
    return problem(500, "Internal", told)
