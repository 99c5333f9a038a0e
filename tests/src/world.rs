//! Builds and drives a world of real processes. Reads as sentences: `world.office("VN-BLO-LCA").sends(notice)`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use liaison_link::local;
use serde_json::{Value, json};

use crate::roles::{END_WITH_PARENT, ROLE};

mod backup;
mod process;

pub use backup::copy_directory;
pub use process::Process;

/// How long something that must happen may take on a machine that is busy building.
pub const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);
/// First passphrase of every officer in a world.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// Offices of the development charter with an officer each.
pub const OFFICES: [(&str, &str); 11] = [
    ("VN-CCP-HAN", "pham.duc"),
    ("VN-BLO-LCA", "nguyen.lan"),
    ("VN-BLO-MBA", "le.thu"),
    ("CN-CCP-PEK", "li.wei"),
    ("CN-BLO-HKO", "wang.fang"),
    ("LA-CCP-VTE", "somchai.vong"),
    ("LA-BLO-DSV", "khamla.sy"),
    ("KH-CCP-PNH", "sok.dara"),
    ("KH-BLO-BVT", "chan.sophea"),
    ("TH-CCP-BKK", "somsri.jai"),
    ("TH-BLO-ARN", "anong.sri"),
];

/// A world in a directory.
pub struct World {
    directory: PathBuf,
    program: PathBuf,
    broker: Option<Process>,
    /// Where the broker listened first, and does ever after.
    address: Option<String>,
    nodes: BTreeMap<String, Process>,
    /// Lines for the broker's configuration beside the usual ones.
    pub broker_keys: Vec<String>,
    /// Environment of processes started from now on.
    pub environment: Vec<(String, String)>,
    /// Where nodes created from now on find the broker, when not at its own address.
    pub node_broker: Option<String>,
    /// Hold before sending of nodes created from now on.
    pub hold_seconds: u32,
}

/// Whether a condition came true in time. Looks often; never a verdict about speed.
pub fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let steps = PATIENCE.as_millis() / STEP.as_millis();
    (0..steps).any(|_| {
        condition() || {
            thread::sleep(STEP);
            false
        }
    })
}

fn failed(what: &str, output: &Output) -> io::Error {
    let text = String::from_utf8_lossy(&output.stderr);
    io::Error::other(format!("{what} failed ({}): {}", output.status, text.trim()))
}

impl World {
    /// Makes a development charter and a broker's configuration in an empty directory. `program` is the demo binary.
    ///
    /// # Errors
    /// When a step fails.
    pub fn create(directory: &Path, program: &Path) -> io::Result<Self> {
        Self::create_under(directory, program, None)
    }

