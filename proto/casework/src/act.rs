//! What a message does in its thread: the codes of its content that the workflows turn on, and the step that its header
//! names for it.

use liaison_proto::{
    clock::UnixMillis,
    ids::{Country, MessageId, OfficeId},
    sha256,
    wire::{Kind, Step},
};
use prost_reflect::{DynamicMessage, ReflectMessage as _, prost::Message as _};

use crate::{
    age,
    fields::{inner, text, texts, truth},
    forms,
    persons::Persons,
};

/// Messages that one message can name: what its field is limited to where it was written honestly.
const MESSAGES_NAMED: usize = 50;

/// What a message does, as far as a workflow turns on it. It holds codes, never what identifies a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Begins a matter: a notice, a request, a search; or says more in it.
    Tell,
    /// An officer has it; with a triage class it is classified at once.
    Acknowledge {
        /// Classified at once.
        classified: bool,
    },
    /// The recipient has judged what it is.
    Classify,
    /// How the case goes on.
    Update {
        /// Nothing more is expected.
        closed: bool,
    },
    /// What was asked for.
    Answer {
        /// More follows.
        partial: bool,
    },
    /// The recipient will not act.
    Decline {
        /// A resubmission can succeed.
        fixable: bool,
    },
    /// The originator takes messages back.
    TakeBack(Vec<MessageId>),
    /// An alert, or its renewal.
    Alert {
        /// Until when.
        valid_until: Option<UnixMillis>,
    },
    /// Somebody was met, or what came of it.
    Hit(HitResult),
    /// The alert is needed no longer.
    CancelAlert,
    /// A call for help.
    Call,
    /// How the call ended.
    CloseCall,
    /// A meeting is proposed, or agreed to.
    Brief {
        /// Agreed to.
        agreed: bool,
    },
    /// A side signs the minutes of a meeting.
    Minutes {
        /// What it signs.
        signed: SignedRecord,
        /// Every action point is done.
        actions_closed: bool,
    },
    /// The return of a victim is asked for.
    RequestReturn {
        /// A child, or somebody who may be one.
        child: bool,
    },
    /// Where a return stands.
    UpdateReturn {
        /// The step that it says.
        to: Step,
        /// What was decided to be in the child's best interests, with a guardian recorded.
        best_interests: Option<BestInterests>,
    },
    /// What the country of origin found.
    Verify {
        /// A national or a permanent resident, as confirmed.
        receivable: bool,
        /// Safe to return, be it with protection.
        safe: bool,
    },
    /// A handover is proposed.
    ProposeHandover,
    /// The other side's proposal is answered.
    AnswerHandover {
        /// As it is.
        agreed: bool,
    },
    /// A side signs the minutes of a handover.
    HandOver(SignedRecord),
    /// How the person fares.
    Feedback {
        /// It closes the return.
        closes: bool,
    },
    /// Consent is given or withdrawn.
    Consent {
        /// Withdrawn.
        withdrawn: bool,
        /// For what a return needs.
        scopes: Scopes,
    },
    /// A recipient asks to pass messages on.
    AskOnward(Onward),
    /// The originator's decision.
    DecideOnward {
        /// Of what.
        about: Onward,
        /// Whether it may.
        granted: bool,
    },
    /// What one side holds of a channel, and how it compares.
    Reconcile {
        /// None in the first; then whether both hold the same.
        same: Option<bool>,
    },
    /// The originator says of own messages what was wrong in them, or that they are to be erased.
    Amend(Vec<MessageId>),
    /// Belongs to the thread and changes nothing about where it stands.
    Note,
}

/// What else of a content its workflow looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// How the other office can come by what is asked for.
    pub availability: Option<Availability>,
    /// When a handover is to be.
    pub appointment: Option<UnixMillis>,
    /// The country of origin takes the longer time to verify.
    pub takes_longer: bool,
    /// The country of origin asks for more, to verify.
    pub asks_more: bool,
    /// The country that a person is said to come from.
    pub citizenship: Option<Country>,
    /// Who it is about.
    pub persons: Persons,
}

