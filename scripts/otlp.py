"""OTLP as plain Python values, on nothing but the official protobuf definitions.

`read_json` reads OTLP/JSON by the letter, `flatten` makes dictionaries of spans, `problems` says
what is wrong with one of them.
"""

import base64
import json
import math
import re
import time

from google.protobuf import json_format

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")

# Hex digits of ids; OTLP/JSON writes them in hex where protobuf's JSON has base64.
ID_DIGITS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
ENUMS = ("kind", "code")
# 64-bit integers are strings in JSON.
LONG = ("startTimeUnixNano", "endTimeUnixNano", "timeUnixNano", "intValue")


def read_json(text, message):
    """Parses one OTLP/JSON document into `message`; ValueError says what is wrong with it."""
    try:
        return json_format.ParseDict(_strict(json.loads(text)), message)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error


def _strict(node):
    """Checks what protobuf's parser lets through, and turns ids into what it expects."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if "_" in key:
            raise ValueError(f"{key}: names are lowerCamelCase")
        if key in ID_DIGITS:
            # An absent parent may be written as an empty string.
            digits = f"([0-9a-f]{{{ID_DIGITS[key]}}})?"
            if not isinstance(value, str) or not re.fullmatch(digits, value):
                raise ValueError(f"{key}: {value!r} is not lower-case hex of the right length")
            value = base64.b64encode(bytes.fromhex(value)).decode()
        elif key in ENUMS and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{key}: {value!r} is not an integer")
        elif key in LONG and not (isinstance(value, str) and re.fullmatch("-?[0-9]+", value)):
            raise ValueError(f"{key}: {value!r} is not a string of digits")
        else:
            value = _strict(value)
        out[key] = value
    return out


def value_of(any_value):
    """An attribute's value as JSON has it; what JSON lacks becomes {"bytes": …}, {"double": …}."""
    which = any_value.WhichOneof("value")
    if which is None:
        return None
    value = getattr(any_value, which)
    if which == "array_value":
        return [value_of(item) for item in value.values]
    if which == "kvlist_value":
        return attributes_of(value.values)
    if which == "bytes_value":
        return {"bytes": value.hex()}
    if which == "double_value" and not math.isfinite(value):
        return {"double": str(value)}
    return value


def attributes_of(pairs):
    return {pair.key: value_of(pair.value) for pair in pairs}


def flatten(resource_spans, via=None):
    """One (dictionary, list of problems) for each span."""
    for group in resource_spans:
        resource = attributes_of(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                found = problems(span)
                if not resource.get("service.name"):
                    found.append("the resource has no service.name")
                yield _plain(span, resource, scoped.scope, via), found


def _plain(span, resource, scope, via):
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name,
        "kind": KINDS[span.kind] if span.kind < len(KINDS) else span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "flags": span.flags,
        "trace_state": span.trace_state,
        "attributes": attributes_of(span.attributes),
        "status": STATUSES[span.status.code] if span.status.code < len(STATUSES) else span.status.code,
        "message": span.status.message,
        "events": [
            {"name": e.name, "time": e.time_unix_nano, "attributes": attributes_of(e.attributes)}
            for e in span.events
        ],
        "links": [
            {"trace_id": l.trace_id.hex(), "span_id": l.span_id.hex()} for l in span.links
        ],
        "service": resource.get("service.name"),
        "resource": resource,
        "scope": scope.name,
        "via": via,
    }


def problems(span):
    """What the specification forbids, or no sane sender does, as texts."""
    found = []

    def check(ok, text):
        if not ok:
            found.append(text)

    def is_id(value, length):
        return len(value) == length and any(value)

    check(is_id(span.trace_id, 16), "trace id")
    check(is_id(span.span_id, 8), "span id")
    check(not span.parent_span_id or is_id(span.parent_span_id, 8), "parent id (none is empty)")
    check(span.parent_span_id != span.span_id, "its own parent")
    check(span.name, "no name")
    check(0 < span.kind < len(KINDS), "kind")
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    check(0 < start <= end, f"times: {start} to {end}")
    check(abs(start / 1e9 - time.time()) < 86400, "starts more than a day from now")
    keys = [pair.key for pair in span.attributes]
    check(all(keys), "empty attribute key")
    check(len(keys) == len(set(keys)), "attribute keys twice")
    check(all(event.time_unix_nano for event in span.events), "event without time")
    check(all(event.name for event in span.events), "event without name")
    check(
        all(is_id(link.trace_id, 16) and is_id(link.span_id, 8) for link in span.links),
        "ids of a link",
    )
    check(span.status.code == 2 or not span.status.message, "status message without an error")
    return found
