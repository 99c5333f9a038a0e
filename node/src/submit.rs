//! The way to the broker: what is in the outbox is submitted in its order, one lane beside the other, in one stream a
//! lane, until the broker has receipted or finally refused it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use futures_util::FutureExt as _;
use liaison_log::{
    exchange::withdraws,
    leaf::{Event, ExchangeLeaf},
    remote::within,
};
use liaison_proto::{
    Bytes,
    evidence::is_signed_refusal,
    header::Header,
    ids::{Channel, Lane, MessageId},
    refusal::{Refusal, RefusalCode},
    wire::{self, submit_answer::Answer},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    link::Link,
    record::{HeldByBroker, NodeRecord, Receipted, Refused},
    retry::Backoff,
    state::Submission,
    store::{StoreError, Write},
};

/// How long the largest message may take: 1.2 MB at 64 kbit/s and as much again.
const LARGEST: Duration = Duration::from_secs(300);
/// How long the broker may take to begin a stream.
const BEGIN: Duration = Duration::from_secs(30);
/// How long a lane lets more urgent ones go first: longer than their longest pause and a connection on a bad line.
const HEAD_START: Duration = Duration::from_secs(3);
/// How often it is looked whether held messages are to be submitted again, milliseconds.
const HELD_LOOK_MS: i64 = 500;
/// Envelopes under way in one stream: enough to fill a link, few enough to be read into memory.
const WINDOW: usize = 32;

/// Submits one lane's messages in order, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link, lane: Lane) -> Result<(), StoreError> {
    let mut submitter = Submitter { link, lane, unreadable: Vec::new(), held: HashMap::new(), later: None };
    let mut backoff = Backoff::of(lane);
    loop {
        submitter.wait_for_work().await?;
        submitter.let_pass().await?;
        let progress = submitter.stream().await?;
        if progress {
            backoff.reset();
        }
        let pause = submitter.later.take().unwrap_or_else(|| backoff.pause(submitter.link.entropy.as_ref()));
        tokio::time::sleep(pause).await;
    }
}

struct Submitter {
    link: Link,
    lane: Lane,
    /// Their stored bytes are damaged; what is behind them must not wait.
    unreadable: Vec<MessageId>,
    /// Held by a broker whose log is under repair, until it is asked again for the receipt.
    held: HashMap<MessageId, Instant>,
    /// When the broker said that something may be tried again.
    later: Option<Duration>,
}

/// What was sent and not answered yet.
struct Sent {
    id: MessageId,
    envelope: wire::Envelope,
    /// When it must be answered.
    until: Instant,
}

/// What receipts that came together add to the store.
#[derive(Default)]
struct Kept {
    records: Vec<Write>,
    /// Whose they are.
    receipted: Vec<MessageId>,
    /// Numbers that they gave.
    numbers: HashSet<(Channel, u64)>,
}

impl Submitter {
    /// The next message of the lane that may leave, which is none of those under way.
    fn next(&self, under_way: &VecDeque<Sent>) -> Option<MessageId> {
        let state = self.link.store.state();
        let now = self.link.clock.now();
        let lane_only =
            state.to_submit.range((self.lane, 0, MessageId::LOWEST)..).take_while(|(lane, ..)| *lane == self.lane);
        let ready = |id: &MessageId| {
            let held = state.outgoing.get(id).is_some_and(|outgoing| outgoing.not_before > now);
            let uploaded = self.link.uploads.are_done(&state, *id);
            let under_way = under_way.iter().any(|sent| sent.id == *id);
            // What takes a message back follows it: alone it would be refused, and the message leave after all.
            let target = state.outgoing.get(id).and_then(|outgoing| withdraws(outgoing.header.core()));
            let follows = target.and_then(|target| state.outgoing.get(&target));
            let early = follows
                .is_some_and(|target| target.submission == Submission::Queued && target.held_by_broker.is_none());
            let waits = self.held.get(id).is_some_and(|until| *until > Instant::now());
            let stays = self.link.leaving.is_taken_back(*id);
            !waits && !held && !stays && uploaded && !under_way && !early && !self.unreadable.contains(id)
        };
        lane_only.map(|(_, _, id)| *id).find(ready)
    }

