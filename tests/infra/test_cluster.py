"""The files for Kubernetes and Ray, rendered and held against schemas.

Kubernetes' own come with kubernetes-validate, the autoscaler's with ray. KubeRay's are in no package: of a RayJob the
names of fields are compared with those of its v1 API, written down here, and its pods with Kubernetes' schema.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from calig.config import parse_config
from tests.material.services import ROOT

INFRA = ROOT / "infra"
RAY_JOB = {
    *(
        "activeDeadlineSeconds",
        "backoffLimit",
        "rayClusterSpec",
        "submitterPodTemplate",
        "metadata",
        "suspend",
    ),
    *("clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML"),
    *("jobId", "submissionMode", "entrypointResources", "entrypointNumCpus", "entrypointNumGpus"),
    *("ttlSecondsAfterFinished", "shutdownAfterJobFinishes"),
}
RAY_CLUSTER = {
    *("headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling", "autoscalerOptions"),
    *("headServiceAnnotations", "suspend"),
}
GROUP = {"rayStartParams", "template"}
WORKERS = GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((INFRA / name).read_text()))


def _validate(document: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    validate.validate(document, validate.latest_version(), strict=True)


def _pod(template: dict[str, Any]) -> dict[str, Any]:
    """A pod template as a Pod, which has a schema of its own."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": template["spec"]}


@pytest.mark.parametrize("name", ["worker.yaml", "audit.yaml"])
def test_kubernetes_takes_the_manifests(name: str) -> None:
    documents = _documents(f"kubernetes/{name}")
    assert {document["metadata"]["namespace"] for document in documents} == {"calig"}
    for document in documents:
        _validate(document)


def test_the_schemas_refuse_what_is_none() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    (job,) = _documents("kubernetes/audit.yaml")
    job["spec"]["template"]["spec"]["containers"][0]["imagee"] = "calig"
    with pytest.raises(validate.ValidationError, match="imagee"):
        _validate(job)


def _rendered(**values: Any) -> dict[str, Any]:
    """The Job that Prefect's Kubernetes worker makes of the pool's template."""
    from prefect.utilities.templating import apply_values

    worker = pytest.importorskip("prefect_kubernetes.worker", reason="pip install 'calig[kubernetes]'")
    template = json.loads((INFRA / "kubernetes" / "work-pool.json").read_text())
    properties = template["variables"]["properties"]
    defaults = {name: one["default"] for name, one in properties.items() if one.get("default") is not None}
    filled = apply_values(template["job_configuration"], {**defaults, **values}, remove_notset=True)
    configuration = worker.KubernetesWorkerJobConfiguration(**filled)
    configuration.command = "prefect flow-run execute"
    configuration.env = {"PREFECT_API_URL": "http://prefect.internal:4200/api", "PREFECT_API_KEY": "none"}
    configuration._populate_env_in_manifest()
    configuration._populate_image_if_not_present()
    configuration._populate_command_if_not_present()
    return dict(configuration.job_manifest)


def test_the_work_pools_jobs_are_kubernetes_jobs_with_a_gpu_and_their_secret() -> None:
    job = _rendered()
    _validate(job)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 1}
    assert container["envFrom"] == [{"secretRef": {"name": "calig", "optional": True}}]
    assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": "calig"}}]
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"]
    assert "PREFECT_API_URL" in {variable["name"] for variable in container["env"]}

    other = _rendered(gpus=4, secret="others", claim="models", image="registry.internal/calig")
    _validate(other)
    (container,) = other["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert container["image"] == "registry.internal/calig"
    assert container["envFrom"][0]["secretRef"]["name"] == "others"


def test_no_secret_is_in_the_files() -> None:
    for path in [*(INFRA / "kubernetes").iterdir(), *(INFRA / "ray").iterdir()]:
        assert "kind: Secret" not in path.read_text()
        assert "stringData" not in path.read_text()


def test_the_ray_job_has_the_fields_of_its_api_and_pods_that_kubernetes_takes() -> None:
    (job,) = _documents("ray/rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) <= RAY_JOB
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) <= RAY_CLUSTER
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) == GROUP
    assert all(set(group) == WORKERS for group in groups)
    for group in (head, *groups):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        _validate(_pod(group["template"]))
    (workers,) = groups
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert f"--set runtime.workers={workers['maxReplicas']}" in job["spec"]["entrypoint"]


def test_the_entry_points_are_audits_that_calig_takes(tmp_path: Path) -> None:
    """The overrides of both Ray files, on a configuration of their kind."""
    (job,) = _documents("ray/rayjob.yaml")
    commented = (INFRA / "ray" / "cluster.yaml").read_text().replace("# ", "").replace("\\\n", "")
    for command in (job["spec"]["entrypoint"], commented.split('"')[1]):
        words = command.split()
        values = dict(
            words[i + 1].removeprefix("runtime.").split("=")
            for i, word in enumerate(words)
            if word == "--set"
        )
        config = parse_config(
            {
                "model": {"id": "m"},
                "corpus": {"path": "c"},
                "runtime": {**values, "workers": int(values["workers"])},
            }
        )
        assert (config.runtime.engine, config.runtime.ray_address, config.runtime.workers) == (
            "ray",
            "auto",
            8,
        )


def test_ray_takes_the_cluster_file() -> None:
    ray = pytest.importorskip("ray", reason="pip install 'calig[ray]'")
    import jsonschema

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    (cluster,) = _documents("ray/cluster.yaml")
    jsonschema.validate(cluster, schema)
    assert cluster["max_workers"] == len(cluster["provider"]["worker_ips"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "workers": 3}, schema)
