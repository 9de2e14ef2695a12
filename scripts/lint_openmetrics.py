#!/usr/bin/env python3
"""Scrapes a URL as OpenMetrics and as text, and reads both with prometheus_client's parsers.

usage: lint_openmetrics.py URL [--require-exemplars]

Prints {"families", "samples", "exemplars", "problems"} and exits with 1 where there is a problem.
"""

import argparse
import json
import re
import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4"
# OpenMetrics: names and values of an exemplar's labels, together.
MAX_EXEMPLAR = 128


def scrape(url, accept):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode("utf-8"), answer.headers["Content-Type"]


def lint_exemplar(sample):
    labels = sample.exemplar.labels
    if not sample.name.endswith(("_bucket", "_total")):
        yield f"{sample.name}: exemplars are for buckets and counters"
    if sum(len(key) + len(value) for key, value in labels.items()) > MAX_EXEMPLAR:
        yield f"{sample.name}: exemplar of more than {MAX_EXEMPLAR} characters"
    for label, digits in (("trace_id", 32), ("span_id", 16)):
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", labels.get(label, "")):
            yield f"{sample.name}: exemplar's {label} is {labels.get(label)!r}"


def lint(url, require_exemplars):
    problems, samples, exemplars, names = [], 0, 0, set()

    text, content_type = scrape(url, OPENMETRICS)
    if content_type != OPENMETRICS:
        problems.append(f"OpenMetrics comes as {content_type!r}")
    try:
        for family in read_openmetrics(text):
            names.add(family.name)
            if not family.documentation:
                problems.append(f"{family.name}: no help")
            for sample in family.samples:
                samples += 1
                if sample.exemplar:
                    exemplars += 1
                    problems += lint_exemplar(sample)
    except (ValueError, KeyError) as error:
        problems.append(f"OpenMetrics: {error}")
    if require_exemplars and not exemplars:
        problems.append("no exemplars")

    text, content_type = scrape(url, TEXT)
    if not content_type.startswith(TEXT):
        problems.append(f"text comes as {content_type!r}")
    if " # {" in text or "# EOF" in text:
        problems.append("OpenMetrics syntax in the text format")
    try:
        if not list(read_text(text)):
            problems.append("the text is empty")
    except ValueError as error:
        problems.append(f"text: {error}")

    return {
        "families": sorted(names),
        "samples": samples,
        "exemplars": exemplars,
        "problems": problems,
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("url")
    arguments.add_argument("--require-exemplars", action="store_true")
    arguments = arguments.parse_args()
    found = lint(arguments.url, arguments.require_exemplars)
    print(json.dumps(found))
    sys.exit(1 if found["problems"] else 0)


if __name__ == "__main__":
    main()
