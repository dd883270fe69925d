#!/usr/bin/env python3
"""Do the parts of k8s/monitoring agree with each other? agree.py MONITORING.YAML OPERATOR.YAML SERVER.YAML (needs PyYAML).

A schema does not know that a name is spelt the same in two files. What must agree: Services with the pods behind them,
NetworkPolicies and probes with the containers' ports, volumes with the ConfigMaps, the addresses that Grafana and Alloy
are given with the Services, the watched namespaces with the Roles (which stand with the server, so that they come back
with its namespace), Loki's memory limit with what it is told of it, and the scrape interval in all of its places, since
$__rate_interval is wrong when Grafana believes another than Prometheus keeps.
"""
import pathlib
import re
import sys
import urllib.parse

import yaml

MONITORING = pathlib.Path(__file__).resolve().parent.parent.parent / "k8s" / "monitoring"
BY_HAND = {"grafana-admin"}


def read(path):
    return yaml.safe_load((MONITORING / path).read_text())


def of(objects, kind):
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}


def pods(objects):
    for name, deployment in of(objects, "Deployment").items():
        template = deployment["spec"]["template"]
        (container,) = template["spec"]["containers"]
        yield name, template["metadata"]["labels"], template["spec"], container, {p["name"]: p["containerPort"] for p in container["ports"]}


def services(objects):
    by_name = {name: (labels, ports) for name, labels, _, _, ports in pods(objects)}
    for name, service in of(objects, "Service").items():
        labels, ports = by_name.get(name, ({}, {}))
        if not service["spec"]["selector"].items() <= labels.items():
            yield f"Service {name} selects no pod"
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service {name} sends to a port that the container does not name"
    for name, policy in of(objects, "NetworkPolicy").items():
        labels, ports = by_name.get(name, ({}, {}))
        if not policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items():
            yield f"NetworkPolicy {name} selects no pod"
        for rule in policy["spec"].get("ingress", []):
            if {p["port"] for p in rule["ports"]} != set(ports.values()):
                yield f"NetworkPolicy {name} opens other ports than the container's"
    if missing := by_name.keys() - of(objects, "NetworkPolicy").keys():
        yield f"no NetworkPolicy for {sorted(missing)}"


def containers(objects):
    maps, accounts = of(objects, "ConfigMap"), of(objects, "ServiceAccount")
    for name, _, spec, container, ports in pods(objects):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            action = container.get(probe, {})
            asked = action.get("httpGet") or action.get("tcpSocket")
            if asked and asked["port"] not in ports:
                yield f"{name}: {probe} asks a port that the container does not name"
            if asked and action.get("timeoutSeconds", 1) < 5:
                yield f"{name}: {probe} waits for less than 5 s, which a loaded node may need"
        if spec["serviceAccountName"] not in accounts:
            yield f"{name}: no ServiceAccount {spec['serviceAccountName']}"
        mounted = {m["name"] for m in container["volumeMounts"]}
        for volume in spec["volumes"]:
            if volume["name"] not in mounted:
                yield f"{name}: volume {volume['name']} is not mounted"
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{name}: no ConfigMap {volume['configMap']['name']}"
            if "secret" in volume and volume["secret"]["secretName"] not in BY_HAND:
                yield f"{name}: no Secret {volume['secret']['secretName']}"


def addresses(objects):
    given = {source["name"]: source["url"] for source in read("grafana/datasources.yaml")["datasources"]}
    given["Alloy"] = re.search(r'url = "(.*)"', (MONITORING / "alloy/config.alloy").read_text())[1]
    known = {(f"{name}.{s['metadata']['namespace']}.svc", p["port"]) for name, s in of(objects, "Service").items() for p in s["spec"]["ports"]}
    for who, url in given.items():
        address = urllib.parse.urlsplit(url)
        if (address.hostname, address.port) not in known:
            yield f"{who}: no Service at {url}"


def namespaces(objects, server):
    job = read("prometheus/prometheus.yml")["scrape_configs"][0]
    alloy = re.search(r"names = \[(.*)\]", (MONITORING / "alloy/config.alloy").read_text())[1]
    watched = {
        "prometheus": set(job["kubernetes_sd_configs"][0]["namespaces"]["names"]),
        "alloy": {name.strip(' "') for name in alloy.split(",")},
    }
    for who, names in watched.items():
        bound = {o["metadata"]["namespace"] for o in server if o["kind"] == "RoleBinding" and o["subjects"][0]["name"] == who}
        if bound != names:
            yield f"{who} watches {sorted(names)} and may read {sorted(bound)}"
    for o in objects:
        if o["kind"] != "Namespace" and o["metadata"]["namespace"] != "monitoring":
            yield f"{o['kind']} {o['metadata']['name']} ends with the namespace {o['metadata']['namespace']} and does not come back with it"


def memory(objects):
    """Loki is told nine tenths of its limit, and reads its write-ahead log back in less than that."""
    (container,) = of(objects, "Deployment")["loki"]["spec"]["template"]["spec"]["containers"]
    limit = 1024 * int(re.fullmatch(r"(\d+)Gi", container["resources"]["limits"]["memory"])[1])
    told = int(re.fullmatch(r"(\d+)MiB", {e["name"]: e["value"] for e in container["env"]}["GOMEMLIMIT"])[1])
    replay = int(re.fullmatch(r"(\d+)MB", read("loki/config.yaml")["ingester"]["wal"]["replay_memory_ceiling"])[1])
    if told != limit * 9 // 10 or replay >= told:
        yield f"loki: limit {limit} MiB, GOMEMLIMIT {told}, replay_memory_ceiling {replay}"


def intervals(operator):
    found = {
        "prometheus.yml": read("prometheus/prometheus.yml")["global"]["scrape_interval"],
        "datasources.yaml": read("grafana/datasources.yaml")["datasources"][0]["jsonData"]["timeInterval"],
        "values.yaml": read("operator/values.yaml")["grafana"]["sidecar"]["datasources"]["defaultDatasourceScrapeInterval"],
        "servicemonitor.yaml": of(operator, "ServiceMonitor")["httpserver"]["spec"]["endpoints"][0]["interval"],
    }
    if len(set(found.values())) != 1:
        yield f"scrape intervals differ: {found}"
    labels = of(operator, "ConfigMap")["httpserver-dashboard"]["metadata"]["labels"]
    sidecar = read("operator/values.yaml")["grafana"]["sidecar"]["dashboards"]
    if labels.get(sidecar["label"]) != sidecar["labelValue"]:
        yield "the dashboard's ConfigMap lacks the label that the sidecar looks for"


def main():
    objects, operator, server = ([o for o in yaml.safe_load_all(pathlib.Path(p).read_text()) if o] for p in sys.argv[1:4])
    read("loki/config.yaml"), read("grafana/dashboards.yaml")  # at least YAML
    problems = [*services(objects), *containers(objects), *addresses(objects), *namespaces(objects, server)]
    problems += [*memory(objects), *intervals(operator)]
    for problem in problems:
        print(f"agree: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
