//! Why a message does not fit where its thread stands.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal;)+) => {
        /// Why a message does not fit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum OutOfStep {
            $($(#[doc = $doc])+ $name,)+
        }

        impl OutOfStep {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What would be right.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// The header names another step than the content takes.
    StepDisagrees = "STEP_DISAGREES", "the header's step is the one that the content takes";
    /// The header declares a lower data class than the content has.
    DeclaresTooLittle = "DECLARES_TOO_LITTLE", "the header declares the highest data class of the content";
    /// From an office of a country that is no party of the thread.
    NotAParty = "NOT_A_PARTY", "only offices that a party of the thread has written to take part in it";
    /// The kind has no place in this workflow.
    OtherWorkflow = "OTHER_WORKFLOW", "this kind belongs to a thread of its own kind";
    /// The step is the other side's.
    OtherSide = "OTHER_SIDE", "this step is the other side's";
    /// Somebody else's message.
    NotYours = "NOT_YOURS", "only its originator takes a message back";
    /// The thread is closed.
    Closed = "CLOSED", "the thread is closed; a new matter is a new thread";
    /// The thread was withdrawn.
    Withdrawn = "WITHDRAWN", "the thread was withdrawn; a new matter is a new thread";
    /// The person was handed over.
    TooLateToWithdraw = "TOO_LATE", "what has happened is not withdrawn; a correction says what was wrong";
    /// Later steps rest on it.
    BuiltUpon = "BUILT_UPON", "later steps rest on it; a correction says what was wrong";
    /// Nothing was asked.
    NothingAsked = "NOTHING_ASKED", "an answer needs a request";
    /// Answered or declined before.
    Answered = "ANSWERED", "it was answered; a change of mind is a correction";
    /// A declined request cannot be mended.
    NotFixable = "NOT_FIXABLE", "it was declined for good; a new matter is a new thread";
    /// No such hit waits.
    NoSuchHit = "NO_SUCH_HIT", "in_reply_to names a hit that nobody has decided on";
    /// Nobody proposed anything.
    NothingProposed = "NOTHING_PROPOSED", "an answer needs the other side's proposal";
    /// One's own proposal.
    OwnProposal = "OWN_PROPOSAL", "the other side answers a proposal";
    /// It begins with being verified.
    NotVerifying = "NOT_VERIFYING", "first the country of origin says who verifies (RETURN_UPDATE, VERIFYING)";
    /// Not verified yet.
    NotVerified = "NOT_VERIFIED", "first the country of origin says what it found (VERIFY_REPLY)";
    /// Not to be received, or not safe.
    NotReceivable = "NOT_RECEIVABLE", "only a national or permanent resident who is safe to return is handed over";
    /// No papers yet.
    NotReady = "NOT_READY", "first the papers are ready (RETURN_UPDATE, DOCS_READY)";
    /// A child whose best interests nobody has decided.
    ChildHeld = "CHILD_HELD", "for a child first a best-interests decision and a guardian are recorded (RETURN_UPDATE)";
    /// Decided not to return.
    ChildStays = "CHILD_STAYS", "it was decided that the child does not return";
    /// Consent was withdrawn.
    Suspended = "SUSPENDED", "consent was withdrawn: close it (CLOSED_NOT_RETURNED), or wait for a new consent";
    /// Nothing agreed.
    NotAgreed = "NOT_AGREED", "first both sides agree on gate and time (HANDOVER_ANSWER)";
    /// Not handed over.
    NotHandedOver = "NOT_HANDED_OVER", "first the person is handed over (HANDOVER_RECEIPT)";
    /// Handed over.
    HandedOver = "HANDED_OVER", "the person is handed over; what comes is feedback";
    /// The two records differ.
    RecordsDiffer = "RECORDS_DIFFER", "both sides sign the same record; record_sha256 quotes the other side's";
    /// It has signed already.
    SignedBefore = "SIGNED_BEFORE", "each side signs once";
    /// Not said to be closed for such a reason.
    NotForThat = "NOT_FOR_THAT", "this way of closing needs another state: CLOSED_REFUSED after verification";
    /// Somebody is a victim and a suspect here, and no supervisor has signed.
    NotCountersigned = "NOT_COUNTERSIGNED", "the same person as victim and suspect in one thread needs the countersignature of a supervisor";
    /// A new recipient of what its originator has not allowed to be passed on.
    OnwardNotGranted = "ONWARD_NOT_GRANTED", "its originator has not allowed that this office gets it (handling H2 or H3)";
    /// A wider TLP than that of the message answered.
    TlpWider = "TLP_WIDER", "an answer is never wider (TLP) than what it answers";
    /// The agreements do not allow what it holds.
    NotInAgreement = "NOT_IN_AGREEMENT", "no agreement between the two countries allows what it holds";
    /// Written before its author had seen what it would undo or agree to.
    NotSeen = "NOT_SEEN", "something newer stands there that it does not follow: read that, and answer it (in_reply_to)";
    /// It replaces what is not its own, or of another kind.
    SupersedesOther = "SUPERSEDES_OTHER", "a message replaces an earlier one of the same originator and kind, in the same thread";
}

impl fmt::Display for OutOfStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.advice())
    }
}
