"""The files in deploy/ and those that `perdure init` writes, as far as they can be proved without a cluster.

Every command that they name is read by the command line itself; numbers that must fit each other are compared; and what
is asked of an image, a pod or a unit that is exposed is looked for. Where kubectl, systemd-analyze or the schemas of
Kubernetes are at hand, they judge as well.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from perdure.cli.app import app
from perdure.cli.health import LIVE, READY
from perdure.runtime.metrics import catalogue

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = ROOT / "src" / "perdure" / "cli" / "project"
DOCKERFILES = [DEPLOY / "docker" / "Dockerfile", PROJECT / "Dockerfile.txt"]
COMPOSE = [DEPLOY / "compose" / "compose.yaml", PROJECT / "docker-compose.yml.txt"]
UNITS = [*sorted((DEPLOY / "systemd").glob("*.service")), PROJECT / "worker.service.txt"]
MANIFESTS = [path for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) if path.stem != "kustomization"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# -- commands -----------------------------------------------------------------------------------------


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of a command, without executing it.

    Raises:
        Exception: there is no such command, or it hasn't such an option.
    """
    assert Path(words[0]).name == "perdure", words
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[rest[0]]
        rest = rest[1:]
    context = command.make_context(command.name, list(rest))
    given: dict[str, Any] = context.params
    return {**given, "": command.name}


def in_dockerfile(path: Path) -> Iterator[list[str]]:
    for line in path.read_text().splitlines():
        if found := re.search(r"\bCMD (\[.*\])$", line):
            yield json.loads(found[1])


def in_compose(path: Path) -> Iterator[list[str]]:
    for service in yaml.safe_load(path.read_text())["services"].values():
        if "command" in service:
            yield [str(word) for word in service["command"]]
        probe = service.get("healthcheck", {}).get("test", [])
        if probe[1:2] == ["perdure"]:
            yield probe[1:]


def in_unit(path: Path) -> Iterator[list[str]]:
    for line in path.read_text().splitlines():
        if line.startswith("ExecStart="):
            yield shlex.split(line.removeprefix("ExecStart="))


def in_manifest(path: Path) -> Iterator[list[str]]:
    for document in yaml.safe_load_all(path.read_text()):
        for container in containers(document):
            yield container["command"]


def in_readme(path: Path) -> Iterator[list[str]]:
    for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "perdure":
                yield words


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    template = document.get("spec", {}).get("template", {})
    found: list[dict[str, Any]] = template.get("spec", {}).get("containers", [])
    return found


READERS = [
    *((in_dockerfile, path) for path in DOCKERFILES),
    *((in_compose, path) for path in COMPOSE),
    *((in_unit, path) for path in UNITS),
    *((in_manifest, path) for path in MANIFESTS if path.stem in ("worker", "dashboard")),
    *((in_readme, path) for path in sorted(DEPLOY.rglob("README.md"))),
    *((in_readme, ROOT / "docs" / "guide" / name) for name in ("deploying.md", "backup.md")),
]


@pytest.mark.parametrize(("reader", "path"), READERS, ids=[named(path) for _, path in READERS])
def test_every_command_is_one_that_the_command_line_takes(reader: Any, path: Path) -> None:
    found = list(reader(path))
    assert found or path.parent == DEPLOY, "this test looks for commands in the wrong way"
    for words in found:
        parsed(words)


def test_the_reading_of_commands_finds_mistakes() -> None:
    for wrong in (
        "perdure worker",
        "perdure worker app --gracious 3",
        "perdure serv",
        "perdure health --port x",
    ):
        with pytest.raises(Exception, match=r".+"):
            parsed(wrong.split())


# -- images -------------------------------------------------------------------------------------------


