//! The world: a charter, a broker and nodes as real processes on loopback, for the demo and the tests.
//!
//! Out of scope: what is tested (in `tests/all`).
//!
//! Invariants:
//! - Processes talk to loopback only, and end with whoever started them.
//! - Every role runs through the library entry point of its real binary ([`roles`]).

pub mod demo;
pub mod dice;
pub mod forger;
pub mod line;
pub mod roles;
pub mod scenarios;
pub mod simulation;
pub mod world;

/// Sample case files, as they lie under `deploy/samples/`.
pub mod samples {
    /// Lao Cai to Hekou: a missing girl.
    pub const CASE_NOTICE: &str = include_str!("../../deploy/samples/case-notice.yaml");
    /// A second sighting.
    pub const FOLLOW_UP: &str = include_str!("../../deploy/samples/follow-up-notice.yaml");
    /// A routine notice, as JSON.
    pub const ROUTINE: &str = include_str!("../../deploy/samples/routine-notice.json");
    /// Lao Cai to Hekou: two girls in a lorry.
    pub const HOTLINE_CALL: &str = include_str!("../../deploy/samples/hotline-call.yaml");
    /// Hekou to Lao Cai: how that ended; `in_reply_to` is to be replaced by the call's id.
    pub const HOTLINE_CLOSE: &str = include_str!("../../deploy/samples/hotline-close.yaml");
    /// Bangkok to Ha Noi: a girl to be received.
    pub const RETURN_REQUEST: &str = include_str!("../../deploy/samples/return-request.yaml");
    /// Ha Noi to three countries: a recruiter.
    pub const SUSPECT_ALERT: &str = include_str!("../../deploy/samples/suspect-alert.yaml");
    /// Lao Cai to Hekou: a notice taken back; its id is to be put in, twice.
    pub const WITHDRAW: &str = include_str!("../../deploy/samples/withdraw.yaml");
    /// A photo of an invented house, with an invented position and camera in its metadata.
    pub const PHOTO: &[u8] = include_bytes!("../../deploy/samples/photo.jpg");
    /// An end-to-end test.
    pub const CHAIN_TEST: &str = include_str!("../../deploy/samples/chain-test.yaml");
}
