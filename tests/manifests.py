#!/usr/bin/env python3
"""Do the manifests agree with each other, and with the program?

    manifests.py agree REPO FILE...     complaints on stdout, exit status 1 if any
    manifests.py builtin FILE           the objects of FILE that Kubernetes itself defines, as YAML
    manifests.py typescript FILE...     the others as TypeScript, for the compiler to check against their types

A schema knows that a port is a number or a name; it does not know that the name
is spelt the same in four files, that a grace period is a sum, or that a variable
nobody reads is a typing error. That is what `agree` checks, on rendered files
(the output of `kubectl kustomize`), so that it sees what a cluster would see.
"""
import json
import re
import sys
from pathlib import Path

import yaml

SELECTOR = {"app.kubernetes.io/name": "httpserver", "app.kubernetes.io/instance": "httpserver"}
LABELS = {*SELECTOR, *(f"app.kubernetes.io/{name}" for name in ("version", "component", "managed-by"))}
PACKAGES = {"gateway.networking.k8s.io": "@kubernetes-models/gateway-api", "cert-manager.io": "@kubernetes-models/cert-manager"}


def seconds(text):
    """Kubernetes gives numbers, the server's settings durations such as 1m30s."""
    units = {"ms": 0.001, "s": 1, "m": 60}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|m|s)", text))


class Rendered:
    """One rendered file, and the objects that everything else refers to."""

    def __init__(self, path, repo):
        self.repo = repo
        self.objects = [o for o in yaml.safe_load_all(path.read_text()) if o]
        self.deployment = self.one("Deployment")
        self.template = self.deployment["spec"]["template"]
        self.pod = self.template["spec"]
        (self.container,) = self.pod["containers"]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.service = self.one("Service")
        self.env = {entry["name"]: entry for entry in self.container["env"]}

    def all(self, kind):
        return [o for o in self.objects if o["kind"] == kind]

    def one(self, kind):
        (found,) = self.all(kind)
        return found


def labels(r):
    for o in r.objects:
        who = f"{o['kind']}/{o['metadata']['name']}"
        if missing := LABELS - o["metadata"].get("labels", {}).keys():
            yield f"{who} lacks the labels {sorted(missing)}"
        if o["kind"] != "Namespace" and o["metadata"].get("namespace") != r.one("Namespace")["metadata"]["name"]:
            yield f"{who} is not in the namespace"
    if missing := LABELS - r.template["metadata"]["labels"].keys():
        yield f"the pods lack the labels {sorted(missing)}"


def selectors(r):
    found = {"Deployment": r.deployment["spec"]["selector"]["matchLabels"], "Service": r.service["spec"]["selector"]}
    found["PodDisruptionBudget"] = r.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    found["NetworkPolicy"] = r.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    for constraint in r.pod["topologySpreadConstraints"]:
        found["topologySpreadConstraints"] = constraint["labelSelector"]["matchLabels"]
    for term in r.pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]:
        found["podAntiAffinity"] = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
    for who, selector in found.items():
        if selector != SELECTOR:
            yield f"the selector of {who} is {selector}, not name and instance alone"
    if not SELECTOR.items() <= r.template["metadata"]["labels"].items():
        yield "the selector does not match the pods"


def ports(r):
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if r.container[probe]["httpGet"]["port"] not in r.ports:
            yield f"{probe} asks a port that the container does not name"
    for port in r.service["spec"]["ports"]:
        if port["targetPort"] not in r.ports:
            yield f"the Service sends to a port {port['targetPort']} that the container does not name"
        if port["port"] != r.ports.get(port["name"]):
            yield f"the Service's port {port['name']} has another number than the container's"
    policy = r.one("NetworkPolicy")["spec"]
    if policy["policyTypes"] != ["Ingress", "Egress"] or "egress" in policy:
        yield "the NetworkPolicy does not close every way out"
    for rule in policy["ingress"]:
        if [port["port"] for port in rule["ports"]] != list(r.ports.values()):
            yield "the NetworkPolicy opens other ports than the container's"
    if r.template["metadata"]["annotations"]["prometheus.io/port"] not in map(str, r.ports.values()):
        yield "prometheus.io/port is not a port of the container"


