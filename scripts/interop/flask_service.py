"""A Flask service under the stock Python SDK and its instrumentation.

usage: OTEL_PROPAGATORS=... flask_service.py OTLP_TRACES_URL

Prints {"port": N} and serves until standard input closes. `GET /call?url=U` fetches U with requests
and returns its body; without a URL, "end" and the baggage that came in.
"""

import json
import sys
import threading

import requests
from flask import Flask, jsonify, request
from opentelemetry import baggage, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from werkzeug.serving import make_server

provider = TracerProvider(resource=Resource.create({"service.name": "flask"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1], timeout=5)))
trace.set_tracer_provider(provider)

app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)
RequestsInstrumentor().instrument()


@app.get("/call")
def call():
    url = request.args.get("url")
    if url:
        return requests.get(url, timeout=10).text
    return jsonify(end="flask", baggage=dict(baggage.get_all()))


server = make_server("127.0.0.1", 0, app, threaded=True)
print(json.dumps({"port": server.server_port}), flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
provider.shutdown()
