#!/usr/bin/env python3
"""Does a second `kubectl apply` change nothing? manifests_settled.py FILE... (rendered manifests; needs PyYAML).

The API server fills in defaults and drops empty lists, and kubectl compares what it applied with what the server keeps.
In a map, and in a list whose entries have a key, it compares field by field, so a default that the server added does
no harm. Other lists are compared as a whole: there a missing default makes every apply say "configured". An empty list
or a quantity in another form than the server's ("1024Mi" is kept as "1Gi") does the same, and `kubectl diff` is never
empty. So this fills the defaults in, as the API server would, and complains wherever that changes anything.
`tests/monitoring/discovery.sh` and `tests/cluster.sh` ask a real API server the same question.
"""
import re
import sys
from pathlib import Path

import yaml

GATEWAY_API = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
ANY_PATH = {"path": {"type": "PathPrefix", "value": "/"}}

# Defaults inside lists that are compared as a whole, by kind and place. Of a custom resource every list is one.
DEFAULTS = {
    ("NetworkPolicy", "spec.ingress[].ports[]"): {"protocol": "TCP"},
    ("NetworkPolicy", "spec.egress[].ports[]"): {"protocol": "TCP"},
    ("HTTPRoute", "spec.parentRefs[]"): GATEWAY_API,
    ("HTTPRoute", "spec.rules[]"): {"matches": [ANY_PATH]},
    ("HTTPRoute", "spec.rules[].backendRefs[]"): {"group": "", "kind": "Service", "weight": 1},
    ("HTTPRoute", "spec.rules[].filters[].requestRedirect"): {"statusCode": 302},
    ("Gateway", "spec.listeners[]"): {"allowedRoutes": {"namespaces": {"from": "Same"}}},
    ("Gateway", "spec.listeners[].tls"): {"mode": "Terminate"},
    ("Gateway", "spec.listeners[].tls.certificateRefs[]"): {"group": "", "kind": "Secret"},
    ("ServiceMonitor", "spec.endpoints[].relabelings[]"): {"action": "replace"},
    ("ServiceMonitor", "spec.endpoints[].metricRelabelings[]"): {"action": "replace"},
}
QUANTITIES = re.compile(r"\.(requests|limits)\.[\w.-]+$|\.sizeLimit$")
BINARY = ["", "Ki", "Mi", "Gi", "Ti"]


def canonical(quantity):
    """A quantity in the form in which the API server writes it."""
    text = str(quantity)
    if found := re.fullmatch(r"(\d+)m", text):
        return str(int(found[1]) // 1000) if int(found[1]) % 1000 == 0 else text
    if found := re.fullmatch(r"(\d+)\.(\d{1,3})", text):
        return canonical(f"{int(found[1] + found[2].ljust(3, '0'))}m")
    if found := re.fullmatch(r"(\d+)([KMG]i)", text):
        number, unit = int(found[1]), BINARY.index(found[2])
        while number % 1024 == 0:
            number, unit = number // 1024, unit + 1
        return f"{number}{BINARY[unit]}"
    return text


def stored(value, kind, place):
    """What the API server would keep of it."""
    if isinstance(value, dict):
        filled = {**DEFAULTS.get((kind, place), {}), **value}
        kept = {key: stored(entry, kind, f"{place}.{key}".lstrip(".")) for key, entry in filled.items()}
        return {key: entry for key, entry in kept.items() if entry is not None and entry != []}
    if isinstance(value, list):
        return [stored(entry, kind, f"{place}[]") for entry in value]
    return canonical(value) if QUANTITIES.search(place) else value


def differences(applied, kept, place=""):
    if isinstance(applied, dict) and isinstance(kept, dict):
        for key in sorted(applied.keys() | kept.keys()):
            yield from differences(applied.get(key), kept.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(applied, list) and isinstance(kept, list) and len(applied) == len(kept):
        for number, (one, other) in enumerate(zip(applied, kept)):
            yield from differences(one, other, f"{place}[{number}]")
    elif applied != kept:
        yield f"{place}: {applied!r} is kept as {kept!r}"


def main(*files):
    count, complaints = 0, 0
    for file in files:
        for o in filter(None, yaml.safe_load_all(Path(file).read_text())):
            count += 1
            for difference in differences(o, stored(o, o["kind"], "")):
                print(f"{Path(file).stem}: {o['kind']}/{o['metadata']['name']}: {difference}")
                complaints += 1
    print(f"{count} objects of {len(files)} files as the API server would keep them, {complaints} differences")
    return 1 if complaints or not count else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