def paths(r):
    wanted = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    for probe, path in wanted.items():
        if r.container[probe]["httpGet"]["path"] != path:
            yield f"{probe} asks for another path than {path}"


def ending(r):
    drain = [seconds(r.env[name]["value"]) for name in ("DRAIN_LINGER", "DRAIN_TIMEOUT")]
    stop = r.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = r.pod["terminationGracePeriodSeconds"]
    if grace != stop + sum(drain) + 5:
        yield f"terminationGracePeriodSeconds is {grace}, not preStop {stop} + DRAIN_LINGER and DRAIN_TIMEOUT {drain} + 5"
    probe = r.container["livenessProbe"]
    if probe["periodSeconds"] * probe["failureThreshold"] <= sum(drain):
        yield "the livenessProbe is not patient enough for the drain"


def settings(r):
    (source,) = [entry["configMapRef"]["name"] for entry in r.container["envFrom"] if "configMapRef" in entry]
    config = r.one("ConfigMap")
    if source != config["metadata"]["name"] or not re.fullmatch(r"httpserver-settings-[a-z0-9]{10}", source):
        yield f"the pods read ConfigMap {source}, the ConfigMap is {config['metadata']['name']}"
    known = set(re.findall(r'"([A-Z][A-Z_]+)"', (r.repo / "src/config.rs").read_text()))
    known |= {"POD_NAME", "POD_NAMESPACE", "NODE_NAME"}
    for name in sorted(config["data"].keys() | r.env.keys()):
        if name not in known:
            yield f"{name} is not a setting of the server"
        if name in config["data"] and name in r.env:
            yield f"{name} stands both in the ConfigMap and in the Deployment"
    for entry in r.container["envFrom"]:
        if "secretRef" in entry and entry["secretRef"] != {"name": "httpserver-admin", "optional": True}:
            yield "the admin token's Secret is not optional, or has another name than in the README"


def version(r):
    tag = r.container["image"].rpartition(":")[2]
    package = re.search(r'^version = "(.*)"', (r.repo / "Cargo.toml").read_text(), re.M)[1]
    seen = {o["metadata"]["labels"]["app.kubernetes.io/version"] for o in [*r.objects, r.template]}
    if seen != {package} or tag != package:
        yield f"the package is {package}, the image's tag {tag}, the labels say {seen}"
    source = r.env["VERSION"]["valueFrom"]["fieldRef"]["fieldPath"]
    if source != "metadata.labels['app.kubernetes.io/version']":
        yield f"VERSION comes from {source}"


def restricted(r):
    """The Pod Security Standard, which the test cluster is too old to enforce."""
    spec, context = r.pod, r.container["securityContext"]
    for field in ("enforce", "warn"):
        if r.one("Namespace")["metadata"]["labels"].get(f"pod-security.kubernetes.io/{field}") != "restricted":
            yield f"the namespace does not {field} the standard"
    if [f for f in ("hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers") if spec.get(f)]:
        yield "the pod has more than one plain container"
    if spec["securityContext"] != {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}:
        yield "the pod's security context is not the restricted one"
    if context != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}:
        yield "the container's security context is not the restricted one"
    if spec.get("automountServiceAccountToken") is not False or spec.get("enableServiceLinks") is not False:
        yield "the pod gets a token or service links"


def burstable(r):
    resources = r.container["resources"]
    if resources["requests"].keys() != {"cpu", "memory"} or resources["limits"].keys() != {"cpu", "memory"}:
        yield "requests and limits do not both name CPU and memory"
    if resources["requests"] == resources["limits"]:
        yield "requests equal limits: that is Guaranteed, not Burstable"