    /// The same, with the agreements of a directory in force from the beginning.
    ///
    /// # Errors
    /// When a step fails.
    pub fn create_under(directory: &Path, program: &Path, agreements: Option<&Path>) -> io::Result<Self> {
        fs::create_dir_all(directory.join("logs"))?;
        let world = Self {
            directory: directory.to_path_buf(),
            program: program.to_path_buf(),
            broker: None,
            address: None,
            nodes: BTreeMap::new(),
            broker_keys: Vec::new(),
            environment: Vec::new(),
            node_broker: None,
            hold_seconds: 0,
        };
        world.run("certs-dev", &["--out", &world.path("charter")])?;
        if let Some(policies) = agreements {
            let policies = policies.display().to_string();
            world.run("certs-dev", &["--out", &world.path("charter"), "sign-agreements", "--policies", &policies])?;
        }
        // What nodes and auditors were given; later charters they learn.
        fs::create_dir(directory.join("given"))?;
        for file in ["charter.toml", "charter.sig"] {
            fs::copy(directory.join("charter").join(file), directory.join("given").join(file))?;
        }
        let passphrase = world.directory.join("passphrase");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(passphrase)?;
        io::Write::write_all(&mut file, PASSPHRASE.as_bytes())?;
        world.write_broker_config("127.0.0.1:0")?;
        world.run(
            "broker",
            &["init", "--config", &world.path("broker.toml"), "--records", &world.path("charter/records")],
        )?;
        Ok(world)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path below the directory, as text for arguments.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The charter's SHA-256, as it would be delivered by hand.
    ///
    /// # Errors
    /// When the charter cannot be read.
    pub fn charter_sha256(&self) -> io::Result<String> {
        let bytes = fs::read(self.directory.join("charter/charter.toml"))?;
        Ok(liaison_proto::sha256(&[&bytes]).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn write_broker_config(&self, listen: &str) -> io::Result<()> {
        // Tests that restore a copy do not wait for offices that never come.
        let usual = ["restored_grace_seconds = 3", "segment_mebibytes = 4", "log = \"info\""];
        let is_set = |line: &str| self.broker_keys.iter().any(|key| key.split('=').next() == line.split('=').next());
        let usual: Vec<&str> = usual.into_iter().filter(|line| !is_set(line)).collect();
        let text = format!(
            "data = \"broker\"\ncharter = \"charter/charter.toml\"\n\
             charter_sha256 = \"{}\"\nlisten = \"{listen}\"\n\
             tls_certificate = \"charter/broker/tls.pem\"\ntls_key = \"charter/broker/tls.key\"\n\
             directory_log_key = \"charter/broker/log-directory.key\"\n\
             exchange_log_key = \"charter/broker/log-exchange.key\"\nevidence_key = \"charter/broker/evidence.key\"\n\
             revocation_lists = \"charter/crl\"\nreload_seconds = 1\n{}\n{}",
            self.charter_sha256()?,
            usual.join("\n"),
            self.broker_keys.join("\n"),
        );
        fs::write(self.directory.join("broker.toml"), text)
    }

    fn command(&self, role: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(ROLE).arg(role).args(arguments);
        command
    }

    /// Runs a role to its end and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started or exits with a failure.
    pub fn run(&self, role: &str, arguments: &[&str]) -> io::Result<String> {
        let output = self.output(role, arguments)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(failed(&format!("{role} {}", arguments.join(" ")), &output))
        }
    }

    /// Runs a role to its end, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, role: &str, arguments: &[&str]) -> io::Result<Output> {
        self.command(role, arguments).stdin(Stdio::null()).output()
    }

    fn spawn(&self, role: &str, log: &str, arguments: &[&str]) -> io::Result<Process> {
        let log = File::options().append(true).create(true).open(self.directory.join("logs").join(log))?;
        let mut command = self.command(role, arguments);
        command
            .envs(self.environment.iter().cloned())
            .env(END_WITH_PARENT, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        let child: Child = command.spawn()?;
        Ok(Process::new(child))
    }

    /// Starts the broker, on the address it had before when it had one, and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_broker(&mut self) -> io::Result<()> {
        let address = self.directory.join("broker/address");
        self.write_broker_config(self.address.as_deref().unwrap_or("127.0.0.1:0"))?;
        match fs::remove_file(&address) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut process = self.spawn("broker", "broker.log", &["run", "--config", &self.path("broker.toml")])?;
        let up = eventually(|| fs::metadata(&address).is_ok_and(|m| m.len() > 0) || process.has_ended());
        if !up || process.has_ended() {
            return Err(io::Error::other(format!("the broker did not start: {}", self.log("broker.log"))));
        }
        self.address = Some(self.broker_address()?);
        self.broker = Some(process);
        Ok(())
    }

    /// The broker's process id, when it runs.
    #[must_use]
    pub fn broker_pid(&self) -> Option<u32> {
        self.broker.as_ref().map(Process::id)
    }

    /// The broker's address.
    ///
    /// # Errors
    /// When it never started.
    pub fn broker_address(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.directory.join("broker/address"))?.trim().to_owned())
    }

    /// Process id of an office's running node; 0 when it does not run.
    #[must_use]
    pub fn node_pid(&self, office: &str) -> u32 {
        self.nodes.get(office).map_or(0, Process::id)
    }

    /// What the broker says of itself on its local socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn broker_status(&self) -> io::Result<Value> {
        local::call(&self.directory.join("broker/status.sock"), &json!({}))
    }

    /// What the broker says that a human should look after; a line that says that it does not answer when it does not.
    #[must_use]
    pub fn broker_problems(&self) -> Vec<String> {
        let lines = |status: Value| -> Vec<String> {
            status["problems"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        self.broker_status().map_or_else(|error| vec![format!("the broker does not answer: {error}")], lines)
    }

    /// Whether the broker has ended by itself.
    pub fn broker_has_ended(&mut self) -> bool {
        self.broker.as_mut().is_none_or(Process::has_ended)
    }

    /// Whether an office's node has ended by itself.
    pub fn node_has_ended(&mut self, office: &str) -> bool {
        self.nodes.get_mut(office).is_none_or(Process::has_ended)
    }

    /// `kill -9` of the broker.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_broker(&mut self) -> io::Result<()> {
        self.broker.take().map_or(Ok(()), Process::kill)
    }

    /// Stops the broker cleanly.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_broker(&mut self) -> io::Result<()> {
        self.broker.take().map_or(Ok(()), Process::stop)
    }

    /// Creates an office's node.
    ///
    /// # Errors
    /// When a step fails.
    pub fn create_node(&self, office: &str) -> io::Result<()> {
        let config = format!(
            "office = \"{office}\"\ndata = \"{office}\"\ncharter = \"given/charter.toml\"\n\
             charter_sha256 = \"{}\"\nbroker = \"{}\"\nsegment_mebibytes = 4\ndirectory_seconds = 2\nhold_seconds = {}\nlog = \"info\"\n",
            self.charter_sha256()?,
            self.node_broker.clone().map_or_else(|| self.broker_address(), Ok)?,
            self.hold_seconds,
        );
        let path = self.directory.join(format!("{office}.toml"));
        fs::write(&path, config)?;
        let (config, material) =
            (self.path(&format!("{office}.toml")), self.path(&format!("charter/offices/{office}")));
        let passphrase = self.path("passphrase");
        self.run("node", &["init", "--config", &config, "--material", &material, "--passphrase-file", &passphrase])?;
        Ok(())
    }

    /// Starts an office's node and waits until it answers and has the directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_node(&mut self, office: &str) -> io::Result<()> {
        self.start_nodes(&[office])
    }

    /// Starts one process that serves several offices, and waits until all answer and have the directory. It is killed
    /// and stopped by the first one's name.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_nodes(&mut self, offices: &[&str]) -> io::Result<()> {
        let first = offices.first().ok_or(io::ErrorKind::InvalidInput)?;
        let configs: Vec<String> = offices.iter().map(|office| self.path(&format!("{office}.toml"))).collect();
        let mut arguments = vec!["run"];
        arguments.extend(configs.iter().flat_map(|config| ["--config", config.as_str()]));
        let log = format!("{first}.log");
        let mut process = self.spawn("node", &log, &arguments)?;
        let answers = |office: &&str| {
            let status = local::call(&self.socket(office), &json!({"op": "status"}));
            status.is_ok_and(|status| status["directory_entries"].as_u64() > Some(0))
        };
        let up = eventually(|| offices.iter().all(answers) || process.has_ended());
        if !up || process.has_ended() {
            return Err(io::Error::other(format!("the node of {first} did not start: {}", self.log(&log))));
        }
        self.nodes.insert((*first).to_owned(), process);
        Ok(())
    }

    /// `kill -9` of an office's node.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_node(&mut self, office: &str) -> io::Result<()> {
        self.nodes.remove(office).map_or(Ok(()), Process::kill)
    }

    /// Stops an office's node cleanly.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_node(&mut self, office: &str) -> io::Result<()> {
        self.nodes.remove(office).map_or(Ok(()), Process::stop)
    }

    /// The end of a process's log file.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.directory.join("logs").join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// The local socket of an office's node.
    #[must_use]
    pub fn socket(&self, office: &str) -> PathBuf {
        self.directory.join(office).join("liaison.sock")
    }

    /// An office, to act in its name.
    #[must_use]
    pub fn office<'a>(&'a self, office: &'a str) -> OfficeHandle<'a> {
        OfficeHandle { world: self, office }
    }

    /// Runs `audit` with the auditor's certificate where it needs one; returns its exit code and its JSON.
    ///
    /// # Errors
    /// When it cannot be started or prints no JSON.
    pub fn audit(&self, arguments: &[&str]) -> io::Result<(i32, Value)> {
        let (charter, sha256) = (self.path("given/charter.toml"), self.charter_sha256()?);
        let mut all = vec!["--json", "--charter", &charter, "--charter-sha256", &sha256];
        all.extend(arguments);
        let (address, certificate, key);
        if arguments.first() == Some(&"mirror") {
            address = self.broker_address()?;
            certificate = self.path("charter/auditors/auditor-1/tls.pem");
            key = self.path("charter/auditors/auditor-1/tls.key");
            all.extend(["--broker", &address, "--certificate", &certificate, "--key", &key]);
        }
        let output = self.output("audit", &all)?;
        let json = serde_json::from_slice(&output.stdout).map_err(|_| failed("audit", &output))?;
        Ok((output.status.code().unwrap_or(-1), json))
    }
}

