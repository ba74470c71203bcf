"""What is masked in texts: values that were revealed, and what redactions find."""

from __future__ import annotations

import base64
import io
import json
import logging
import time
import traceback
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from perdure.codec import redaction
from perdure.codec.failures import failure_of, step_exception
from perdure.codec.redaction import common, force, forget_all, lift, mask, mask_json, remember

VALUE = 'p@ss/word "quoted"\\x'


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    forget_all()
    factory = logging.getLogRecordFactory()
    yield
    forget_all()
    logging.setLogRecordFactory(factory)


def test_nothing_happens_while_nothing_is_secret() -> None:
    assert not redaction.active()
    text = "any text"
    assert mask(text) is text
    assert mask_json(data := b'"any"') is data


def test_a_revealed_value_is_masked_in_all_the_forms_that_texts_give_it() -> None:
    remember(VALUE, "env:KEY")
    for form in (
        VALUE,
        quote(VALUE, safe=""),
        json.dumps(VALUE),
        repr(VALUE),
        base64.b64encode(VALUE.encode()).decode(),
        str({"a": [VALUE]}),
    ):
        masked = mask(f"before {form} after")
        assert "[secret env:KEY]" in masked, form
        assert "word" not in masked
    assert json.loads(mask_json(json.dumps({"a": [VALUE]}).encode())) == {"a": ["[secret env:KEY]"]}
    assert mask_json(VALUE.encode() + b" no JSON") == b'"[masked]"'


def test_bytes_containers_and_lines_are_remembered_too() -> None:
    remember(b"\x00\xffraw-bytes")
    assert "raw-bytes" not in mask(repr(b"\x00\xffraw-bytes"))
    assert mask(b"\x00\xffraw-bytes".hex()) == "[secret]"
    remember({"user": "app", "password": ["inner-password"]})
    assert mask("inner-password, app") == "[secret], app"
    remember("-----BEGIN KEY-----\nMIIEvQIBADANBgkqhki\nG9w0BAQEFAASCBKcwgg\n-----END KEY-----")
    assert mask("line 2 is G9w0BAQEFAASCBKcwgg") == "line 2 is [secret]"


def test_short_values_are_left_alone_and_the_oldest_are_forgotten() -> None:
    remember("1234567")
    assert not redaction.active()
    for number in range(redaction.KEPT_MAX + 10):
        redaction._state.values[f"value-{number:06}"] = "[secret]"
    remember("the-last-one")
    assert len(redaction._state.values) == redaction.KEPT_MAX
    assert mask("the-last-one value-000000 value-001009") == "[secret] value-000000 [secret]"


def test_a_failure_is_recorded_without_it_and_comes_back_as_it_was_recorded() -> None:
    remember(VALUE, "env:KEY")
    error = ValueError(f"refused: {VALUE}", {"sent": VALUE})
    error.add_note(f"with {VALUE}")
    error.__cause__ = KeyError(VALUE)
    try:
        raise error
    except ValueError as raised:
        failure = failure_of(raised)
    assert "word" not in repr(failure)
    rebuilt = step_exception(failure, step="s", attempts=1)
    assert type(rebuilt) is ValueError
    assert rebuilt.args == ("refused: [secret env:KEY]", {"sent": "[secret env:KEY]"})
    assert str(rebuilt) == failure.message


def test_a_long_text_is_masked_before_it_is_cut() -> None:
    secret = "s" * 3000 + "the-end-of-it"
    remember(secret)
    failure = failure_of(ValueError("x" * 15_000 + secret))
    assert "sss" not in repr(failure)


def test_redactions_of_an_engine_are_in_force_until_they_are_lifted() -> None:
    def loud(text: str) -> str:
        return text.replace("quiet", "*****")

    def broken(text: str) -> str:
        raise RuntimeError("about quiet")

    force([loud])
    force([loud])
    assert mask("be quiet") == "be *****"
    lift([loud])
    assert mask_json(b'["quiet",{"quiet":1}]') == b'["*****",{"*****":1}]'
    lift([loud])
    assert mask("be quiet") == "be quiet"
    force([broken])
    assert mask("be quiet") == "[a redaction failed: RuntimeError]"
    lift([broken])


def test_log_records_are_masked_when_they_are_made() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger = logging.getLogger("perdure.test.of.masking")
    logger.addHandler(handler)
    logger.propagate = False
    seen: list[logging.LogRecord] = []
    handler.addFilter(lambda record: seen.append(record) or True)
    remember(VALUE, "env:KEY")
    logger.warning("with %s and %r", VALUE, {"a": VALUE})
    try:
        raise ValueError(VALUE)
    except ValueError:
        logger.exception("it failed", stack_info=True)
    logger.warning("nothing in %s", "this")
    assert "word" not in out.getvalue()
    assert out.getvalue().count("[secret env:KEY]") >= 3
    assert "Traceback" in out.getvalue()
    assert all("word" not in repr(vars(record)) for record in seen)
    assert seen[-1].args == ("this",)
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://app:hunter2@db:5432/app?x=1", "postgresql://app:[hidden]@db:5432/app?x=1"),
        ("redis://:hunter2@cache", "redis://:[hidden]@cache"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [hidden]"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "{'authorization': 'Basic [hidden]'}"),
        ("sent bearer 0123456789abcdef", "sent bearer [hidden]"),
        ("AKIAIOSFODNN7EXAMPLE", "[hidden]"),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "aws_secret_access_key = [hidden]",
        ),
        ('{"api_key": "0123", "n": 1}', '{"api_key": "[hidden]", "n": 1}'),
        ("DB_PASSWORD=hunter2;x", "DB_PASSWORD=[hidden];x"),
        ("https://x/?access_token=abc&y=1", "https://x/?access_token=[hidden]&y=1"),
        ("sk-ant-api03-AbCdEfGhIjKlMnOp", "[hidden]"),
        ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "[hidden]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ", "[hidden]"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----[hidden]",
        ),
        ("the bearer of good news, a basic idea: token count 12", None),
        ("http://localhost:8000/runs/a:b@c", None),
        ("password reset mail sent", None),
        ("sqlite:////var/lib/agents.db", None),
    ],
)
def test_common_shapes(text: str, masked: str | None) -> None:
    assert common(text) == (text if masked is None else masked)
    assert common(common(text)) == common(text)


def test_common_takes_time_that_grows_with_the_text_only() -> None:
    for text in (
        "a" * 200_000,
        "password=" * 20_000,
        "://" * 60_000,
        "-----BEGIN PRIVATE KEY-----" * 5000,
        "eyJ." * 50_000,
    ):
        began = time.process_time()
        common(text)
        assert time.process_time() - began < 20, text[:20]


def test_an_error_s_own_text_may_fail() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError(VALUE)

    remember(VALUE)
    assert "word" not in repr(failure_of(Odd()))
    assert "word" not in mask("".join(traceback.format_exception(ValueError(VALUE))))