impl Details {
    /// Of a content.
    #[must_use]
    pub fn of(kind: Kind, content: &DynamicMessage) -> Self {
        let instant = |message: &DynamicMessage, field| {
            forms::instant(&text(message, field)).map(|(millis, _)| UnixMillis(millis))
        };
        Self {
            availability: Availability::of(&text(content, "availability")),
            appointment: inner(content, "appointment").and_then(|appointment| instant(&appointment, "at")),
            takes_longer: truth(content, "takes_longer"),
            asks_more: !texts(content, "more_info").is_empty(),
            citizenship: text(content, "claimed_citizenship").parse().ok(),
            persons: Persons::of(kind, content),
        }
    }
}

/// How the other office can come by what is asked for (list `availability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It has it at hand.
    Direct,
    /// It can come by it.
    Obtainable,
}

impl Availability {
    /// By its code.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        match code {
            "DIRECT" => Some(Self::Direct),
            "OBTAINABLE" => Some(Self::Obtainable),
            _ => None,
        }
    }
}

/// What a consent covers of what a return needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// That the identity is verified.
    pub verify: bool,
    /// That the person returns.
    pub returns: bool,
}

impl Scopes {
    /// Whether it covers nothing of it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.verify && !self.returns
    }
}

/// What came of a meeting with somebody who may be the alert's person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitResult {
    /// May be.
    Met,
    /// Is.
    Confirmed,
    /// Is not.
    False,
}

/// What was decided for a child, a guardian being recorded with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BestInterests {
    /// To return.
    Return,
    /// Anything else.
    Other,
}

/// Minutes that both sides sign, each in a message of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    /// SHA-256 of the encoded minutes, in hexadecimal.
    pub sha256: String,
    /// The hash that it quotes; empty for whoever signs first.
    pub quotes: String,
}

/// What is to be passed on to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onward {
    /// Messages.
    pub messages: Vec<MessageId>,
    /// To.
    pub recipient: Option<OfficeId>,
}

fn ids(message: &DynamicMessage, field: &str) -> Vec<MessageId> {
    texts(message, field).iter().take(MESSAGES_NAMED).filter_map(|id| id.parse().ok()).collect()
}

/// SHA-256, in hexadecimal, of a message of the catalogue: fields in the order of their numbers, as both sides encode it.
#[must_use]
pub fn record_sha256(record: &DynamicMessage) -> String {
    hex::encode(sha256(&[&record.encode_to_vec()]))
}

fn signed(message: &DynamicMessage, field: &str) -> SignedRecord {
    let record = inner(message, field);
    SignedRecord {
        sha256: record.as_ref().map(record_sha256).unwrap_or_default(),
        // Longer is no hash.
        quotes: text(message, "record_sha256").chars().take(64).collect(),
    }
}

fn onward(message: &DynamicMessage) -> Onward {
    Onward { messages: ids(message, "message_ids"), recipient: text(message, "new_recipient").parse().ok() }
}

/// Whether a return is of a child, or of somebody who may be one: then it is protected as a child's.
#[must_use]
pub fn may_be_a_child(request: &DynamicMessage) -> bool {
    let age = age::when_found(request);
    match text(request, "age_group").as_str() {
        "CHILD" => true,
        "ADULT" => age.is_some_and(|age| age.oldest < age::ADULT),
        _ => age.is_none_or(|age| age.youngest < age::ADULT),
    }
}

