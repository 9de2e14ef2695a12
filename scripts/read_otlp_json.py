#!/usr/bin/env python3
"""Reads files of OTLP JSON lines strictly, with the official protobuf definitions.

usage: read_otlp_json.py FILE...

Prints {"lines": N, "spans": [...], "problems": [...]} and exits with 1 where there is a problem:
a line that is no TracesData by the OTLP/JSON rules, a torn last line, a span that no sane sender
sends.
"""

import json
import sys

from opentelemetry.proto.trace.v1 import trace_pb2

import otlp


def read(path):
    lines, spans, problems = 0, [], []
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            lines += 1
            if not line.endswith("\n"):
                problems.append(f"{where}: the line does not end")
            try:
                data = otlp.read_json(line, trace_pb2.TracesData())
            except ValueError as error:
                problems.append(f"{where}: {error}")
                continue
            for span, found in otlp.flatten(data.resource_spans):
                spans.append(span)
                problems += [f"{where}: {span['name']!r}: {text}" for text in found]
    return lines, spans, problems


def main():
    paths = sys.argv[1:]
    if not paths:
        sys.exit(__doc__)
    lines, spans, problems = 0, [], []
    for path in paths:
        more = read(path)
        lines, spans, problems = lines + more[0], spans + more[1], problems + more[2]
    print(json.dumps({"lines": lines, "spans": spans, "problems": problems}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
