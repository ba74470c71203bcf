"""`perdure run`: results as JSON, inputs read by the workflow's types, and the same result for the same id."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("target", "given", "result"),
    [
        ("flows:total", "[[1, 2, 3]]", 6),
        ("flows:total", "[[1, 2, 3], 2]", 12),
        ("flows:total", '{"numbers": [1, 2], "scale": 3}', 9),
        ("flows:echo", '"hi"', "hi"),
        ("flows:echo", '["hi"]', "hi"),
        ("flows:wait", '"PT0.01S"', "done"),
        ("flows:buy", '[{"item": "pot", "price": 19.90}]', {"item": "pot", "price": "19.90"}),
        ("flows:parent", '"all "', "all fine"),
        ("flows:sleepy", "0.01", "awake"),
    ],
)
def test_the_result_is_printed_as_json(cli, target, given, result):
    outcome = cli("run", target, "--input", given)
    assert outcome.json == result
    assert outcome.code == 0


def test_no_input_for_a_workflow_without_parameters(cli):
    assert cli("run", "flows:nothing").out == "null\n"


def test_the_same_id_gives_the_same_result_and_does_nothing_again(cli):
    first = cli("run", "flows:total", "--input", "[[1, 2]]", "--id", "t")
    again = cli("run", "flows:total", "--input", "[[1, 2]]", "--id", "t")
    assert first.out == again.out == "3\n"
    assert len(cli("show", "t", "--json").json["history"]) == 4


def test_another_input_for_the_same_id_is_refused(cli):
    cli("run", "flows:echo", "--input", '"a"', "--id", "e")
    assert "other input" in cli.fails("run", "flows:echo", "--input", '"b"', "--id", "e")


def test_a_failed_run_shows_where_it_was_raised_and_fails_again(cli):
    for _ in range(2):
        told = cli.fails("run", "flows:fail", "--input", "0", "--id", "f", code=1)
        assert "ValueError: no zero, please" in told
        assert 'raise ValueError("no zero, please") from error' in told
        assert "perdure show f" in told


def test_a_run_past_its_timeout_fails(cli):
    told = cli.fails("run", "flows:wait", "--input", '"PT60S"', "--timeout", "0.2", code=1)
    assert "timeout" in told


def test_a_run_whose_workflow_does_io_fails_with_the_advice(cli):
    assert "@step" in cli.fails("run", "flows:refused", code=1)


def test_the_database_is_given_by_option_too(cli):
    url = f"sqlite:///{cli.folder / 'other.db'}"
    assert cli("run", "flows:echo", "--input", '"x"', "--url", url, url=None).json == "x"
    assert (cli.folder / "other.db").exists()


def test_no_database(cli):
    told = cli.fails("run", "flows:nothing", url=None)
    assert "--url" in told
    assert "PERDURE_URL" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('["a" 1]', "line 1, column 6"),
        ('["a",\n', "line 2, column 1"),
        ("", "column 1"),
        ("hello", "column 1"),
        ("[NaN]", "NaN"),
        ("[" * 100_000, "deep"),
    ],
)
def test_bad_json_shows_where(cli, given, told):
    assert told in cli.fails("run", "flows:echo", "--input", given)


def test_bad_json_points_at_the_place(cli):
    lines = cli.fails("run", "flows:echo", "--input", '["a" 1]').splitlines()
    assert lines[1].index("1]") == lines[2].index("^")


@pytest.mark.parametrize(
    ("target", "given", "told"),
    [
        ("flows:echo", None, "missing 1 required positional argument: 'text'"),
        ("flows:echo", '["a", "b"]', "takes 1 positional argument"),
        ("flows:echo", '{"txt": "a"}', "unexpected keyword argument 'txt'"),
        ("flows:echo", "5", "'text' doesn't fit its type: Expected `str`, got `int`"),
        ("flows:total", '[[1, "x"]]', "'numbers' doesn't fit its type"),
        ("flows:wait", '"soon"', "'how_long' doesn't fit its type"),
        ("flows:buy", '[{"item": "pot"}]', "missing required field `price`"),
    ],
)
def test_wrong_arguments_show_the_signature(cli, target, given, told):
    message = cli.fails("run", target, *([] if given is None else ["--input", given]))
    assert told in message
    assert f"\n  {target.partition(':')[2]}(" in message
    assert "->" in message
    assert not (cli.folder / "runs.db").exists(), "nothing was started"


def test_an_object_for_a_workflow_that_takes_one(cli):
    told = cli.fails("run", "flows:buy", "--input", '{"item": "pot", "price": "1"}')
    assert "[{...}]" in told
