//! A gRPC service of two methods, and its client. The service is written by hand to need no protoc;
//! generated code takes the same layers.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use spanweave::Backend;
use spanweave::grpc::{GrpcClientLayer, GrpcServerLayer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Layer, Service, service_fn};

type Codec = ProstCodec<String, String>;
type Texts = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

#[tracing::instrument(skip_all)]
async fn greet(request: Request<String>) -> Result<Response<String>, Status> {
    match request.into_inner().as_str() {
        "" => Err(Status::invalid_argument("a name is needed")),
        name => Ok(Response::new(format!("hello, {name}"))),
    }
}

async fn count(request: Request<String>) -> Result<Response<Texts>, Status> {
    let to: u32 = request.into_inner().parse().map_err(|_| Status::invalid_argument("a number"))?;
    let numbers = tokio_stream::iter((1..=to).map(|number| Ok(number.to_string())));
    Ok(Response::new(Box::pin(numbers)))
}

#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "demo.Greeter";
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                "/demo.Greeter/Greet" => grpc.unary(service_fn(greet), request).await,
                "/demo.Greeter/Count" => grpc.server_streaming(service_fn(count), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let telemetry =
        spanweave::builder().service_name("grpc").export_to(Backend::console()).install()?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder().layer(GrpcServerLayer::new()).add_service(Greeter);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let layer = GrpcClientLayer::new().destination(endpoint.uri().clone());
    let mut client = tonic::client::Grpc::new(layer.layer(endpoint.connect().await?));
    for name in ["ada", ""] {
        client.ready().await?;
        let path = PathAndQuery::from_static("/demo.Greeter/Greet");
        let request = Request::new(name.to_owned());
        match client.unary(request, path, Codec::default()).await {
            Ok(greeting) => eprintln!("{}", greeting.into_inner()),
            Err(status) => eprintln!("{:?}: {}", status.code(), status.message()),
        }
    }
    client.ready().await?;
    let path = PathAndQuery::from_static("/demo.Greeter/Count");
    let request = Request::new("3".to_owned());
    let numbers = client.server_streaming(request, path, Codec::default()).await?;
    let numbers: Vec<_> = numbers.into_inner().collect::<Result<_, _>>().await?;
    eprintln!("{}", numbers.join(" "));

    let report = telemetry.shutdown_async(Duration::from_secs(5)).await;
    eprintln!("complete: {}", report.is_complete());
    Ok(())
}