def scaling(r):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": r.deployment["metadata"]["name"]}
    scalers = r.all("HorizontalPodAutoscaler")
    if bool(scalers) == ("replicas" in r.deployment["spec"]):
        yield "the number of pods must have one owner: replicas or an autoscaler"
    for scaler in scalers:
        if scaler["spec"]["scaleTargetRef"] != target:
            yield "the autoscaler scales something else"


def entrances(r):
    """Ingress, Gateway and Certificate: one host, one Secret, our Service."""
    hosts, secrets, backends = set(), set(), set()
    for o in r.all("Ingress"):
        for tls in o["spec"]["tls"]:
            hosts |= set(tls["hosts"])
            secrets.add(tls["secretName"])
        for rule in o["spec"]["rules"]:
            hosts.add(rule["host"])
            backends |= {(p["backend"]["service"]["name"], p["backend"]["service"]["port"]["name"]) for p in rule["http"]["paths"]}
    listeners = [entry for o in r.all("Gateway") for entry in o["spec"]["listeners"]]
    hosts |= {entry["hostname"] for entry in listeners}
    secrets |= {ref["name"] for entry in listeners for ref in entry.get("tls", {}).get("certificateRefs", [])}
    parents = {(o["metadata"]["name"], entry["name"]) for o in r.all("Gateway") for entry in o["spec"]["listeners"]}
    for o in r.all("HTTPRoute"):
        hosts |= set(o["spec"]["hostnames"])
        if not {(ref["name"], ref["sectionName"]) for ref in o["spec"]["parentRefs"]} <= parents:
            yield f"HTTPRoute/{o['metadata']['name']} names a listener that no Gateway has"
        backends |= {(ref["name"], ref["port"]) for rule in o["spec"]["rules"] for ref in rule.get("backendRefs", [])}
    for o in r.all("Certificate"):
        hosts |= set(o["spec"]["dnsNames"])
        secrets.add(o["spec"]["secretName"])
        if o["spec"]["issuerRef"]["name"] not in [issuer["metadata"]["name"] for issuer in r.all("Issuer")]:
            yield "the Certificate names an Issuer that is not there"
    if len(hosts) > 1:
        yield f"more than one host: {sorted(hosts)}"
    if not secrets <= {"httpserver-tls"}:
        yield f"TLS secrets other than the README's: {sorted(secrets)}"
    known = {(r.service["metadata"]["name"], key) for port in r.service["spec"]["ports"] for key in (port["name"], port["port"])}
    if not backends <= known:
        yield f"requests go to {sorted(backends - known)}, which is no port of the Service"


CHECKS = [labels, selectors, ports, paths, ending, settings, version, restricted, burstable, scaling, entrances]


def agree(repo, files):
    complaints = 0
    for file in files:
        rendered = Rendered(Path(file), Path(repo))
        for check in CHECKS:
            for complaint in check(rendered):
                print(f"{Path(file).stem}: {check.__name__}: {complaint}")
                complaints += 1
    print(f"{len(CHECKS)} checks on {len(files)} files, {complaints} complaints")
    return 1 if complaints else 0


def foreign(o):
    return o["apiVersion"].partition("/")[0] in PACKAGES


def objects(file):
    return [o for o in yaml.safe_load_all(Path(file).read_text()) if o]


def builtin(file):
    yaml.safe_dump_all([o for o in objects(file) if not foreign(o)], sys.stdout)


def typescript(files):
    """An annotated literal: the compiler then refuses unknown fields too, which a validator lets pass."""
    for number, o in enumerate(o for file in files for o in objects(file) if foreign(o)):
        kind, module = o["kind"], f"{PACKAGES[o['apiVersion'].partition('/')[0]]}/{o['apiVersion']}/{o['kind']}"
        print(f'import {{ {kind} as Kind{number}, type I{kind} as Type{number} }} from "{module}";')
        print(f"const object{number}: Type{number} = {json.dumps(o)};\nnew Kind{number}(object{number}).validate();")


def main(command, *arguments):
    if command == "agree":
        return agree(arguments[0], arguments[1:])
    return {"builtin": lambda: builtin(*arguments), "typescript": lambda: typescript(arguments)}[command]()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
