//! How the demo tells what happens: as it happens, then as tables a person wants to read, or as JSON.

use serde_json::{Value, json};

use crate::world::World;

struct Step {
    what: String,
    held: bool,
}

struct Promise {
    number: u8,
    promise: &'static str,
    held: bool,
    how: String,
}

/// Tells the story and keeps what held.
pub struct Teller {
    quiet: bool,
    colour: bool,
    steps: Vec<Step>,
    way: Vec<Value>,
    promises: Vec<Promise>,
}

impl Teller {
    /// A teller that prints, or keeps quiet until the JSON at the end.
    #[must_use]
    pub const fn new(quiet: bool, colour: bool) -> Self {
        Self { quiet, colour, steps: Vec::new(), way: Vec::new(), promises: Vec::new() }
    }

    fn mark(&self, held: bool) -> &'static str {
        match (held, self.colour) {
            (true, true) => "\u{1b}[32mok\u{1b}[0m",
            (true, false) => "ok",
            (false, true) => "\u{1b}[31mFAILED\u{1b}[0m",
            (false, false) => "FAILED",
        }
    }

    /// A heading.
    pub fn chapter(&self, title: &str) {
        if !self.quiet {
            println!("\n{title}");
        }
    }

    /// Something that happened, and whether it held.
    pub fn step(&mut self, what: impl Into<String>, held: bool) {
        let what = what.into();
        if !self.quiet {
            println!("  {}  {what}", self.mark(held));
        }
        self.steps.push(Step { what, held });
    }

    /// The message's way, as its history says.
    pub fn way(&mut self, history: Vec<Value>) {
        self.way = history;
    }

    /// A promise and how it was checked.
    pub fn promise(&mut self, number: u8, promise: &'static str, held: bool, how: impl Into<String>) {
        self.promises.push(Promise { number, promise, held, how: how.into() });
    }

    /// Whether every step and promise held.
    #[must_use]
    pub fn held(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.held) && self.promises.iter().all(|p| p.held)
    }

    /// The tables.
    pub fn print_end(&self, held: bool) {
        if !self.way.is_empty() {
            self.print_way();
        }
        if !self.promises.is_empty() {
            self.print_promises();
        }
        let verdict = if held { "Every step held." } else { "NOT every step held." };
        println!("\n{verdict}");
    }

    fn print_way(&self) {
        println!("\nThe way of the notice");
        println!("  {:<24}  {:<14}  {:<11}  entry", "time (UTC)", "event", "by");
        for event in &self.way {
            let text = |key: &str| event[key].as_str().unwrap_or("").to_owned();
            let entry = event["entry"].as_u64().map(|entry| entry.to_string()).unwrap_or_default();
            println!("  {:<24}  {:<14}  {:<11}  {entry}", text("at"), text("what"), text("by"));
        }
    }

    fn print_promises(&self) {
        println!("\nThe promises, and how each was checked here");
        for promise in &self.promises {
            println!("  {}  {:>2}. {}", self.mark(promise.held), promise.number, promise.promise);
            println!("          {}", promise.how);
        }
    }

    /// What to type next when nothing runs any more.
    pub fn print_after(&self, world: &World, kept: bool) {
        if kept {
            let directory = world.directory().display();
            println!("Everything it made is in {directory}; the auditor's copy can be looked at any time:");
            println!(
                "  target/release/audit --charter {directory}/charter/charter.toml verify --copy {directory}/audit"
            );
        } else {
            println!("Nothing was kept; --dir DIR keeps it. To try it yourself: cargo run --release --bin demo");
        }
    }

    /// What to type next.
    pub fn print_next(&self, world: &World) {
        let directory = world.directory().display();
        let socket = |office: &str| format!("--socket {directory}/{office}/liaison.sock");
        println!("\nEverything keeps running until Ctrl-C; it lies in {directory}.");
        println!("Officers: nguyen.lan at VN-BLO-LCA, wang.fang at CN-BLO-HKO; passphrase in {directory}/passphrase.");
        println!("Try, in another terminal (after: cargo build --release):");
        for line in [
            format!("liaison {} inbox", socket("CN-BLO-HKO")),
            format!("liaison {} outbox", socket("VN-BLO-LCA")),
            format!("liaison {} unlock nguyen.lan --passphrase-file {directory}/passphrase", socket("VN-BLO-LCA")),
            format!("liaison {} send deploy/samples/case-notice.yaml", socket("VN-BLO-LCA")),
            format!("liaison {} status", socket("CN-BLO-HKO")),
            format!("broker status --config {directory}/broker.toml"),
            format!("audit --charter {directory}/charter/charter.toml verify --copy {directory}/audit"),
        ] {
            println!("  target/release/{line}");
        }
        println!("liaison new CASE_NOTICE prints a form to fill in; liaison --help lists the rest.");
    }

    /// All of it, for machines.
    #[must_use]
    pub fn to_json(&self, held: bool, error: &Value) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(|s| json!({"what": s.what, "held": s.held})).collect();
        let promises: Vec<Value> = self
            .promises
            .iter()
            .map(|p| json!({"number": p.number, "promise": p.promise, "held": p.held, "how": p.how}))
            .collect();
        json!({"held": held, "error": error, "steps": steps, "way": self.way, "promises": promises})
    }
}
