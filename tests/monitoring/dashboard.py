#!/usr/bin/env python3
"""Reads the dashboard: its queries with the variables filled in, and what a dashboard linter asks of it.

Other scripts import `queries()`, so that one place knows how a dashboard is laid out and what Grafana would put in
for its variables. As a program it lints: variables for data source, job and instance; both labels in every selector;
$__rate_interval in every rate; counters under rate or increase alone; `le` kept in quantiles; a title, a description
and a unit on every panel; unique ids and no overlap. `--prove` breaks the dashboard once for each of these and fails
if the lint does not notice, because a lint that finds nothing may also be one that looks for nothing. `--list TYPE` prints the
queries of that type (prometheus, loki) as JSON, with those that the manual gives to try.
"""
import copy
import json
import pathlib
import re
import sys

FILE = pathlib.Path(__file__).resolve().parent.parent.parent / "k8s/monitoring/dashboard/httpserver.json"
MANUAL = FILE.parents[1] / "README.md"
NO_UNIT = {"logs"}  # shows text, not numbers
COUNTER = re.compile(r"\b(\w+_(?:total|bucket|sum|count))\b(?=\{)")
SELECTOR = re.compile(r"\b([a-z]\w+)\{([^}]*)\}")
VARIABLES = {"$__rate_interval": "30s", "$__auto": "1m", "$job": "httpserver", "$instance": ".*", "$search": ""}


def load():
    return json.loads(FILE.read_text())


def panels(board):
    """All panels, those inside collapsed rows too, without the rows."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def fill(expr):
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def queries(board, kind):
    """(where it stands, query as written) for each query of a data source type: panels, annotations, variables."""
    for panel in panels(board):
        for target in panel.get("targets", []):
            if target["datasource"]["type"] == kind:
                yield f"panel {panel.get('title')!r} {target['refId']}", target["expr"]
    for note in board["annotations"]["list"]:
        if note["datasource"]["type"] == kind:
            yield f"annotation {note['name']!r}", note["target"]["expr"]
    for var in board["templating"]["list"]:
        if var["type"] == "query" and var["datasource"]["type"] == kind:
            selector = re.fullmatch(r"label_values\((.+), (\w+)\)", var["query"]["query"])
            yield f"variable {var['name']!r}", f"count by ({selector[2]}) ({selector[1]})"


def manual_queries(language):
    """The queries that the manual gives to try by hand, fenced with their language."""
    found = re.findall(rf"^```{language}\n(.*?)^```", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{MANUAL} gives no query in {language}"
    return [("the manual", expr.strip()) for expr in found]


def lint_query(expr):
    for metric, labels in SELECTOR.findall(expr):
        for name in ("job", "instance"):
            if f'{name}=~"${name}"' not in labels and metric != "ALERTS":
                yield f"{metric} is not limited to ${name}"
    for match in COUNTER.finditer(expr):
        if not re.search(r"\b(rate|increase)\($", expr[:match.start()]):
            yield f"counter {match[1]} without rate or increase"
    for window in re.findall(r"\b(?:rate|increase)\([^\[]*\[([^\]]*)\]", expr):
        if window != "$__rate_interval":
            yield f"a rate over {window}, not over $__rate_interval"
    for call in re.findall(r"histogram_quantile\([^,]+, *sum by \(([^)]*)\)", expr):
        if "le" not in re.split(r",\s*", call):
            yield "histogram_quantile without le"
    if expr.count("histogram_quantile(") != len(re.findall(r"histogram_quantile\([^,]+, *sum by \(", expr)):
        yield "histogram_quantile of something else than a sum by le"


def lint_panel(panel):
    if not panel.get("title"):
        yield "no title"
    if not panel.get("description"):
        yield "no description"
    if panel["type"] not in NO_UNIT and not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    if not panel.get("targets"):
        yield "no query"
    for target in panel.get("targets", []):
        if target["datasource"]["uid"] not in ("${datasource}", "${loki}"):
            yield "a fixed data source"
        if not target.get("legendFormat") and panel["type"] not in NO_UNIT:
            yield "no legend"


def lint_layout(board):
    everything = board["panels"] + [p for row in board["panels"] for p in row.get("panels", [])]
    if len({p["id"] for p in everything}) != len(everything):
        yield "two panels share an id"
    cells = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        if mine & cells or at["x"] + at["w"] > 24:
            yield f"panel {panel['title']!r} overlaps another or leaves the grid"
        cells |= mine


def lint(board):
    variables = {v["name"]: v for v in board["templating"]["list"]}
    for name, kind in (("datasource", "datasource"), ("loki", "datasource"), ("job", "query"), ("instance", "query")):
        if variables.get(name, {}).get("type") != kind:
            yield f"no variable {name} of type {kind}"
    if not variables.get("instance", {}).get("includeAll"):
        yield "variable instance does not offer all"
    if not board.get("uid") or not board.get("title"):
        yield "no uid or title: links and provisioning need both"
    yield from lint_layout(board)
    for panel in panels(board):
        for problem in lint_panel(panel):
            yield f"panel {panel.get('title')!r}: {problem}"
    for where, expr in queries(board, "prometheus"):
        if not where.startswith("variable"):
            for problem in lint_query(expr):
                yield f"{where}: {problem}"


def breakages():
    """(what is broken, how): every one of them must be found."""
    def edit(old, new):
        def change(board):
            text = json.dumps(board)
            broken = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
            assert broken != text, f"nothing to break: {old}"
            return json.loads(broken)
        return change

    def drop(key):
        def change(board):
            next(panels(board)).pop(key)
            return board
        return change

    def unit(board):
        del next(panels(board))["fieldConfig"]["defaults"]["unit"]
        return board

    def twin(board):
        board["panels"].append(copy.deepcopy(board["panels"][-1]))
        return board

    yield "no title", drop("title")
    yield "no description", drop("description")
    yield "no unit", unit
    yield "no query", drop("targets")
    yield "a fixed data source", edit("${datasource}", "abc")
    yield "share an id", twin
    yield "overlaps", twin
    yield "no variable job", edit("job", "work")
    yield "not limited to $instance", edit(', instance=~"$instance"', "")
    yield "not limited to $job", edit('job=~"$job"', 'job="httpserver"')
    yield "not over $__rate_interval", edit("$__rate_interval", "5m")
    yield "without rate or increase", edit("rate(http_requests_total", "abs(http_requests_total")
    yield "without le", edit("sum by (le) (rate", "sum by (job) (rate")


def prove():
    missed = 0
    for expected, change in breakages():
        found = list(lint(change(load())))
        if not any(expected in problem for problem in found):
            print(f"dashboard: the lint does not notice: {expected}", file=sys.stderr)
            missed += 1
    return missed


def main():
    if sys.argv[1:] == ["--prove"]:
        return 1 if prove() else 0
    if sys.argv[1:2] == ["--list"]:
        found = list(queries(load(), sys.argv[2])) + manual_queries({"loki": "logql", "prometheus": "promql"}[sys.argv[2]])
        print(json.dumps([(where, fill(expr)) for where, expr in found]))
        return 0
    problems = list(lint(load()))
    for problem in problems:
        print(f"dashboard: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
