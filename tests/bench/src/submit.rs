//! The broker alone, with messages that were sealed beforehand, beside the no-op: call by call, and streamed.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use liaison_proto::wire::{self, exchange_client::ExchangeClient, submit_answer::Answer};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::{
    bed::{Bed, Message, SENDERS},
    ledger::{Ledger, Sample, Watch},
    measure::{Round, closed_loop, now},
};

/// Callers and connections of a subject.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) callers: usize,
    pub(crate) connections: usize,
    pub(crate) messages: usize,
}

/// What is measured.
struct Server {
    address: String,
    process: u32,
    data: Option<PathBuf>,
}

impl Server {
    fn watch(&self) -> io::Result<Watch<'_>> {
        Watch::begin(&[self.process], self.data.as_deref())
    }
}

fn request(message: &Message) -> wire::SubmitRequest {
    wire::SubmitRequest { envelope: Some(message.envelope.clone()), seen_size: 0 }
}

/// One call a message.
async fn unary(bed: &Bed, server: &Server, load: Load) -> io::Result<Sample> {
    let messages = bed.seal(load.messages);
    let each = load.connections.div_ceil(SENDERS.len());
    let mut clients = Vec::new();
    for number in 0..each * SENDERS.len() {
        clients.push(bed.connect(number % SENDERS.len(), &server.address).await?);
    }
    let clients = Arc::new(clients);
    let watch = server.watch()?;
    let round = closed_loop(load.callers, load.messages, move |caller, number| {
        let message = &messages[number];
        let mut client = clients[message.sender + SENDERS.len() * (caller % each)].clone();
        let request = request(message);
        async move { client.submit(request).await.map(|_| ()).map_err(io::Error::other) }
    });
    watch.end(&round.await?)
}

/// An answered message: how long it took, and its receipt.
pub(crate) type Answered = (Duration, wire::Receipt);

/// Sends the messages of one sender in one stream, with so many unanswered at most.
async fn stream(
    mut client: ExchangeClient<Channel>,
    messages: Arc<Vec<Message>>,
    sender: usize,
    unanswered: usize,
) -> io::Result<Vec<(usize, Answered)>> {
    let own: Vec<usize> = (0..messages.len()).filter(|&number| messages[number].sender == sender).collect();
    let places = Arc::new(Semaphore::new(unanswered));
    let (requests, stream) = mpsc::channel(unanswered);
    let (sent, mut begins) = mpsc::unbounded_channel::<(usize, Instant)>();
    let sending = Arc::clone(&places);
    tokio::spawn(async move {
        for number in own {
            let Ok(place) = sending.acquire().await else { return };
            place.forget();
            if sent.send((number, now())).is_err() || requests.send(request(&messages[number])).await.is_err() {
                return;
            }
        }
    });
    let answers = client.submit_stream(ReceiverStream::new(stream)).await.map_err(io::Error::other)?;
    let (mut answers, mut answered) = (answers.into_inner(), Vec::new());
    while let Some((number, begin)) = begins.recv().await {
        let answer = answers.message().await.map_err(io::Error::other)?;
        let Some(Answer::Receipt(receipt)) = answer.and_then(|answer| answer.answer) else {
            return Err(io::Error::other("a message was refused"));
        };
        places.add_permits(1);
        answered.push((number, (begin.elapsed(), receipt)));
    }
    Ok(answered)
}

/// Streams messages, one stream a sender, with so many unanswered together; the answers are in the messages' order.
///
/// # Errors
/// When one is refused.
pub(crate) async fn stream_all(
    bed: &Bed,
    address: &str,
    messages: &Arc<Vec<Message>>,
    unanswered: usize,
) -> io::Result<(Round, Vec<wire::Receipt>)> {
    let mut clients = Vec::new();
    for sender in 0..SENDERS.len() {
        clients.push(bed.connect(sender, address).await?);
    }
    let begin = now();
    let share = unanswered / SENDERS.len();
    let streams = clients.into_iter().enumerate();
    let streams: Vec<_> =
        streams.map(|(sender, client)| tokio::spawn(stream(client, Arc::clone(messages), sender, share))).collect();
    let mut answered = Vec::with_capacity(messages.len());
    for stream in streams {
        answered.extend(stream.await.map_err(io::Error::other)??);
    }
    let wall = begin.elapsed();
    answered.sort_unstable_by_key(|(number, _)| *number);
    let (latencies, receipts) = answered.into_iter().map(|(_, answered)| answered).unzip();
    Ok((Round::new(wall, latencies), receipts))
}

/// One round of all of them.
///
/// # Errors
/// When one cannot be measured.
pub(crate) async fn round(bed: &Bed, ledger: &mut Ledger, scale: usize) -> io::Result<()> {
    let one = Load { callers: 1, connections: 4, messages: 1000 * scale };
    let many = Load { callers: 64, connections: 16, messages: 8000 * scale };
    let more = Load { callers: 256, ..many };
    let (address, process) = bed.noop();
    let noop = Server { address, process, data: None };
    let (address, process) = bed.broker()?;
    let broker = Server { address, process, data: Some(PathBuf::from(bed.world.path("broker"))) };
    for (name, load) in [("1", one), ("64 on 16", many), ("256 on 16", more)] {
        ledger.add(&format!("no-op, {name}"), unary(bed, &noop, load).await?);
    }
    for (name, load) in [("1", one), ("64 on 16", many)] {
        ledger.add(&format!("broker, {name}"), unary(bed, &broker, load).await?);
    }
    let messages = bed.seal(many.messages);
    let watch = broker.watch()?;
    let (streamed, _) = stream_all(bed, &broker.address, &messages, 256).await?;
    ledger.add("broker, streamed, 256 in flight", watch.end(&streamed)?);
    Ok(())
}