fn update_return(content: &DynamicMessage) -> Act {
    let to = match text(content, "state").as_str() {
        "VERIFYING" => Step::ReturnVerifying,
        "BIA_HOLD" => Step::ReturnBiaHold,
        "DOCS_READY" => Step::ReturnDocsReady,
        "FAILED" => Step::ReturnFailed,
        "CLOSED_REFUSED" => Step::ReturnClosedRefused,
        "CLOSED_NOT_RETURNED" => Step::ReturnClosedNotReturned,
        // A state of a newer version moves nothing here.
        _ => return Act::Note,
    };
    let decided = inner(content, "best_interests").filter(|_| inner(content, "guardian").is_some());
    let best_interests = decided.map(|decided| match text(&decided, "decision").as_str() {
        "RETURN" => BestInterests::Return,
        _ => BestInterests::Other,
    });
    Act::UpdateReturn { to, best_interests }
}

fn consent(content: &DynamicMessage) -> Act {
    let covered = texts(content, "scope");
    let covers = |scope: &str| covered.iter().any(|covered| covered == scope);
    let scopes = Scopes { verify: covers("VERIFY"), returns: covers("RETURN") };
    match text(content, "new_state").as_str() {
        "WITHDRAWN" => Act::Consent { withdrawn: true, scopes },
        "GIVEN" => Act::Consent { withdrawn: false, scopes },
        // A state of a newer version gives nothing.
        _ => Act::Note,
    }
}

/// What the content of a kind does.
#[must_use]
pub fn act(kind: Kind, content: &DynamicMessage) -> Act {
    debug_assert!(content.descriptor().full_name().starts_with("liaison.casework."));
    match kind {
        Kind::CaseNotice | Kind::InfoRequest | Kind::ActionRequest | Kind::VictimSearch => Act::Tell,
        Kind::Test | Kind::ContactUpdate | Kind::StatReturn => Act::Tell,
        Kind::Ack => Act::Acknowledge { classified: !text(content, "triage").is_empty() },
        Kind::Classify => Act::Classify,
        Kind::CaseUpdate => Act::Update { closed: text(content, "stage") == "CLOSED" },
        Kind::InfoReply | Kind::ActionResult => Act::Answer { partial: truth(content, "partial") },
        Kind::Decline => Act::Decline { fixable: truth(content, "fixable") },
        Kind::Withdraw | Kind::Recall => Act::TakeBack(ids(content, "message_ids")),
        Kind::SuspectAlert => {
            let valid_until = forms::instant(&text(content, "valid_until")).map(|(millis, _)| UnixMillis(millis));
            Act::Alert { valid_until }
        }
        Kind::AlertHit => match text(content, "result").as_str() {
            "HIT" => Act::Hit(HitResult::Met),
            "CONFIRMED" => Act::Hit(HitResult::Confirmed),
            "FALSE_HIT" => Act::Hit(HitResult::False),
            _ => Act::Note,
        },
        Kind::AlertCancel => Act::CancelAlert,
        Kind::HotlineCall => Act::Call,
        Kind::HotlineClose => Act::CloseCall,
        Kind::BriefingPlan => Act::Brief { agreed: text(content, "answer") == "AGREED" },
        Kind::BriefingRecord => {
            Act::Minutes { signed: signed(content, "minutes"), actions_closed: truth(content, "actions_closed") }
        }
        Kind::ReturnRequest => Act::RequestReturn { child: may_be_a_child(content) },
        Kind::ReturnUpdate => update_return(content),
        Kind::VerifyReply => Act::Verify {
            receivable: ["CONFIRMED", "PERM_RESIDENT"].contains(&text(content, "nationality").as_str()),
            safe: ["YES", "WITH_PROTECTION"].contains(&text(content, "safe_to_return").as_str()),
        },
        Kind::HandoverProposal => Act::ProposeHandover,
        Kind::HandoverAnswer => Act::AnswerHandover { agreed: text(content, "answer") == "AGREED" },
        Kind::HandoverReceipt => Act::HandOver(signed(content, "record")),
        Kind::ReintegFeedback => Act::Feedback { closes: !text(content, "outcome").is_empty() },
        Kind::ConsentChange => consent(content),
        Kind::OnwardRequest => Act::AskOnward(onward(content)),
        Kind::OnwardDecision => {
            Act::DecideOnward { about: onward(content), granted: text(content, "decision") == "GRANTED" }
        }
        Kind::Reconciliation => {
            let result = text(content, "result");
            Act::Reconcile { same: (!result.is_empty()).then(|| result == "SAME") }
        }
        Kind::Correction | Kind::EraseNotice => Act::Amend(ids(content, "message_ids")),
        Kind::Translation | Kind::CallNote | Kind::Unspecified => Act::Note,
    }
}

