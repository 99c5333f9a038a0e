//! Bodies of calls on their way in: what an office sends slowly is held in memory until it is whole, so an office has a
//! number of bodies under way, and each a time. Streams of requests are bounded where they are read.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Semaphore;
use tonic::{Status, codegen::http};
use tower::{Layer, Service};

use crate::{accept::Caller, party::Party};

/// Calls of one party whose bodies are under way: 80 MiB of the largest. More wait unread.
const BODIES: usize = 64;
/// How long a call may take, its body included: 1.2 MB at 64 kbit/s and as much again.
const WHOLE: Duration = Duration::from_secs(300);
/// Methods whose requests are streams: their handlers read them piece by piece.
const STREAMED: [&str; 4] = ["/SubmitStream", "/Receive", "/Upload", "/HandBack"];

/// The bodies of all parties.
#[derive(Clone, Default)]
pub struct Bodies {
    parties: Arc<Mutex<HashMap<Party, Arc<Semaphore>>>>,
}

impl Bodies {
    fn of(&self, party: &Party) -> Arc<Semaphore> {
        let mut parties = self.parties.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as there are certificates of the charter's parties.
        Arc::clone(parties.entry(party.clone()).or_insert_with(|| Arc::new(Semaphore::new(BODIES))))
    }
}

impl<S> Layer<S> for Bodies {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> BoundedService<S> {
        BoundedService { inner, bodies: self.clone() }
    }
}

/// A service whose bodies are bounded.
#[derive(Clone)]
pub struct BoundedService<S> {
    inner: S,
    bodies: Bodies,
}

impl<S, B, R> Service<http::Request<B>> for BoundedService<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let party = request.extensions().get::<Caller>().map(|caller| caller.party.clone());
        let streamed = STREAMED.iter().any(|method| request.uri().path().ends_with(method));
        // The one that is ready is used; its clone is for the next call.
        let waiting = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        let Some(party) = party.filter(|_| !streamed) else { return Box::pin(inner.call(request)) };
        let bodies = self.bodies.of(&party);
        Box::pin(async move {
            let whole = async {
                // Fails only when the semaphore is closed, which it never is.
                let _place = bodies.acquire().await;
                inner.call(request).await
            };
            match tokio::time::timeout(WHOLE, whole).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("the call took too long to arrive").into_http()),
            }
        })
    }
}