/// Acts as an officer of an office, over the node's local socket.
#[derive(Clone, Copy)]
pub struct OfficeHandle<'a> {
    world: &'a World,
    office: &'a str,
}

impl OfficeHandle<'_> {
    /// Asks the node.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn ask(&self, request: &Value) -> io::Result<Value> {
        let answer = local::call(&self.world.socket(self.office), request)?;
        if answer["error"].is_null() { Ok(answer) } else { Err(io::Error::other(answer.to_string())) }
    }

    /// Unlocks as the office's first officer.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn unlocks(&self) -> io::Result<()> {
        let officer = OFFICES.iter().find(|(office, _)| *office == self.office).map(|(_, officer)| *officer);
        self.ask(&json!({"op": "unlock", "officer": officer, "passphrase": PASSPHRASE})).map(|_| ())
    }

    /// Sends a case file; returns the message's id.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn sends(&self, file: &str) -> io::Result<String> {
        let answer = self.ask(&json!({"op": "send", "file": file}))?;
        answer["message"].as_str().map(str::to_owned).ok_or_else(|| io::Error::other("no message id"))
    }

    /// Acknowledges a message; returns the answer's id.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn acknowledges(&self, message: &str) -> io::Result<String> {
        let content = json!({"accepted": true, "owner_role": "OFFICER"});
        let answer = self.ask(&json!({"op": "reply", "message": message, "kind": "ACK", "content": content}))?;
        answer["message"].as_str().map(str::to_owned).ok_or_else(|| io::Error::other("no message id"))
    }

    /// The inbox.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn inbox(&self) -> io::Result<Vec<Value>> {
        Ok(self.ask(&json!({"op": "inbox", "limit": 4000}))?["messages"].as_array().cloned().unwrap_or_default())
    }

    /// The outbox.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn outbox(&self) -> io::Result<Vec<Value>> {
        Ok(self.ask(&json!({"op": "outbox", "limit": 4000}))?["messages"].as_array().cloned().unwrap_or_default())
    }

    /// A message with content, history and proof.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn shows(&self, message: &str) -> io::Result<Value> {
        self.ask(&json!({"op": "show", "message": message}))
    }

    /// The state of an own message at its first recipient.
    #[must_use]
    pub fn state_of(&self, message: &str) -> String {
        let outbox = self.outbox().unwrap_or_default();
        let found = outbox.iter().find(|entry| entry["message"] == message);
        found.and_then(|entry| entry["recipients"][0]["state"].as_str()).unwrap_or("UNKNOWN").to_owned()
    }

    /// Waits until an own message has one of these states at its first recipient.
    #[must_use]
    pub fn sees(&self, message: &str, states: &[&str]) -> bool {
        eventually(|| states.contains(&self.state_of(message).as_str()))
    }

    /// How often a message is in the inbox: once, or not yet.
    #[must_use]
    pub fn times_received(&self, message: &str) -> usize {
        self.inbox().unwrap_or_default().iter().filter(|entry| entry["message"] == message).count()
    }
}
