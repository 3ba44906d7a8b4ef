"""Kubernetes manifests against the API's own schemas.

    kubectl kustomize FOLDER | python -m tests.deploy.manifests [--crds FOLDER] -

Built-in kinds are checked with the strict schemas of `kubernetes-validate`, which needs no network: an
unknown field is an error. Kinds of operators are checked where the folder holds their
CustomResourceDefinition, and named otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

VERSION = "1.31"
"""The oldest release that the manifests are for."""

Schemas = dict[tuple[str, str], dict[str, Any]]


def documents(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a stream of YAML documents."""
    yield from (document for document in yaml.safe_load_all(text) if document)


def is_built_in(manifest: dict[str, Any]) -> bool:
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and not group.startswith("kustomize."))


def problems(manifest: dict[str, Any], schemas: Schemas | None = None, version: str = VERSION) -> list[str]:
    """What the API server would refuse."""
    name = f"{manifest['kind']}/{manifest['metadata']['name']}"
    if is_built_in(manifest):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            return [f"{name}: {'.'.join(map(str, error.path))}: {error.message[:300]}"]
        return []
    schema = (schemas or {}).get((manifest["apiVersion"], manifest["kind"]))
    if schema is None:
        return []
    found = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    return [f"{name}: {'.'.join(map(str, error.path))}: {error.message[:300]}" for error in found]


def custom_schemas(texts: Iterable[str]) -> Schemas:
    """Schemas by (apiVersion, kind) from CustomResourceDefinitions; unknown fields are refused."""
    found: Schemas = {}
    for text in texts:
        for crd in documents(text):
            spec = crd["spec"]
            for served in spec["versions"]:
                schema = served["schema"]["openAPIV3Schema"]
                _close(schema)
                # What every object has, and the definitions leave to the API server.
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{spec['group']}/{served['name']}", spec["names"]["kind"]] = schema
    return found


def _close(schema: Any) -> None:
    """As the API server prunes: a field that the definition does not know is a mistake."""
    if isinstance(schema, list):
        for item in schema:
            _close(item)
    if not isinstance(schema, dict):
        return
    if (
        isinstance(schema.get("properties"), dict)
        and not schema.get("x-kubernetes-preserve-unknown-fields")
        and "additionalProperties" not in schema
    ):
        schema["additionalProperties"] = False
    for key, inner in schema.items():
        # Inside anyOf and oneOf a schema says a part of what its parent says.
        if key not in ("anyOf", "oneOf", "allOf", "not"):
            _close(inner)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--crds", type=Path, help="folder of CustomResourceDefinitions, as YAML")
    parser.add_argument("--version", default=VERSION)
    parser.add_argument("files", nargs="+", type=argparse.FileType())
    options = parser.parse_args()
    schemas = (
        custom_schemas(p.read_text() for p in sorted(options.crds.glob("*.yaml"))) if options.crds else {}
    )
    wrong, checked, unknown = [], 0, []
    for file in options.files:
        for manifest in documents(file.read()):
            known = is_built_in(manifest) or (manifest["apiVersion"], manifest["kind"]) in schemas
            checked += known
            if not known:
                unknown.append(f"{manifest['kind']}/{manifest['metadata']['name']}")
            wrong += problems(manifest, schemas, options.version)
    print("\n".join(wrong), end="\n" if wrong else "")
    print(f"{checked} objects checked against Kubernetes {options.version}, {len(wrong)} wrong")
    if unknown:
        print(f"without a schema: {', '.join(unknown)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
