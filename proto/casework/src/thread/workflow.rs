//! Which workflow a thread follows, and how its states are called beside its steps.

use liaison_proto::wire::Kind;

/// Which workflow a thread follows: by the kind that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workflow {
    /// Notices, requests, searches and everything else.
    General,
    /// A suspect alert.
    Alert,
    /// A call for help.
    Hotline,
    /// A briefing.
    Briefing,
    /// The return of a victim.
    Return,
}

impl Workflow {
    /// By the kind that began the thread.
    #[must_use]
    pub const fn of(root: Kind) -> Self {
        match root {
            Kind::SuspectAlert => Self::Alert,
            Kind::HotlineCall => Self::Hotline,
            Kind::BriefingPlan => Self::Briefing,
            Kind::ReturnRequest => Self::Return,
            _ => Self::General,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Alert => "alert",
            Self::Hotline => "hotline",
            Self::Briefing => "briefing",
            Self::Return => "return",
        }
    }
}

/// States and flags that a thread or one of its messages can have beside its step, as labels name them.
pub const STATES: [&str; 8] =
    ["CONCURRENT", "DELIVERED", "ESCALATED", "EXERCISE", "HELD", "OUT_OF_STEP", "OVERDUE", "UNREADABLE"];
