//! The baseline of every call: tonic over mutual TLS that takes the same request and does nothing, in a process of its
//! own as the broker is.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use liaison_broker::{accept::server_config, revocation::Revocations};
use liaison_link::{charter_files, time::FlooredTime, tls::Identity};
use liaison_proto::{
    clock::{SystemClock, UnixMillis},
    limits, wire,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::NamedService,
    transport::{Server, server::Connected},
};

struct DoNothing;

impl tonic::server::UnaryService<wire::SubmitRequest> for DoNothing {
    type Response = wire::SubmitResponse;
    type Future = Ready<Result<Response<wire::SubmitResponse>, Status>>;

    fn call(&mut self, _: Request<wire::SubmitRequest>) -> Self::Future {
        ready(Ok(Response::new(wire::SubmitResponse::default())))
    }
}

/// Answers every path of the exchange service.
#[derive(Clone)]
struct Noop;

impl NamedService for Noop {
    const NAME: &'static str = "liaison.exchange.v1.Exchange";
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl tower::Service<http::Request<Body>> for Noop {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<wire::SubmitResponse, wire::SubmitRequest>::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .apply_max_message_size_config(Some(limits::GRPC_BYTES), Some(limits::GRPC_BYTES));
            Ok(grpc.unary(DoNothing, request).await)
        })
    }
}

/// A connection that says nothing of its peer.
struct Plain(TlsStream<TcpStream>);

impl Connected for Plain {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, served: mpsc::Sender<io::Result<Plain>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, served) = (tls.clone(), served.clone());
        tokio::spawn(async move {
            if stream.set_nodelay(true).is_ok()
                && let Ok(stream) = tls.accept(stream).await
            {
                let _ = served.send(Ok(Plain(stream))).await;
            }
        });
    }
}

/// Serves by the charter below `charter` and writes the address to the file `address`.
///
/// # Errors
/// When it cannot serve.
pub(crate) fn serve(charter: &Path, address: &Path) -> io::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| io::Error::other("a provider is installed already"))?;
    let identity = Identity::read(&charter.join("broker/tls.pem"), &charter.join("broker/tls.key"));
    let identity = identity.map_err(io::Error::other)?;
    let charter = charter_files::load(&charter.join("charter.toml"), None).map_err(io::Error::other)?;
    let time = FlooredTime::new(Arc::new(SystemClock), &charter, UnixMillis(0));
    let config = server_config(&charter, identity, &Revocations::default(), time).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        std::fs::write(address, listener.local_addr()?.to_string())?;
        let (sender, incoming) = mpsc::channel(64);
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), sender));
        let serving = Server::builder().add_service(Noop).serve_with_incoming(ReceiverStream::new(incoming));
        serving.await.map_err(io::Error::other)
    })
}
