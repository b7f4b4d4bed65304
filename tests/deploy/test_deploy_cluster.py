"""The files for clusters: Ray's own schema takes one, the other has what KubeRay requires."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


def test_the_cluster_file_is_valid_to_rays_launcher() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = read("cluster.yaml")
    # The launcher fills in its defaults for the provider before it validates.
    complete = util.prepare_config(config)
    util.validate_config(complete)
    with pytest.raises(Exception, match="max_workers"):
        util.validate_config({**complete, "max_workers": "many"})


def test_the_cluster_keeps_its_doors_shut() -> None:
    config = read("cluster.yaml")
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert any("chmod 600 ~/.ray/auth_token" in line for line in config["setup_commands"])
    assert "--dashboard-host=127.0.0.1" in " ".join(starts)


def test_the_rayjob_has_what_kuberay_requires() -> None:
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert (
            container["name"] and container["image"] and isinstance(group["rayStartParams"], dict)
        )
    for group in spec["workerGroupSpecs"]:
        assert group["groupName"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert spec["enableInTreeAutoscaling"] is True


def test_the_jobs_command_is_one_that_sia_gen_takes() -> None:
    from sia_gen.cli.run import run

    entrypoint = read("rayjob.yaml")["spec"]["entrypoint"]
    program, command, *arguments = shlex.split(entrypoint)
    assert (program, command) == ("sia-gen", "run")
    context = run.make_context("run", arguments, resilient_parsing=False)
    assert isinstance(context, click.Context) and context.params["address"] == "auto"


def test_nothing_installs_a_name_that_no_index_has() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *DEPLOY.iterdir()]
    for path in texts:
        text = path.read_text()
        assert "pip install 'sia-gen" not in text and "pip install sia-gen" not in text, path
    for folder in ("sia_gen", "detector", "harness"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "pip install 'sia-gen" not in path.read_text(), path
