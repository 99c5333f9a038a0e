//! Starting and stopping the peers: on loopback, with files in a directory of their own, as they come but for TLS.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tokio::net::TcpStream;

const NATS: &str = "127.0.0.1:24222";
const RABBITMQ: &str = "127.0.0.1:25671";
const EPMD_PORT: &str = "24369";
/// How long a peer may take to listen: Erlang needs seconds.
const LOOKS: usize = 600;
const LOOK: Duration = Duration::from_millis(100);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Every write is synced before it is confirmed.
    NatsSynced,
    /// As it comes: synced every two minutes.
    Nats,
    /// A quorum queue of one replica.
    RabbitMq,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::NatsSynced, Self::Nats, Self::RabbitMq];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NatsSynced => "JetStream, every write synced",
            Self::Nats => "JetStream, as it comes",
            Self::RabbitMq => "RabbitMQ, quorum queue",
        }
    }
}

/// A running peer.
pub(super) struct Server {
    pub(super) address: String,
    children: Vec<Child>,
    process: u32,
}

impl Server {
    pub(super) const fn process(&self) -> u32 {
        self.process
    }

    /// Stops it in order.
    pub(super) fn stop(mut self) {
        self.signal("-TERM");
        if let Some(server) = self.children.last_mut() {
            for _ in 0..LOOKS {
                if matches!(server.try_wait(), Ok(Some(_))) {
                    break;
                }
                thread::sleep(LOOK / 10);
            }
        }
    }

    fn signal(&self, signal: &str) {
        let _ = Command::new("kill").args([signal, &self.process.to_string()]).stderr(Stdio::null()).status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The one behind its start script, when it was not stopped.
        if self.children.last_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None))) {
            self.signal("-KILL");
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a peer of `place` with its files in `own`, and waits until it listens.
pub(super) async fn start(kind: Kind, place: &Path, own: &Path, certificates: &Path) -> io::Result<Server> {
    fs::create_dir_all(own)?;
    let (address, mut children) = match kind {
        Kind::RabbitMq => (RABBITMQ, rabbitmq(place, own, certificates)?),
        nats => (NATS, vec![nats_server(nats, place, own, certificates)?]),
    };
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        if let Some(ended) = children.last_mut().and_then(|child| child.try_wait().ok().flatten()) {
            return Err(io::Error::other(format!("{} ended: {ended}", kind.name())));
        }
        if TcpStream::connect(address).await.is_ok() {
            let process = match kind {
                Kind::RabbitMq => fs::read_to_string(own.join("pid"))?.trim().parse().map_err(io::Error::other)?,
                _ => children[0].id(),
            };
            return Ok(Server { address: address.to_owned(), children, process });
        }
    }
    Err(io::Error::other(format!("{} does not listen", kind.name())))
}

fn nats_server(kind: Kind, place: &Path, own: &Path, certificates: &Path) -> io::Result<Child> {
    let sync = if kind == Kind::NatsSynced { "sync_interval: always" } else { "" };
    let (store, tls) = (own.display(), certificates.display());
    let text = format!(
        "server_name: bench\nlisten: \"{NATS}\"\njetstream {{\n  store_dir: \"{store}\"\n  {sync}\n  max_file_store: 20GB\n}}\n\
         tls {{\n  cert_file: \"{tls}/server.pem\"\n  key_file: \"{tls}/server.key\"\n  ca_file: \"{tls}/ca.pem\"\n  \
         verify: true\n  min_version: \"1.3\"\n}}\n"
    );
    let config = own.join("nats.conf");
    fs::write(&config, text)?;
    let log = fs::File::create(own.join("log"))?;
    Command::new(place.join("venv/bin/nats-server")).arg("-c").arg(config).stderr(log).stdout(Stdio::null()).spawn()
}

fn rabbitmq(place: &Path, own: &Path, certificates: &Path) -> io::Result<Vec<Child>> {
    let tls = certificates.display();
    let text = format!(
        "listeners.tcp = none\nlisteners.ssl.1 = {RABBITMQ}\nssl_options.cacertfile = {tls}/ca.pem\n\
         ssl_options.certfile = {tls}/server.pem\nssl_options.keyfile = {tls}/server.key\n\
         ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\nssl_options.versions.1 = tlsv1.3\n\
         disk_free_limit.absolute = 1GB\nvm_memory_high_watermark.absolute = 4GB\nlog.console = false\n"
    );
    fs::write(own.join("rabbitmq.conf"), text)?;
    fs::write(own.join("enabled_plugins"), "[].\n")?;
    let root = place.join("rabbitmq");
    let erlang = root.join("usr/lib/erlang/bin");
    let search = format!("{}:{}", erlang.display(), std::env::var("PATH").unwrap_or_default());
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let at = |name: &str| -> PathBuf { own.join(name) };
    let environment = |command: &mut Command| {
        command
            .env("PATH", &search)
            .env("LD_LIBRARY_PATH", &libraries)
            .env("HOME", own)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", EPMD_PORT)
            .env("RABBITMQ_NODENAME", "bench@localhost")
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", at("db"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", at("generated"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", at("feature_flags"))
            .env("RABBITMQ_DIST_PORT", "24672")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("LC_ALL", "C.UTF-8")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    };
    // Ours, so that the server leaves none behind.
    let mut epmd = Command::new(erlang.join("epmd"));
    epmd.args(["-address", "127.0.0.1", "-port", EPMD_PORT]);
    environment(&mut epmd);
    let mut server = Command::new(root.join("usr/lib/rabbitmq/bin/rabbitmq-server"));
    environment(&mut server);
    Ok(vec![epmd.spawn()?, server.spawn()?])
}
