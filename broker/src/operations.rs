//! For operators: health and reflection over gRPC, Prometheus metrics over HTTP. Names follow OpenTelemetry's
//! conventions; nothing here knows content or persons.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use liaison_log::{committer::Committer, reader::LogReader};
use liaison_proto::{failure::chain, ids::Lane, wire};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use tonic::codegen::http;
use tonic_reflection::server::{v1, v1alpha};
use tower::{Layer, Service};

use crate::{
    accept::Caller, connections::Connections, queue::Queue, sequence::Event, share::KEPT_BACK, status::StatusSource,
};

/// Bounds of the duration histogram, seconds (OpenTelemetry's for RPC).
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];
/// Methods of the services that are not ours.
const FOREIGN_METHODS: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
const EVERY: Duration = Duration::from_secs(2);

/// Serves metrics on an address. When it cannot be listened on the broker goes on without, says so, and tries again:
/// metrics stop no message.
pub async fn metrics(address: SocketAddr, problem: Arc<Mutex<Option<String>>>) {
    let note = |line| *problem.lock().unwrap_or_else(PoisonError::into_inner) = line;
    while let Err(error) = serve_metrics(address) {
        let line = format!("metrics are not served on {address}: {}", chain(&error));
        tracing::warn!(%address, error = chain(&error), "metrics are not served");
        note(Some(line));
        tokio::time::sleep(EVERY).await;
    }
    note(None);
}

fn serve_metrics(address: SocketAddr) -> Result<(), BuildError> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Full("rpc_server_call_duration_seconds".into()), &SECONDS)?
        .install()?;
    metrics::describe_histogram!("rpc_server_call_duration_seconds", "Time until the head of the answer.");
    metrics::describe_counter!("liaison_refusals_total", "Refusals, by code.");
    metrics::describe_counter!("liaison_connections_refused_total", "Connections that got no place or no handshake.");
    metrics::describe_gauge!("liaison_log_entries", "Entries of a log.");
    metrics::describe_gauge!("liaison_waiting_messages", "Messages that wait for delivery, by lane.");
    metrics::describe_gauge!("liaison_commit_queue", "Events that wait for the log, by lane.");
    metrics::describe_gauge!("liaison_connections", "Connections open.");
    metrics::describe_gauge!("liaison_disk_available_bytes", "Bytes that can still be written.");
    metrics::describe_gauge!("liaison_index_bytes", "Bytes of the index on the disk.");
    metrics::describe_gauge!("liaison_problems", "Lines that `broker status` shows under problems.");
    Ok(())
}

/// What the gauges are read from.
pub struct Gauges {
    /// The directory log.
    pub directory: Arc<LogReader>,
    /// The exchange log.
    pub exchange: Arc<LogReader>,
    /// What waits for the log.
    pub committer: Committer<Event>,
    /// What waits for delivery.
    pub queue: Arc<Queue>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// What is wrong.
    pub status: StatusSource,
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Flash => "flash",
        Lane::Urgent => "urgent",
        Lane::Bulk => "bulk",
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
impl Gauges {
    /// Keeps the gauges up to date, until the task is dropped.
    pub async fn run(self) {
        loop {
            for (log, reader) in [("directory", &self.directory), ("exchange", &self.exchange)] {
                metrics::gauge!("liaison_log_entries", "log" => log).set(reader.checkpoint().size() as f64);
            }
            let waiting = self.queue.waiting();
            for (lane, in_line) in Lane::ALL.into_iter().zip(self.committer.waiting()) {
                let of_lane: usize = waiting.iter().filter(|(_, of, _)| *of == lane).map(|(.., count)| count).sum();
                metrics::gauge!("liaison_waiting_messages", "lane" => lane_name(lane)).set(of_lane as f64);
                metrics::gauge!("liaison_commit_queue", "lane" => lane_name(lane)).set(in_line as f64);
            }
            metrics::gauge!("liaison_connections").set(self.connections.count() as f64);
            metrics::gauge!("liaison_disk_available_bytes").set(self.status.available() as f64);
            metrics::gauge!("liaison_index_bytes").set(self.status.index.size_on_disk() as f64);
            metrics::gauge!("liaison_problems").set(self.status.problems().len() as f64);
            tokio::time::sleep(EVERY).await;
        }
    }
}

fn described() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The reflection service of everything that is served.
///
/// # Errors
/// When a descriptor set is malformed.
pub fn reflection() -> Result<v1::ServerReflectionServer<impl v1::ServerReflection>, tonic_reflection::server::Error> {
    described().build_v1()
}

/// The same in the older version that many clients still speak.
///
/// # Errors
/// When a descriptor set is malformed.
pub fn reflection_alpha()
-> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, tonic_reflection::server::Error> {
    described().build_v1alpha()
}

/// Measures every call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured;

impl<S> Layer<S> for Measured {
    type Service = MeasuredService<S>;

    fn layer(&self, inner: S) -> MeasuredService<S> {
        MeasuredService { inner }
    }
}

/// A service whose calls are measured.
#[derive(Clone, Debug)]
pub struct MeasuredService<S> {
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for MeasuredService<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>> + Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = known_method(request.uri().path());
        let excess = request.extensions().get::<Caller>().is_some_and(|caller| caller.excess);
        let begun = tokio::time::Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            // A connection too many is told so, slowly: whoever does not listen must not take the time of those who do.
            if excess {
                tokio::time::sleep(KEPT_BACK).await;
            }
            let answer = answer.await;
            // A refusal without a body carries its status in the head; what streams is counted as begun.
            let status = answer.as_ref().ok().and_then(|answer| answer.headers().get("grpc-status")?.to_str().ok());
            let status = status.and_then(|text| text.parse::<u8>().ok()).unwrap_or(0).to_string();
            let labels = [("rpc_system", "grpc".to_owned()), ("rpc_method", method), ("rpc_grpc_status_code", status)];
            metrics::histogram!("rpc_server_call_duration_seconds", &labels).record(begun.elapsed().as_secs_f64());
            answer
        })
    }
}

/// The method, when it is one of ours: what a client invents must not fill the registry.
fn known_method(path: &str) -> String {
    let ours = ["/liaison.exchange.v1.", "/grpc.health.v1.", "/grpc.reflection."];
    let known = ours.iter().any(|prefix| path.starts_with(prefix)) && path.len() < 80;
    let name = if known { path.trim_start_matches('/') } else { "other" };
    // Names of ours that do not exist are answered UNIMPLEMENTED and share one label.
    let exists = wire::METHODS.contains(&name) || FOREIGN_METHODS.contains(&name);
    if exists { name.to_owned() } else { "other".to_owned() }
}
