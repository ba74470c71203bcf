"""`/metrics`: Prometheus' formats, past the gate, with the numbers of the database and of this process."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from web_kit import run, serving

import perdure
from perdure import Metrics, workflow
from perdure.runtime.metrics.catalogue import CATALOGUE
from perdure.web import Access, Role, Tokens


@workflow(name="web.metered")
async def metered() -> None:
    return None


def test_both_formats_are_valid_and_tell_what_the_catalogue_says() -> None:
    async def main() -> None:
        async with serving(telemetry=Metrics()) as (engine, client):
            await engine.run(metered())
            plain = await client.get("/metrics")
            assert plain.status_code == 200
            assert plain.headers["content-type"].startswith("text/plain; version=")
            opened = await client.get(
                "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
            )
            assert opened.headers["content-type"].startswith("application/openmetrics-text")
            for families in (list(parse(plain.text)), list(parse_openmetrics(opened.text))):
                by_name = {family.name: family for family in families}
                for family in families:
                    metric = CATALOGUE.get(family.name) or CATALOGUE[f"{family.name}_total"]
                    assert (family.type, family.documentation) == (metric.kind, metric.help)
                    for sample in family.samples:
                        assert set(sample.labels) - {"le"} == set(metric.labels)
                (ended,) = by_name["perdure_runs_ended"].samples
                assert (ended.labels["workflow"], ended.value) == ("web.metered", 1)
                assert by_name["perdure_db_up"].samples[0].value == 1

    run(main)


def test_an_engine_that_nobody_counts_tells_the_database() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.run(metered())
            text = (await client.get("/metrics")).text
            assert "perdure_db_up 1.0" in text
            assert "perdure_runs_ended_total" not in text
            assert (await client.get("/metrics")).text.count("perdure_db_up 1.0") == 1

    run(main)


@pytest.mark.parametrize("role", list(Role))
def test_whoever_may_look_may_scrape(role: Role) -> None:
    async def main() -> None:
        tokens = Tokens()
        token = tokens.issue("prometheus", role)
        async with serving(access=Access(tokens=tokens)) as (_, client):
            assert (await client.get("/metrics")).status_code == 401
            told = await client.get("/metrics", headers={"authorization": f"Bearer {token}"})
            assert told.status_code == 200

    run(main)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)

    async def main() -> None:
        with pytest.raises(perdure.errors.ConfigurationError, match=r"pip install 'perdure\[metrics\]'"):
            await Metrics().text()

    run(main)
