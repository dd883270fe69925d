#!/usr/bin/env python3
"""Keeps the rules in step: one source, two forms, and a test on each side of every alert.

prometheus/rules.yml is the source; operator/prometheusrule.yaml holds the same groups for the operator, because
Kustomize can put a file into a ConfigMap but not into the middle of another object. This compares the two as text
(so comments and order count as well) and `--write` copies the source again. It also fails if an alert lacks a case
that fires or a case that does not in rules_test.yml. Standard library alone, so it runs anywhere.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
MONITORING = HERE.parent.parent / "k8s" / "monitoring"
SOURCE = MONITORING / "prometheus" / "rules.yml"
COPY = MONITORING / "operator" / "prometheusrule.yaml"
TESTS = HERE / "rules_test.yml"


def groups_of_source():
    lines = SOURCE.read_text().splitlines()
    return lines[lines.index("groups:") + 1:]


def expected_copy():
    """The copy's own head, then the source's groups, two columns further in."""
    lines = COPY.read_text().splitlines()
    head = lines[:lines.index("  groups:") + 1]
    return "\n".join(head + [("  " + line) if line else "" for line in groups_of_source()]) + "\n"


def untested_alerts():
    """Alerts without a firing and a silent case; `exp_alerts: []` is silent, anything below it fires."""
    alerts = re.findall(r"- alert: (\w+)", SOURCE.read_text())
    cases = re.findall(r"- alertname: (\w+)\s+eval_time: \S+\s+exp_alerts:( \[\])?", TESTS.read_text())
    fires = {name for name, empty in cases if not empty}
    silent = {name for name, empty in cases if empty}
    for name in alerts:
        if name not in fires:
            yield f"{TESTS.name}: no case in which {name} fires"
        if name not in silent:
            yield f"{TESTS.name}: no case in which {name} does not fire"


def main():
    if sys.argv[1:] == ["--write"]:
        COPY.write_text(expected_copy())
        return 0
    problems = list(untested_alerts())
    if COPY.read_text() != expected_copy():
        problems.append(f"{COPY.name} differs from {SOURCE.name}: change the latter and run {pathlib.Path(__file__).name} --write")
    for problem in problems:
        print(f"rules: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
