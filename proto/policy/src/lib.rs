//! The agreements between the countries, as Cedar policies: which kind may go from which office to which, on which legal basis,
//! how well protected. Between two countries that any agreement binds what none permits is forbidden.
//!
//! Out of scope: who signed an agreement (the directory's matter), what content holds (the catalogue's).
//!
//! Invariants:
//! - An agreement speaks only of offices of the countries that it names: nobody permits or forbids anything for others.
//! - Two countries that no agreement binds both are not judged: nobody starts forbidding for others.
//! - Something is allowed when an agreement permits it and none forbids it, for every recipient by itself.
//! - An agreement that does not fit the schema is refused whole, when it is read.

pub mod agreement;
pub mod decision;
pub mod question;
pub mod table;

pub use agreement::{Agreement, AgreementError, Agreements, PolicyError, check, in_force};
pub use decision::{Decision, Remedy};
pub use question::Question;
