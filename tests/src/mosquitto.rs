//! Debian's mosquitto on a free port, for tests that need somebody else's broker.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::{House, Process, free_port};

/// A broker of its own; killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    /// Where it listens, on loopback.
    pub port: u16,
    program: PathBuf,
    /// Its configuration and the files that this names.
    folder: tempfile::TempDir,
    settings: String,
    process: Option<Process>,
}

impl Mosquitto {
    /// Starts one and waits until it listens. `settings` are the lines behind its listener's, from the folder where files for it may lie.
    /// `None` once it is said that it is not installed, which CI does not let pass.
    pub fn start(settings: impl FnOnce(&Path) -> String) -> anyhow::Result<Option<Self>> {
        let Some(program) = installed("mosquitto") else {
            return Ok(None);
        };
        let folder = tempfile::tempdir().context("a folder for the broker")?;
        let settings = settings(folder.path());
        let mut broker = Self { port: 0, program, folder, settings, process: None };
        for _ in 0..ATTEMPTS {
            broker.port = free_port().context("a port for the broker")?;
            if broker.start_again()? {
                return Ok(Some(broker));
            }
        }
        bail!("mosquitto does not start; its log says\n{}", fs::read_to_string(broker.log()).unwrap_or_default())
    }

    /// One that asks for passwords and keeps each device to its own two topics, as docs/BROKER.md shows it. It knows the aggregator by
    /// [`Mosquitto::SERVER`]; the devices are told to it by [`Mosquitto::take_in`].
    pub fn guarded() -> anyhow::Result<Option<Self>> {
        if installed("mosquitto_passwd").is_none() {
            return Ok(None);
        }
        let mut written = Ok(());
        let broker = Self::start(|folder| {
            written = let_in(folder, &[]);
            let (users, access) = (folder.join(USERS), folder.join(ACCESS));
            format!("allow_anonymous false\npassword_file {}\nacl_file {}\n", users.display(), access.display())
        });
        written?;
        broker.context("start a broker with passwords")
    }

    /// A house moves in behind it: the aggregator signs in, and the broker, which starts again, knows the agents by what their bundles say;
    /// name and credential of each.
    pub fn take_in(&mut self, house: &House, agents: &[String]) -> anyhow::Result<Vec<(String, String)>> {
        let (user, password) = Self::SERVER;
        let file = house.dir.join("server.password");
        fs::write(&file, format!("{password}\n")).context("write the aggregator's password")?;
        house.set("mqtt", "broker_user", user)?;
        house.set("mqtt", "broker_password_file", file.display().to_string())?;
        let mut devices = Vec::new();
        for agent in agents {
            let text = fs::read_to_string(house.agent_dir(agent).join("bundle.toml")).context("read a bundle")?;
            let bundle: toml::Table = toml::from_str(&text).context("parse a bundle")?;
            let field = |name: &str| bundle[name].as_str().map(str::to_owned).with_context(|| format!("find {name}"));
            devices.push((field("device")?, field("credential")?));
        }
        let_in(self.folder.path(), &devices)?;
        self.kill();
        ensure!(self.start_again()?, "the broker has ended");
        Ok(devices)
    }

    /// Name and password of the aggregator at a guarded broker.
    pub const SERVER: (&str, &str) = ("kilter-aggregator", "a-secret-of-the-server");

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// `kill -9`; what it held in memory is gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it at the port that it had and waits until it listens; `false` when it has ended before.
    #[expect(clippy::disallowed_methods, reason = "a shell waits for a process")]
    pub fn start_again(&mut self) -> anyhow::Result<bool> {
        let file = self.folder.path().join("mosquitto.conf");
        let Self { port, settings, .. } = self;
        let text = format!("user root\npersistence false\nlistener {port} 127.0.0.1\n{settings}");
        fs::write(&file, text).context("write the broker's configuration")?;
        let mut process = Process::start("mosquitto", Command::new(&self.program).arg("-c").arg(&file), &self.log())?;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if process.has_ended() {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
        Ok(true)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// Passwords, hashed, and access list.
fn let_in(folder: &Path, devices: &[(String, String)]) -> anyhow::Result<()> {
    let (user, password) = Mosquitto::SERVER;
    let mut users = format!("{user}:{password}\n");
    for (user, password) in devices {
        let _ = writeln!(users, "{user}:{password}");
    }
    let file = folder.join(USERS);
    fs::write(&file, users).context("write the broker's users")?;
    let passwords = installed("mosquitto_passwd").context("find mosquitto_passwd")?;
    let output = Command::new(passwords).arg("-U").arg(&file).output().context("hash the broker's passwords")?;
    ensure!(output.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&output.stderr));
    let access = format!(
        "user {user}\ntopic read kilter/v1/+/+/up\ntopic write kilter/v1/+/+/down\n\n\
         pattern write kilter/v1/+/%u/up\npattern read kilter/v1/+/%u/down\n"
    );
    fs::write(folder.join(ACCESS), access).context("write the broker's access list")
}

/// A program of mosquitto's, on the path or where Debian puts its servers; `None` once it is said that it is not installed, which CI does
/// not let pass.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "`cargo xt setup` installs {program}: CI has it");
        println!("not run: 1 ({program} is not installed; `cargo xt setup` does it)");
    }
    found
}

const USERS: &str = "users";
const ACCESS: &str = "access";

/// Ports are tried until one is free at the moment when the broker takes it.
const ATTEMPTS: u32 = 20;