/// The steps that a header may name for an act, the usual one first. Most acts have one; the others depend on where the
/// thread stands. What version 1.0 nodes wrote for a hot line's acknowledgement is among them.
#[must_use]
pub fn steps(act: &Act) -> &'static [Step] {
    match act {
        Act::Acknowledge { classified: false } => &[Step::Acked, Step::HotlineAnswered],
        Act::Acknowledge { classified: true } => &[Step::Classified, Step::HotlineAnswered],
        Act::Classify => &[Step::Classified],
        Act::Update { closed: false } => &[Step::InProgress, Step::HotlineActing],
        Act::Update { closed: true } => &[Step::Closed],
        Act::Answer { partial: false } => &[Step::Answered],
        Act::Answer { partial: true } => &[Step::InProgress],
        Act::Decline { .. } => &[Step::Declined],
        Act::TakeBack(_) => &[Step::Withdrawn],
        Act::Alert { .. } => &[Step::AlertActive],
        Act::Hit(HitResult::Met) => &[Step::AlertHit],
        Act::Hit(HitResult::Confirmed) => &[Step::AlertConfirmed],
        Act::Hit(HitResult::False) => &[Step::AlertFalseHit],
        Act::CancelAlert => &[Step::AlertCancelled],
        Act::Call => &[Step::HotlineRaised],
        Act::CloseCall => &[Step::HotlineClosed],
        Act::Brief { agreed: false } => &[Step::BriefingPlanned],
        Act::Brief { agreed: true } => &[Step::BriefingAgreed],
        Act::Minutes { actions_closed: true, .. } => &[Step::BriefingActionsClosed],
        Act::Minutes { signed, .. } if signed.quotes.is_empty() => &[Step::BriefingHeld],
        Act::Minutes { .. } => &[Step::BriefingRecordSigned],
        Act::RequestReturn { .. } => &[Step::ReturnRequested],
        Act::UpdateReturn { to, .. } => return_step(*to),
        Act::Verify { .. } => &[Step::ReturnVerified],
        Act::ProposeHandover => &[Step::ReturnProposed, Step::ReturnCountered],
        Act::AnswerHandover { agreed: true } => &[Step::ReturnAgreed],
        Act::AnswerHandover { agreed: false } => &[Step::ReturnFailed],
        Act::HandOver(_) => &[Step::ReturnHandedOver],
        Act::Feedback { closes: false } => &[Step::ReturnReintegrating],
        Act::Feedback { closes: true } => &[Step::ReturnClosed],
        Act::Consent { withdrawn: true, scopes } if !scopes.is_empty() => &[Step::ReturnSuspended, Step::Sent],
        Act::Tell | Act::Consent { .. } | Act::AskOnward(_) | Act::DecideOnward { .. } | Act::Reconcile { .. } => {
            &[Step::Sent]
        }
        Act::Amend(_) | Act::Note => &[Step::Sent],
    }
}

const fn return_step(to: Step) -> &'static [Step] {
    match to {
        Step::ReturnVerifying => &[Step::ReturnVerifying],
        Step::ReturnBiaHold => &[Step::ReturnBiaHold],
        Step::ReturnDocsReady => &[Step::ReturnDocsReady],
        Step::ReturnFailed => &[Step::ReturnFailed],
        Step::ReturnClosedRefused => &[Step::ReturnClosedRefused],
        _ => &[Step::ReturnClosedNotReturned],
    }
}
