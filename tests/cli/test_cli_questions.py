"""`perdure questions`, `perdure answer`, and how questions are shown."""

from __future__ import annotations

import enum
import getpass
import re
from dataclasses import dataclass, field

import pytest

import perdure
from perdure import workflow


class Kind(enum.Enum):
    NEWS = "news"
    ESSAY = "essay"


@dataclass
class Verdict:
    """What the editor says."""

    approved: bool
    comment: str = ""
    kind: Kind = Kind.NEWS
    tags: list[str] = field(default_factory=list)


@workflow(name="cli.publishes")
async def publishes() -> str:
    verdict = await perdure.ask("Publish this?", Verdict, details={"title": "News"}, to="eds", timeout=9000)
    return f"{verdict.approved} {verdict.comment} {verdict.kind.value} {verdict.tags}"


@workflow(name="cli.asks_twice")
async def asks_twice() -> list[object]:
    return [await perdure.ask("Sure?"), await perdure.ask("Name?", str)]


@workflow(name="cli.asks_both")
async def asks_both() -> None:
    import asyncio

    await asyncio.gather(perdure.ask("One?"), perdure.ask("Two?"))


def start(cli, call, asked=1, id="open"):
    """A run that asks, and no worker; returns what it asks."""

    async def drive(engine):
        await engine.start(call, id=id)
        async with perdure.Engine(cli.url) as worker:
            while True:
                found = [item async for item in worker.questions(run=id)]
                if len(found) >= asked:
                    return found
                await perdure.sleep(0.02)

    return cli.within(drive)


def result(cli, id="open"):
    async def drive(engine):
        async with perdure.Engine(cli.url) as worker:
            return await worker.get(id).result()

    return cli.within(drive)


def asks_again(cli, count, id="open"):
    """Let a worker drive the run until it has asked so often."""

    async def drive(engine):
        async with perdure.Engine(cli.url) as worker:
            while len([item async for item in worker.questions(run=id, open=False)]) < count:
                await perdure.sleep(0.02)

    cli.within(drive)


@pytest.fixture
def question(cli):
    return start(cli, publishes())[0]


def test_open_questions_are_listed(cli, question):
    listed = cli("questions").out
    assert re.search(rf"{question.id}\s+open\s+eds\s.*in 2 h.*open\s+Publish this\? .*News", listed)
    (facts,) = cli("questions", "--json").json
    assert (facts["id"], facts["run"], facts["op"], facts["state"]) == (question.id, "open", "ask:1", "open")
    assert facts["schema"]["$defs"]["Verdict"]["description"] == "What the editor says."
    assert cli("questions", "--to", "others").out == ""
    assert "Nobody is asked" in cli("questions", "--to", "others").err
    assert cli("questions", "--since", "2999-01-01").out == ""
    assert question.id in cli("questions", "--to", "eds", "--since", "1h").out


def test_one_question_is_shown_with_its_form(cli, question):
    for id in (question.id, "open"):
        shown = cli("questions", id).out
        assert re.search(r"question\s+Publish this\?", shown)
        assert re.search(r"approved\s+yes or no\s", shown)
        assert re.search(r'kind\s+essay or news, may be left out, "news" at first', shown)


@pytest.mark.parametrize(
    ("values", "came"),
    [
        (["yes"], "True  news []"),
        (["no", "comment=too long; a=b"], "False too long; a=b news []"),
        (["approved=on", "kind=essay", "tags=a, b"], "True  essay ['a', 'b']"),
        (['{"approved": true, "comment": "fine", "tags": ["x"]}'], "True fine news ['x']"),
    ],
)
def test_answers_are_json_or_fields(cli, question, values, came):
    outcome = cli("answer", "open", *values, "--by", "alice")
    assert (outcome.code, outcome.out) == (0, "")
    assert "is answered" in outcome.err
    assert result(cli) == came
    assert re.search(r"✓\s+ask:1.*by alice through cli", cli("show", "open", "--full").out)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["perhaps"], "no FIELD=VALUE"),
        (["approved=perhaps"], "approved: expected yes or no"),
        (["comment=x"], "approved: it is missing"),
        (["yes", "coment=x"], "coment: there is no such field"),
        (["yes", "kind=novel"], "kind: expected essay or news"),
        (['{"approved": 1}'], "approved: expected true or false, got 1"),
        (['{"approved": '], "isn't JSON"),
        ([], "The fields of the answer"),
    ],
)
def test_what_is_no_answer_is_told_by_field(cli, question, values, told):
    assert told in cli.fails("answer", question.id, *values)
    (still,) = cli("questions", "--json").json
    assert still["state"] == "open"


def test_an_answer_is_given_once(cli, question):
    cli("answer", question.id, "yes", "--by", "alice")
    assert cli("answer", question.id, "yes").code == 0  # the same again
    told = cli.fails("answer", question.id, "no")
    assert "was answered already by alice" in told
    assert "asks nothing at the moment" in cli.fails("answer", "open", "yes")
    assert "no question in this database" in cli.fails("answer", "q_nonsense", "yes")
    assert "nobody" in cli.fails("answer", "nobody", "yes")
    listed = cli("questions", "--all").out
    assert re.search(rf"{question.id}\s.*answered by alice", listed)
    assert "through cli" in cli("questions", question.id).out


def test_plain_values_are_answers_too(cli):
    start(cli, asks_twice())
    cli("answer", "open", "yes")
    asks_again(cli, 2)
    assert "expected yes or no" not in cli("answer", "open", "Ann", "Lee").err
    assert result(cli) == [True, "Ann Lee"]
    shown = cli("show", "open").out
    assert re.search(rf"ask:1.*→ true by {getpass.getuser()} through cli", shown)


def test_of_several_questions_one_has_to_be_named(cli):
    one, two = start(cli, asks_both(), asked=2)
    told = cli.fails("answer", "open", "yes")
    assert one.id in told
    assert two.id in told
    assert cli("answer", one.id, "yes").code == 0
    assert cli("answer", "open", "yes").code == 0


def test_show_and_why_tell_of_open_questions(cli, question):
    shown = cli("show", "open").out
    assert re.search(
        rf"waits for\s+question ask:1, since .*Publish this\?.*perdure answer {question.id}", shown
    )
    assert re.search(rf"\?\s+ask:1\s+asks eds: Publish this\? .*\({question.id}\), for 2 h 30 min", shown)
    assert f"perdure answer {question.id}" in cli("why", "open").out
    (wait,) = cli("show", "open", "--json").json["waiting_for"]
    assert (wait["kind"], wait["question"]) == ("question", question.id)


def test_show_tells_of_withdrawn_questions(cli, question):
    cli("cancel", "open")
    with pytest.raises(perdure.RunCancelled):
        result(cli)
    assert re.search(r"·\s+ask:1\s.*withdrawn by the code", cli("show", "open").out)
    assert "withdrawn" in cli("questions", "--all").out
    assert "was withdrawn" in cli.fails("answer", question.id, "yes")
