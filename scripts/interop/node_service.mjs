// An HTTP service under the stock Node SDK.
//
// usage: OTEL_PROPAGATORS=... node node_service.mjs OTLP_TRACES_URL
//
// Prints {"port": N} and serves until standard input closes. `GET /call?url=U` fetches U and returns
// its body; without a URL, "end" and the baggage that came in.
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

// The packages lie in target/test-env/node.
const require = createRequire(path.resolve('target/test-env/node/package.json'));
const { context, propagation, trace, SpanKind, SpanStatusCode } = require('@opentelemetry/api');
const core = require('@opentelemetry/core');
const { B3Propagator, B3InjectEncoding } = require('@opentelemetry/propagator-b3');
const { JaegerPropagator } = require('@opentelemetry/propagator-jaeger');
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { NodeTracerProvider, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-node');

const formats = {
  tracecontext: () => new core.W3CTraceContextPropagator(),
  baggage: () => new core.W3CBaggagePropagator(),
  b3: () => new B3Propagator(),
  b3multi: () => new B3Propagator({ injectEncoding: B3InjectEncoding.MULTI_HEADER }),
  jaeger: () => new JaegerPropagator(),
};
const propagators = process.env.OTEL_PROPAGATORS.split(',').map(name => formats[name]());
const exporter = new OTLPTraceExporter({ url: process.argv[2] });
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': 'node' }),
  spanProcessors: [new SimpleSpanProcessor(exporter)],
});
provider.register({ propagator: new core.CompositePropagator({ propagators }) });
const tracer = trace.getTracer('interop');

function get(url) {
  const span = tracer.startSpan('GET', { kind: SpanKind.CLIENT });
  const headers = {};
  propagation.inject(trace.setSpan(context.active(), span), headers);
  return new Promise((resolve, reject) => {
    http.get(url, { headers }, response => {
      let body = '';
      response.on('data', data => (body += data));
      response.on('end', () => { span.end(); resolve(body); });
    }).on('error', error => {
      span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
      reject(error);
    });
  });
}

const server = http.createServer((request, response) => {
  const parent = propagation.extract(context.active(), request.headers);
  const span = tracer.startSpan('GET /call', { kind: SpanKind.SERVER }, parent);
  const inside = trace.setSpan(parent, span);
  context.with(inside, async () => {
    const url = new URL(request.url, 'http://localhost').searchParams.get('url');
    const entries = propagation.getBaggage(inside)?.getAllEntries() ?? [];
    const baggage = Object.fromEntries(entries.map(([key, entry]) => [key, entry.value]));
    try {
      response.end(url ? await get(url) : JSON.stringify({ end: 'node', baggage }));
    } catch {
      response.writeHead(502).end();
    }
    span.end();
  });
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
process.stdin.on('end', async () => { await provider.shutdown(); process.exit(0); }).resume();
