"""Reads manifests and says what is wrong with them.

Usage: check.py FILE.yaml...   prints JSON: {FILE: {"documents": [...], "complaints": ["...", ...]}}

What Kubernetes knows is held to its own schemas, strictly (an unknown key is a complaint), of the oldest
version that is promised and of the newest that is bundled. What it does not know (custom resources,
compose, prometheus-adapter) is held to small schemas of ours beside this file, which know the fields that
are used here and no others. Parts of custom resources that are Kubernetes' own, as containers, are wrapped
in what Kubernetes knows, and held to that.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

VERSIONS = ["1.28", kubernetes_validate.latest_version()]
SCHEMAS = pathlib.Path(__file__).parent / "schemas"


def schema_of(document):
    """The name of our schema for a document, or None where Kubernetes has one."""
    if "kind" not in document:
        return "Compose" if "services" in document else "PrometheusAdapter"
    kind = document["kind"].removeprefix("Cluster")
    return kind if (SCHEMAS / f"{kind}.json").exists() else None


def wrapped(document):
    """What a custom resource has of Kubernetes' own, as objects that Kubernetes knows."""
    name, spec = {"name": "x"}, document.get("spec", {})
    if document.get("kind", "").endswith("ServingRuntime"):
        pod = {key: spec[key] for key in ("containers", "volumes") if key in spec}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": name, "spec": pod}
    if document.get("kind") == "ScaledObject":
        config = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
        yield {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": name,
            "spec": {"scaleTargetRef": target, "maxReplicas": 1} | config,
        }


def complaints(document):
    if name := schema_of(document):
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
            yield f"{name}: {error.json_path}: {error.message}"
        known = list(wrapped(document))
    else:
        known = [document]
    for one in known:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{one['kind']}: {error.json_path}: {error.message} (Kubernetes {version})"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield error.message


def main():
    report = {}
    for path in sys.argv[1:]:
        documents = [it for it in yaml.safe_load_all(pathlib.Path(path).read_text()) if it]
        found = [complaint for it in documents for complaint in complaints(it)]
        report[path] = {"documents": documents, "complaints": found}
    json.dump({"versions": VERSIONS, "files": report}, sys.stdout)


main()
