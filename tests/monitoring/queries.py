#!/usr/bin/env python3
"""Asks a running Prometheus every query of the dashboard, the rules and the manual: queries.py URL.

A query fails if Prometheus refuses it or if it answers nothing: an empty panel on a healthy server is a wrong label or
a wrong name as often as not. Two kinds are rightly empty on a healthy server, the alerts and the annotation, whose
comparison filters everything out. They are asked with `bool` put after the comparison, which answers 0 or 1 instead,
so a wrong name shows there too; `absent(x)` is asked as x, and `unless` as `and`. A number that is not a number (0/0) fails as well.
Beyond that: every rule is healthy, no alert is pending or firing, and the 95th percentile of a delay that is
uniform between 0 and 2 s is 1.9 s within a tenth; that of the latency is the same, later by the server's own time. On a
busy machine the server waits for a processor, so its own time is taken as measured and HttpServerSlow may be pending.
"""
import json
import re
import sys
import urllib.parse
import urllib.request

import dashboard


def get(url, path, **params):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(params)}", timeout=20) as answer:
        return json.load(answer)["data"]


def ask(url, expr):
    """The samples of an instant query, or the reason there are none."""
    try:
        samples = get(url, "query", query=expr)["result"]
    except urllib.error.HTTPError as error:
        return [], json.load(error)["error"]
    if not samples:
        return [], "empty"
    if any(s["value"][1] == "NaN" for s in samples):
        return samples, "not a number"
    return samples, None


def unfiltered(expr):
    expr = re.sub(r"^absent\((.*)\)$", r"\1", expr)
    expr = re.sub(r"\bunless\b", "and", expr)
    return re.sub(r"(==|>=|<=|!=|>|<)(?=\s)", r"\1 bool", expr)


def all_queries(url):
    """(where it stands, the query as it is asked)."""
    for where, expr in dashboard.queries(dashboard.load(), "prometheus"):
        expr = dashboard.fill(expr)
        yield where, unfiltered(expr) if where.startswith("annotation") else expr
    yield from dashboard.manual_queries("promql")
    for group in get(url, "rules")["groups"]:
        for rule in group["rules"]:
            alert = rule["type"] == "alerting"
            yield f"{rule['type']} rule {rule['name']}", unfiltered(rule["query"]) if alert else rule["query"]


def rule_problems(url):
    rules = [rule for group in get(url, "rules")["groups"] for rule in group["rules"]]
    if not rules:
        yield "no rules loaded"
    for rule in rules:
        if rule["health"] != "ok":
            yield f"rule {rule['name']}: health {rule['health']} {rule.get('lastError', '')}"
        if rule["type"] == "alerting" and rule["state"] == "pending" and rule["name"] == "HttpServerSlow":
            print("  HttpServerSlow is pending: this machine is busy")
        elif rule["type"] == "alerting" and rule["state"] != "inactive":
            yield f"alert {rule['name']} is {rule['state']} on a healthy server"


def p95_problems(url):
    own, _ = ask(url, "job:httpserver_own_time_seconds:mean5m")
    own = float(own[0]["value"][1]) if own else 0
    for metric, late in (("http_injected_delay_seconds_bucket", 0), ('http_request_duration_seconds_bucket{route="echo"}', own)):
        samples, problem = ask(url, f"histogram_quantile(0.95, sum by (le) (rate({metric}[1m])))")
        p95 = float(samples[0]["value"][1]) if samples else float("nan")
        print(f"  p95 of {metric} is {p95:.3f} s" + (f", with {late:.3f} s of the server's own" if late else ""))
        if problem or not 1.8 <= p95 <= 2.0 + late:
            yield f"p95 of {metric} is {p95}, not 1.9 within a tenth ({problem or 'out of range'})"


def main():
    url = sys.argv[1]
    problems, asked = [], 0
    for where, expr in all_queries(url):
        asked += 1
        _, problem = ask(url, expr)
        if problem:
            problems.append(f"{where}: {problem}: {expr}")
    problems += list(rule_problems(url)) + list(p95_problems(url))
    for problem in problems:
        print(f"queries: {problem}", file=sys.stderr)
    print(f"  {asked} queries asked, {len(problems)} problems")
    return 1 if problems or not asked else 0


if __name__ == "__main__":
    sys.exit(main())
