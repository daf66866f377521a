"""The container files say what the service does by itself: settings, ports, times."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from headway.contract.settings import Settings, load
from tests.support.checkout import ROOT
from tests.support.programs import program

KUBERNETES = ROOT / "deploy" / "kubernetes"
NEWEST = "1.31"
"""The version of Kubernetes whose schemas the manifests are checked against."""
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
APP = json.loads((ROOT / "app.json").read_text())
SETTINGS: Settings = load({"REDIS_URL": "redis://127.0.0.1"})
PROCFILE = dict(
    re.findall(r"(?m)^(\w+): exec (.+)$", (ROOT / "Procfile").read_text()),
)
OWN = {name.upper() for name in Settings.model_fields}


def manifests() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name} {document['kind']}", document)
        for path in sorted(KUBERNETES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


def deployment(name: str) -> dict[str, Any]:
    found: dict[str, Any] = dict(manifests())[f"{name}.yaml Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize(
    "manifest",
    [one for _, one in manifests() if one["kind"] not in ("Kustomization", "ScaledObject")],
    ids=lambda one: f"{one['kind']} {one['metadata']['name']}",
)
def test_a_manifest_is_what_kubernetes_takes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, NEWEST, strict=True)


def test_the_kustomization_names_what_is_there_and_everything_but_what_needs_more_than_kubernetes() -> None:
    kustomization = dict(manifests())["kustomization.yaml Kustomization"]
    there = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "keda.yaml"}
    assert set(kustomization["resources"]) == there
    assert {image["name"] for image in kustomization["images"]} == {"headway-web", "headway-worker"}


def test_every_setting_that_they_make_is_one() -> None:
    env = dict(re.findall(r"(?m)^(\w+)=(.*)$", (KUBERNETES / "headway.env").read_text()))
    made = set(env) | set(APP["env"])
    for service in ("web", "worker"):
        made |= set(COMPOSE["services"][service]["environment"])
    for container in (deployment(name)["containers"][0] for name in ("web", "worker")):
        made |= {one["name"] for one in container.get("env", [])}
    made |= set(re.findall(r"(?:ENV | )([A-Z_]+)=", DOCKERFILE)) - {
        "PATH",
        "PYTHONUNBUFFERED",
        "PYTHONDONTWRITEBYTECODE",
    }
    assert made <= OWN
    load({"REDIS_URL": "redis://127.0.0.1", **env, "HOST": "0.0.0.0"})
    heroku = {name: about["value"] for name, about in APP["env"].items() if "value" in about}
    load({"REDIS_URL": "rediss://127.0.0.1", **heroku})


def test_containers_start_what_the_procfile_starts() -> None:
    commands = re.findall(r"(?m)^FROM base AS (\w+)\n(?:.*\n)*?CMD (\[.*\])$", DOCKERFILE)
    assert {name: " ".join(json.loads(command)) for name, command in commands} == PROCFILE
    for name in PROCFILE:
        assert COMPOSE["services"][name]["build"]["target"] == name
        assert APP["formation"][name]["quantity"] >= 1


def test_each_has_the_time_that_it_needs_to_stop() -> None:
    for name in ("web", "worker"):
        assert int(COMPOSE["services"][name]["stop_grace_period"].rstrip("s")) > SETTINGS.drain_s + 2
    web, worker = deployment("web"), deployment("worker")
    pause_s = web["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert web["terminationGracePeriodSeconds"] > pause_s + SETTINGS.drain_s + 2
    env = {one["name"]: one["value"] for one in worker["containers"][0]["env"]}
    assert worker["terminationGracePeriodSeconds"] >= float(env["DRAIN_JOBS_S"]) + 10


def test_probes_ask_what_they_are_for() -> None:
    container = deployment("web")["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert "/healthz" in DOCKERFILE
    assert container["ports"][0]["containerPort"] == SETTINGS.port


@pytest.mark.parametrize("name", ["web", "worker"])
def test_containers_may_do_little(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    context = deployment(name)["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    user = deployment(name)["securityContext"]["runAsUser"]
    assert f"\nUSER {user}:{user}\n" in DOCKERFILE


def test_the_proxy_of_compose_is_believed_and_understands_its_file(tmp_path: Path) -> None:
    subnet = COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"]
    assert subnet in COMPOSE["services"]["web"]["environment"]["TRUSTED_PROXIES"].split(",")
    file = ROOT / "deploy" / "compose" / "haproxy.cfg"
    ran = subprocess.run(
        [program("haproxy"), "-c", "-f", file], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert ran.returncode == 0, ran.stderr
