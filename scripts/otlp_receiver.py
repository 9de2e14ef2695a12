#!/usr/bin/env python3
"""An OTLP receiver that shares no code with this project: gRPC, HTTP protobuf and HTTP JSON.

usage: otlp_receiver.py [--grpc PORT] [--http PORT] [--until-stdin-closes]

Binds 127.0.0.1; port 0 (the default) is any free one. The first line on stdout is
{"grpc": PORT, "http": PORT}. On the HTTP port:

  GET /spans?min=N&wait=SECONDS  all spans, once there are N or the time is up
  GET /stats                     {"spans", "requests": {transport: count}, "problems": [...]}
"""

import argparse
import gzip
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

import otlp

MAX_REQUEST = 64 << 20


class Store:
    """What came in; every method may be called from any thread."""

    def __init__(self):
        self.changed = threading.Condition()
        self.spans, self.requests, self.problems = [], {}, []

    def add(self, request, via):
        new = list(otlp.flatten(request.resource_spans, via))
        with self.changed:
            self.requests[via] = self.requests.get(via, 0) + 1
            for span, found in new:
                self.spans.append(span)
                self.problems += [f"{span['span_id']} {span['name']!r}: {text}" for text in found]
            self.changed.notify_all()

    def refuse(self, text):
        with self.changed:
            self.problems.append(text)

    def wait(self, count, seconds):
        with self.changed:
            self.changed.wait_for(lambda: len(self.spans) >= count, seconds)
            return list(self.spans)

    def stats(self):
        with self.changed:
            return {
                "spans": len(self.spans),
                "requests": dict(self.requests),
                "problems": list(self.problems),
            }


class Grpc(service.TraceServiceServicer):
    def __init__(self, store):
        self.store = store

    def Export(self, request, context):
        self.store.add(request, "grpc")
        return messages.ExportTraceServiceResponse()


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store = None  # set by main

    def log_message(self, *_):
        pass

    def answer(self, status, body, content_type="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        encoding = self.headers.get("Content-Encoding", "identity")
        if encoding == "gzip":
            return gzip.decompress(body)
        if encoding != "identity":
            raise ValueError(f"content encoding {encoding}")
        return body

    def do_POST(self):
        content_type = self.headers.get("Content-Type", "").split(";")[0].strip()
        try:
            if urlparse(self.path).path != "/v1/traces":
                raise ValueError(f"path {self.path}")
            body = self.body()
            if content_type == "application/x-protobuf":
                request, via = messages.ExportTraceServiceRequest.FromString(body), "http_protobuf"
            elif content_type == "application/json":
                request = otlp.read_json(body, messages.ExportTraceServiceRequest())
                via = "http_json"
            else:
                raise ValueError(f"content type {content_type!r}")
        except (ValueError, OSError, DecodeError) as error:
            self.store.refuse(f"refused: {error}")
            return self.answer(400, str(error).encode(), "text/plain")
        self.store.add(request, via)
        reply = messages.ExportTraceServiceResponse()
        if via == "http_json":
            self.answer(200, json_format.MessageToJson(reply).encode(), content_type)
        else:
            self.answer(200, reply.SerializeToString(), content_type)

    def do_GET(self):
        url = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/spans":
            found = self.store.wait(int(query.get("min", 0)), float(query.get("wait", 0)))
        elif url.path == "/stats":
            found = self.store.stats()
        else:
            return self.answer(404, b"{}")
        self.answer(200, json.dumps(found).encode())


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--grpc", type=int, default=0)
    arguments.add_argument("--http", type=int, default=0)
    arguments.add_argument("--until-stdin-closes", action="store_true")
    arguments = arguments.parse_args()

    store = Store()
    grpc_server = grpc.server(
        futures.ThreadPoolExecutor(8),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_REQUEST)],
    )
    service.add_TraceServiceServicer_to_server(Grpc(store), grpc_server)
    grpc_port = grpc_server.add_insecure_port(f"127.0.0.1:{arguments.grpc}")
    grpc_server.start()
    Http.store = store
    http_server = ThreadingHTTPServer(("127.0.0.1", arguments.http), Http)
    http_server.daemon_threads = True
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    print(json.dumps({"grpc": grpc_port, "http": http_server.server_address[1]}), flush=True)

    if arguments.until_stdin_closes:
        sys.stdin.read()
        grpc_server.stop(None)
    else:
        grpc_server.wait_for_termination()


if __name__ == "__main__":
    main()