def stages(path: Path) -> list[list[tuple[str, str]]]:
    """A Dockerfile's instructions, by stage."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text())
    text = re.sub(r"\\\n", " ", text)
    found: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest.strip()))
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_an_image_is_as_images_should_be(path: Path) -> None:
    *_, last = all_stages = stages(path)
    words = [word for word, _ in last]
    user = [rest for word, rest in last if word == "USER"]
    assert len(user) == 1, "one user"
    assert re.fullmatch(r"[1-9]\d{3,}(:\d+)?", user[0]), "by number, and not root"
    assert not {"COPY", "RUN", "ADD"} & set(words[words.index("USER") :]), "nothing is changed as that user"
    assert "HEALTHCHECK" in words
    assert words[-1] == "CMD"
    assert dict(last)["STOPSIGNAL"] == "SIGTERM"
    assert dict(last)["WORKDIR"].startswith("/")
    for word, rest in (line for stage in all_stages for line in stage):
        assert word != "ADD", "COPY does only what it says"
        if word == "FROM":
            image = rest.split()[0]
            assert ":" in image, f"{image} has no tag"
            assert not image.endswith(":latest")
        if word in ("CMD", "ENTRYPOINT"):
            json.loads(rest)  # the form without a shell, which would keep signals to itself
        if word == "RUN":
            assert "sudo" not in rest
            assert "pip install" not in rest or "--no-cache-dir" in rest
            assert "apt-get" not in rest or "rm -rf /var/lib/apt/lists" in rest
        assert not re.search(r"(?i)(password|token|secret)\w*=", rest), "no secrets in images"


def test_the_last_stage_has_nothing_to_build_with() -> None:
    first, last = stages(DEPLOY / "docker" / "Dockerfile")
    runs = " ".join(rest for word, rest in last if word == "RUN")
    assert "pip install" not in runs
    assert "apt-get" not in runs
    assert "rm -rf /usr/local/lib/python3*/site-packages/pip*" in runs
    assert any("--without-pip" in rest for word, rest in first if word == "RUN")
    assert any(rest.startswith("SOURCE_DATE_EPOCH") for word, rest in first if word == "ARG")


# -- compose ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", COMPOSE, ids=named)
def test_compose_waits_for_a_healthy_database(path: Path) -> None:
    made = yaml.safe_load(path.read_text())
    services = made["services"]
    assert "healthcheck" in services["database"]
    assert services["database"]["volumes"], "what is recorded outlives the container"
    for name in ("worker", "dashboard"):
        assert services[name]["depends_on"]["database"] == {"condition": "service_healthy"}
        assert services[name]["restart"] == "unless-stopped"
    assert services["dashboard"]["ports"] == ["127.0.0.1:8700:8700"]
    assert "ports" not in services["database"]
    probe = parsed(services["dashboard"]["healthcheck"]["test"][1:])
    assert probe["port"] == 8700
    commanded = services["worker"].get("command", ["perdure", "worker", "app", "--grace", "20"])
    grace = parsed([str(word) for word in commanded])["grace"]
    assert int(services["worker"]["stop_grace_period"].removesuffix("s")) >= grace + 10
    for name, secret in made["secrets"].items():
        assert set(secret) == {"file"}, name
        assert any(name in service.get("secrets", ()) for service in services.values()), name
    for name, service in services.items():
        for secret in service.get("secrets", ()):
            assert secret in made["secrets"], (name, secret)


def test_composes_passwords_are_in_files() -> None:
    text = COMPOSE[0].read_text()
    assert not re.search("PASSWORD: ", text)
    assert "PERDURE_URL:" not in text
    for service in ("worker", "dashboard"):
        made = yaml.safe_load(text)["services"][service]
        assert made["read_only"] is True
        assert made["cap_drop"] == ["ALL"]


# -- Kubernetes ---------------------------------------------------------------------------------------


def documents() -> list[dict[str, Any]]:
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents() if one["kind"] == kind}


def test_manifests_fit_each_other() -> None:
    deployments = of_kind("Deployment")
    assert set(deployments) == {"perdure-worker", "perdure-dashboard"}
    for name, made in deployments.items():
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert made["spec"]["selector"]["matchLabels"] == labels
        (container,) = containers(made)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
        assert [probe["path"] for probe in probes] == [LIVE, LIVE, READY]
        assert {probe["port"] for probe in probes} <= set(ports)
        told = parsed(container["command"])
        environment = {one["name"]: one.get("value") for one in container["env"]}
        if name == "perdure-worker":
            assert int(environment["PERDURE_HEALTH_PORT"]) == ports["health"]
            assert environment["PERDURE_METRICS_PORT"] == environment["PERDURE_HEALTH_PORT"]
            assert environment["PERDURE_METRICS_HOST"] == environment["PERDURE_HEALTH_HOST"] == "0.0.0.0"
            annotations = made["spec"]["template"]["metadata"]["annotations"]
            assert annotations["prometheus.io/port"] == environment["PERDURE_METRICS_PORT"]
            assert told["metrics_of_database"] is True
            assert made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= told["grace"] + 10
            assert "replicas" not in made["spec"], "the autoscaler says how many"
        else:
            assert told["port"] == ports["http"]
            assert made["spec"]["replicas"] == 1
        policy = of_kind("NetworkPolicy")[name]
        assert policy["spec"]["podSelector"]["matchLabels"] == labels
        allowed = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
        assert allowed == list(ports.values())
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"] for volume in made["spec"]["template"]["spec"]["volumes"]}
        assert set(mounts) == volumes
        assert environment["PERDURE_URL_FILE"].startswith(mounts["url"] + "/")
    assert (
        of_kind("PodDisruptionBudget")["perdure-worker"]["spec"]["selector"]
        == deployments["perdure-worker"]["spec"]["selector"]
    )
    service = of_kind("Service")["perdure-dashboard"]["spec"]
    assert service["selector"] == deployments["perdure-dashboard"]["spec"]["selector"]["matchLabels"]
    for scaler in (*of_kind("ScaledObject").values(), *of_kind("HorizontalPodAutoscaler").values()):
        assert scaler["spec"]["scaleTargetRef"]["name"] == "perdure-worker"


def test_pods_may_do_what_the_strictest_standard_allows() -> None:
    """Kubernetes's pod security standard "restricted", which the namespace enforces."""
    for made in of_kind("Deployment").values():
        pod = made["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(made):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert not any("valueFrom" in one for one in container["env"])
        assert all(volume.keys() <= {"name", "secret", "emptyDir"} for volume in pod["volumes"])


def test_autoscaling_asks_for_what_is_told() -> None:
    """By the names that /metrics has."""
    told = Path(catalogue.__file__).read_text()
    for path in MANIFESTS:
        if path.stem.startswith("autoscaling"):
            names = set(re.findall(r"perdure_db_\w+", path.read_text())) - {"perdure_db_queue_load"}
            assert names
            assert all(f'"{name}"' in told for name in names), names


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_manifests_fit_the_schemas_of_kubernetes(path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate (22 MB)")
    for document in yaml.safe_load_all(path.read_text()):
        if not document["apiVersion"].startswith("keda.sh/"):
            validate.validate(document, "1.32", strict=True)


def test_kustomize_makes_one_of_all() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl")
    made = subprocess.run(
        [kubectl, "kustomize", str(DEPLOY / "kubernetes")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    built = list(yaml.safe_load_all(made.stdout))
    assert {one["metadata"].get("namespace", "perdure") for one in built} == {"perdure"}
    images = {container["image"] for one in built for container in containers(one)}
    assert images == {"registry.example.com/perdure-app:1"}
    assert sum(one["kind"] in ("ScaledObject", "HorizontalPodAutoscaler") for one in built) == 1


# -- systemd ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNITS, ids=named)
def test_units_wait_for_readiness_and_watch(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 30
    assert service["Restart"] == "always"
    assert service["User"] != "root"
    told = parsed(shlex.split(service["ExecStart"]))
    assert int(service["TimeoutStopSec"]) >= told.get("grace", 3) + 10
    for name in ("NoNewPrivileges", "PrivateTmp"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"


@pytest.mark.parametrize("path", UNITS, ids=named)
def test_systemd_takes_the_units(path: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    program = tmp_path / "perdure"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = re.sub(r"ExecStart=\S+", f"ExecStart={program}", path.read_text().replace("__NAME__", "shop"))
    unit = tmp_path / "perdure-tried.service"
    unit.write_text(text)
    judged = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    complaints = [line for line in judged.stderr.splitlines() if "perdure-tried" in line]
    assert not complaints
    if path.parent == DEPLOY / "systemd":
        exposed = subprocess.run(
            [analyze, "security", "--offline=true", "--no-pager", str(unit)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        found = re.search(r"exposure level for \S+: ([\d.]+)", exposed.stdout)
        if found is not None:  # older ones know nothing of it
            assert float(found[1]) < 2.5, exposed.stdout