    async fn wait_for_work(&self) -> Result<(), StoreError> {
        let mut changes = self.link.store.changes();
        let none = VecDeque::new();
        loop {
            changes.mark_unchanged();
            if self.next(&none).is_some() {
                return Ok(());
            }
            self.wait(&mut changes).await?;
        }
    }

    /// What is more urgent goes first, for a moment: after an outage all lanes connect at once, and whichever is first
    /// would empty its whole queue before.
    async fn let_pass(&self) -> Result<(), StoreError> {
        let mut changes = self.link.store.changes();
        let until = Instant::now() + HEAD_START;
        let waits = || {
            let state = self.link.store.state();
            let now = self.link.clock.now();
            let ahead = state.to_submit.range(..(self.lane, 0, MessageId::LOWEST));
            let mut ready = ahead.filter(|(.., id)| self.link.uploads.are_done(&state, *id));
            ready.any(|(.., id)| {
                let outgoing = state.outgoing.get(id);
                outgoing.is_some_and(|outgoing| outgoing.not_before <= now && outgoing.held_by_broker.is_none())
            })
        };
        while waits() && Instant::now() < until {
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| StoreError::Stopped)?,
                () = tokio::time::sleep_until(until) => {}
            }
        }
        Ok(())
    }

    /// Until something changes: the store, the end of a hold, an upload.
    async fn wait(&self, changes: &mut tokio::sync::watch::Receiver<u64>) -> Result<(), StoreError> {
        let mut uploads = self.link.uploads.changes();
        uploads.mark_unchanged();
        let now = self.link.clock.now();
        let hold = {
            let state = self.link.store.state();
            let holds = state.to_submit.iter().filter(|(lane, ..)| *lane == self.lane);
            let ends = holds.filter_map(|(_, _, id)| Some(state.outgoing.get(id)?.not_before)).filter(|end| *end > now);
            let end = ends.min().map_or(60_000, |end| end.since(now).clamp(1, 60_000));
            // One that is kept from leaving may leave after all, and nothing would say so.
            let own = state.to_submit.iter().filter(|(lane, ..)| *lane == self.lane).map(|(_, _, id)| *id);
            let kept = self.link.leaving.keeps_one(own);
            if self.held.is_empty() && !kept { end } else { end.min(HELD_LOOK_MS) }
        };
        tokio::select! {
            changed = changes.changed() => changed.map_err(|_| StoreError::Stopped),
            _ = uploads.changed() => Ok(()),
            () = tokio::time::sleep(Duration::from_millis(hold.unsigned_abs())) => Ok(()),
        }
    }

    /// One stream, until it breaks or an answer asks for a pause. Says whether anything was settled.
    async fn stream(&mut self) -> Result<bool, StoreError> {
        let (requests, stream) = mpsc::channel(WINDOW);
        let mut exchange = self.link.exchange(self.lane);
        let mut answers = match within(BEGIN, exchange.submit_stream(ReceiverStream::new(stream))).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => {
                let refusal = is_refusal(&status).then(|| format!("the broker takes nothing: {}", refusal_of(&status)));
                self.link.health.note(problem_of(self.lane), refusal);
                return Ok(false);
            }
        };
        self.link.health.note(problem_of(self.lane), None);
        let mut under_way: VecDeque<Sent> = VecDeque::new();
        let mut changes = self.link.store.changes();
        let mut progress = false;
        // After a "later" nothing new is sent; what is under way is still answered.
        let mut closing = false;
        loop {
            changes.mark_unchanged();
            if closing && under_way.is_empty() {
                return Ok(progress);
            }
            while !closing
                && under_way.len() < WINDOW
                && let Some(id) = self.next(&under_way)
            {
                let Some(envelope) = self.read(id).await? else { continue };
                // Its officer may have been quicker.
                if !self.link.leaving.leaves(id) {
                    continue;
                }
                let seen_size = self.link.view.seen_size();
                let request = wire::SubmitRequest { envelope: Some(envelope.clone()), seen_size };
                if requests.send(request).await.is_err() {
                    return Ok(progress);
                }
                under_way.push_back(Sent { id, envelope, until: Instant::now() + LARGEST });
            }
            let until = under_way.front().map(|sent| sent.until);
            tokio::select! {
                answer = answer(&mut answers, until) => {
                    let Some(answered) = answer.zip(under_way.pop_front()) else { return Ok(progress) };
                    // What has come besides is kept together.
                    let (mut answered, mut malformed) = (vec![answered], false);
                    while !malformed && let Some(Ok(Some(more))) = answers.message().now_or_never() {
                        match more.answer.zip(under_way.pop_front()) {
                            Some(more) => answered.push(more),
                            None => malformed = true,
                        }
                    }
                    let mut kept = Kept::default();
                    for (answer, sent) in answered {
                        if self.settle(sent, answer, &mut kept).await? {
                            progress = true;
                        } else {
                            closing = true;
                        }
                    }
                    if !kept.records.is_empty() {
                        self.link.store.write(kept.records).await?;
                        kept.receipted.into_iter().for_each(|id| self.link.leaving.answered(id));
                    }
                    if malformed {
                        return Ok(progress);
                    }
                }
                waited = self.wait(&mut changes) => waited?,
            }
        }
    }

    async fn read(&mut self, id: MessageId) -> Result<Option<wire::Envelope>, StoreError> {
        let envelope = {
            let state = self.link.store.state();
            let queued = state.outgoing.get(&id).filter(|o| o.submission == Submission::Queued);
            queued.and_then(|o| Some(self.link.store.envelope(&o.header, o.signature.as_ref(), o.body?)))
        };
        match envelope {
            Some(Ok(envelope)) => Ok(Some(envelope)),
            None => {
                self.unreadable.push(id);
                Ok(None)
            }
            Some(Err(error)) => {
                let what = format!("message {id} cannot be read from the outbox: {error}");
                self.link.alarm(what, Bytes::new()).await?;
                self.unreadable.push(id);
                Ok(None)
            }
        }
    }

    /// Keeps what an answer says; false when it is to be asked again later.
    async fn settle(&mut self, sent: Sent, answer: Answer, kept: &mut Kept) -> Result<bool, StoreError> {
        let Sent { id, envelope, .. } = sent;
        let receipt = match answer {
            Answer::Refusal(refusal) => return self.refused(id, &envelope, refusal).await,
            Answer::Receipt(receipt) => receipt,
        };
        match self.link.view.verify(&receipt, self.lane).await {
            Ok(verified) if is_receipt_for(&verified.leaf, &envelope) => {
                self.held.remove(&id);
                check_numbers(&self.link, &verified.leaf, &mut kept.numbers).await?;
                let message_id = Bytes::copy_from_slice(id.as_bytes());
                let at_ms = self.link.clock.now().0;
                let record = NodeRecord::Receipted(Receipted { message_id, receipt: Some(receipt), at_ms });
                kept.records.push(record.into());
                kept.receipted.push(id);
                Ok(true)
            }
            Ok(_) => {
                let what = format!("the broker's receipt for {id} is of another message");
                self.link.alarm(what, receipt.proof).await?;
                Ok(false)
            }
            Err(error) => {
                self.link.report(&error, &receipt).await?;
                Ok(false)
            }
        }
    }

    /// The broker delivers it without a receipt; what is behind it does not wait for that.
    async fn held(&mut self, id: MessageId, again: Duration) -> Result<bool, StoreError> {
        self.held.insert(id, Instant::now() + again);
        let noted = {
            let state = self.link.store.state();
            state.outgoing.get(&id).is_none_or(|outgoing| outgoing.held_by_broker.is_some())
        };
        if !noted {
            tracing::warn!(message = %id, "the broker's log is under repair; it holds the message, which goes without a receipt");
            let message_id = Bytes::copy_from_slice(id.as_bytes());
            let record = HeldByBroker { message_id, at_ms: self.link.clock.now().0 };
            self.link.store.write(vec![NodeRecord::HeldByBroker(record).into()]).await?;
        }
        Ok(true)
    }

    async fn refused(
        &mut self,
        id: MessageId,
        envelope: &wire::Envelope,
        refusal: wire::RefusalAnswer,
    ) -> Result<bool, StoreError> {
        if refusal.retry_after_ms > 0 {
            if refusal.code == RefusalCode::HeldUnproven.as_str() {
                return self.held(id, Duration::from_millis(refusal.retry_after_ms.min(60_000))).await;
            }
            tracing::debug!(message = %id, code = refusal.code, "not accepted yet");
            self.later = Some(Duration::from_millis(refusal.retry_after_ms.min(60_000)));
            if refusal.code == RefusalCode::AttachmentMissing.as_str() {
                self.link.uploads.again(id);
            }
            return Ok(false);
        }
        tracing::warn!(message = %id, code = refusal.code, "refused by the broker");
        let header = Header::parse(envelope.header.clone()).ok();
        let is_signed = |signed: &wire::SignedRefusal| {
            let evidence = self.link.charters.get().evidence_keys(self.link.clock.now());
            header.as_ref().is_some_and(|h| is_signed_refusal(signed, h, &refusal.code, &evidence))
        };
        if refusal.signed.as_ref().is_some_and(|signed| !is_signed(signed))
            && let Err(error) = self.link.view.learn(self.lane).await
        {
            tracing::debug!(%error, "the broker's charters are not known");
        }
        let signed = refusal.signed.clone().filter(is_signed);
        if refusal.signed.is_some() && signed.is_none() {
            let what = format!("the broker's signature over its refusal of {id} is not good");
            self.link.alarm(what, envelope.header.clone()).await?;
        }
        if self.link.store.state().outgoing.get(&id).is_some_and(|outgoing| outgoing.again) {
            let what = format!(
                "message {id} had been accepted before the log was closed, and is refused now ({}): send it anew",
                refusal.code
            );
            self.link.alarm(what, envelope.header.clone()).await?;
        }
        let record = NodeRecord::Refused(Refused {
            message_id: Bytes::copy_from_slice(id.as_bytes()),
            code: refusal.code,
            detail: refusal.detail,
            at_ms: self.link.clock.now().0,
            signed,
        });
        self.link.store.write(vec![record.into()]).await?;
        self.link.leaving.answered(id);
        Ok(true)
    }
}

