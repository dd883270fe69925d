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
# Of the sysctls that the Pod Security Standards allow, those that a network server has a use for (1.32).
SAFE_SYSCTLS = {f"net.ipv4.{name}" for name in ("tcp_rmem", "tcp_wmem", "tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes", "tcp_fin_timeout", "tcp_syncookies", "ip_local_port_range")}
OPENSHIFT_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
PACKAGES = {"gateway.networking.k8s.io": "@kubernetes-models/gateway-api", "cert-manager.io": "@kubernetes-models/cert-manager"}


def seconds(text):
    """Kubernetes gives numbers, the server's settings durations such as 1m30s."""
    units = {"ms": 0.001, "s": 1, "m": 60}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|m|s)", text))


def known_settings(repo):
    sources = [*repo.glob("src/config.rs"), *repo.glob("src/config/**/*.rs")]
    return {name for source in sources for name in re.findall(r'"([A-Z][A-Z_]+)"', source.read_text())}


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
    drain = [seconds(r.env[name]["value"]) for name in ("SHUTDOWN_DELAY", "DRAIN_TIMEOUT")]
    stop = r.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = r.pod["terminationGracePeriodSeconds"]
    if grace != stop + sum(drain) + 5:
        yield f"terminationGracePeriodSeconds is {grace}, not preStop {stop} + SHUTDOWN_DELAY and DRAIN_TIMEOUT {drain} + 5"
    probe = r.container["livenessProbe"]
    if probe["periodSeconds"] * probe["failureThreshold"] <= sum(drain):
        yield "the livenessProbe is not patient enough for the drain"


def settings(r):
    (source,) = [entry["configMapRef"]["name"] for entry in r.container["envFrom"] if "configMapRef" in entry]
    config = r.one("ConfigMap")
    if source != config["metadata"]["name"] or not re.fullmatch(r"httpserver-settings-[a-z0-9]{10}", source):
        yield f"the pods read ConfigMap {source}, the ConfigMap is {config['metadata']['name']}"
    known = known_settings(r.repo) | {"POD_NAME", "POD_NAMESPACE", "NODE_NAME"}
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
    pod = dict(spec["securityContext"])
    if unsafe := {entry["name"] for entry in pod.pop("sysctls", [])} - SAFE_SYSCTLS:
        yield f"sysctls that the standard does not allow: {sorted(unsafe)}"
    for field in ("enforce", "warn"):
        if r.one("Namespace")["metadata"]["labels"].get(f"pod-security.kubernetes.io/{field}") != "restricted":
            yield f"the namespace does not {field} the standard"
    if [f for f in ("hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers") if spec.get(f)]:
        yield "the pod has more than one plain container"
    if pod != {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}:
        yield "the pod's security context is not the restricted one"
    if context != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}:
        yield "the container's security context is not the restricted one"
    if spec.get("automountServiceAccountToken") is not False or spec.get("enableServiceLinks") is not False:
        yield "the pod gets a token or service links"


def openshift(r):
    """OpenShift's constraint restricted-v2, which admits a pod of a plain service account: `restricted`, and ids and
    SELinux labels come from the namespace. A pod that names an id outside of the namespace's range is refused, and no
    id is inside of all ranges. Without one, runAsNonRoot elsewhere rests on the image's numeric USER."""
    contexts = {"pod": r.pod["securityContext"], "container": r.container["securityContext"]}
    for where, context in contexts.items():
        for field in ("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions"):
            if field in context:
                yield f"the {where} names {field}, which OpenShift assigns"
        if context.get("privileged") or context.get("allowPrivilegeEscalation"):
            yield f"the {where} asks for privileges"
        if context.get("seccompProfile", {"type": "RuntimeDefault"}) != {"type": "RuntimeDefault"}:
            yield f"the {where} asks for another seccomp profile than the runtime's"
    if set(contexts["container"]["capabilities"].get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "the container adds capabilities"
    if any("hostPort" in port for port in r.container["ports"]):
        yield "the container asks for a port of the node"
    if volumes := {kind for volume in r.pod.get("volumes", []) for kind in volume if kind != "name"} - OPENSHIFT_VOLUMES:
        yield f"volumes of a kind that is not allowed: {sorted(volumes)}"
    user = re.findall(r"^USER (.*)$", (r.repo / "Dockerfile").read_text(), re.M)[-1]
    if not re.fullmatch(r"[1-9]\d*(:\d+)?", user):
        yield f"the image's USER is {user}, not a number other than 0"


def resources(r):
    named = {"cpu", "memory", "ephemeral-storage"}
    requests, limits = (r.container["resources"][field] for field in ("requests", "limits"))
    if requests.keys() != named or limits.keys() != named:
        yield f"requests and limits do not both name {sorted(named)}"
    if requests == limits:
        yield "requests equal limits: that is Guaranteed, not Burstable"


def burning(r):
    """/burn uses a core for everyone who asks: only where an autoscaler by CPU needs something to see."""
    metrics = [m for scaler in r.all("HorizontalPodAutoscaler") for m in scaler["spec"]["metrics"]]
    by_cpu = any(m["type"] == "Resource" and m["resource"]["name"] == "cpu" for m in metrics)
    if by_cpu != (r.one("ConfigMap")["data"].get("ALLOW_BURN") == "true"):
        yield "ALLOW_BURN is not true exactly where pods are scaled by CPU"


def readers(r):
    """What Prometheus and Alloy may do here goes with the namespace, so it comes back with it."""
    allowed = {"prometheus": {("pods", "get list watch")}, "alloy": {("pods", "get list watch"), ("pods/log", "get")}}
    rules = {o["metadata"]["name"]: o["rules"] for o in r.all("Role")}
    found = {}
    for o in r.all("RoleBinding"):
        for subject in o["subjects"]:
            if (subject["kind"], subject["namespace"]) != ("ServiceAccount", "monitoring"):
                yield f"RoleBinding {o['metadata']['name']} names {subject}"
            granted = rules.get(o["roleRef"]["name"], [])
            found[subject["name"]] = {(resource, " ".join(rule["verbs"])) for rule in granted for resource in rule["resources"]}
    if found != allowed:
        yield f"the Roles of the namespace give {found}"


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


CHECKS = [labels, selectors, ports, paths, ending, settings, version, restricted, openshift, resources, burning, readers, scaling, entrances]


def manual(repo):
    """k8s/README.md: every component twice (what it gives, how it is taken out), a source for every figure of a cloud
    provider, and no setting that the server does not have."""
    text = (repo / "k8s/README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for component in sorted(path.name for path in (repo / "k8s/components").iterdir()):
        if sum(f"`{component}`" in row.split("|")[1] for row in rows) != 2:
            yield f"component {component} is not once in the table of components and once in that of their removal"
    for provider in ("Google Cloud", "AWS, Application", "AWS, Network", "Azure"):
        found = [row for row in rows if row.startswith(f"| {provider}")]
        if len(found) != 1 or "[source][" not in found[0]:
            yield f"{provider}: no row with a source in the table of load balancers"
    used, defined = (set(re.findall(pattern, text, re.M)) for pattern in (r"\[source\]\[(\S+?)\]", r"^\[(\S+)\]: https://"))
    if used != defined:
        yield f"sources without an address, or addresses without use: {sorted(used ^ defined)}"
    if unknown := set(re.findall(r"`([A-Z]+_[A-Z_]+)", text)) - known_settings(repo):
        yield f"{sorted(unknown)} are no settings of the server"


def agree(repo, files):
    complaints = 0
    for complaint in manual(Path(repo)):
        print(f"manual: {complaint}")
        complaints += 1
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