/// The next answer. What is under way is answered in time, or the link is gone; an idle stream may be silent.
async fn answer(answers: &mut Streaming<wire::SubmitAnswer>, until: Option<Instant>) -> Option<Answer> {
    match until {
        Some(until) => tokio::time::timeout_at(until, answers.message()).await.ok()?.ok()??.answer,
        None => answers.message().await.ok()??.answer,
    }
}

/// What a lane's refusals are noted under.
const fn problem_of(lane: Lane) -> &'static str {
    match lane {
        Lane::Flash => "submit FLASH",
        Lane::Urgent => "submit URGENT",
        Lane::Bulk => "submit bulk",
    }
}

/// Whether a leaf is the ACCEPTED entry of exactly these header bytes and this signature.
pub(crate) fn is_receipt_for(leaf: &Bytes, envelope: &wire::Envelope) -> bool {
    match ExchangeLeaf::parse(leaf).map(|leaf| leaf.event) {
        Ok(Event::Accepted { header, signature, .. }) => {
            header.bytes() == &envelope.header && signature == envelope.office_signature
        }
        _ => false,
    }
}

/// No number is given twice; one that is skipped is filled by a retry under way, or told later.
async fn check_numbers(link: &Link, leaf: &Bytes, before: &mut HashSet<(Channel, u64)>) -> Result<(), StoreError> {
    let Ok(Event::Accepted { header, numbers, .. }) = ExchangeLeaf::parse(leaf).map(|leaf| leaf.event) else {
        return Ok(());
    };
    for (channel, &number) in header.core().channels().zip(&numbers) {
        let again = link.store.state().sent_numbers.get(&channel).is_some_and(|sent| sent.has(number));
        if again || number == 0 || !before.insert((channel, number)) {
            let what = format!(
                "number {number} was given on {} -> {} {:?} a second time",
                channel.from, channel.to, channel.lane
            );
            link.alarm(what, leaf.clone()).await?;
        }
    }
    Ok(())
}

fn is_refusal(status: &tonic::Status) -> bool {
    Refusal::from_status(status).is_some()
}

/// A refusal of a whole call.
pub(crate) fn refusal_of(status: &tonic::Status) -> String {
    Refusal::from_status(status).map_or_else(|| status.message().to_owned(), |refusal| refusal.to_string())
}
