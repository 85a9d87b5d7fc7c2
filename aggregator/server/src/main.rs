//! `kilter-aggregator`: the fleet service. See `--help`.

mod app;
mod catalogue;
mod client;
mod clock;
mod committed;
mod config;
mod disk;
mod fleet;
mod http;
mod image;
mod keys;
mod lab;
mod print;
mod recall;
mod refetch;
mod replay;
mod reprocess;
mod sessions;
mod store;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use kilter_types::{DeviceId, Name};
use kilter_wire::bundle::{BUNDLE_VERSION, Bundle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// The fleet service: keeps every record, raises alarms, rolls out models, serves the page.
#[derive(Parser)]
#[command(name = "kilter-aggregator", version, after_help = EXAMPLES)]
struct Arguments {
    /// Config file (TOML); without one the defaults hold.
    #[arg(long, global = true, env = "KILTER_AGGREGATOR_CONFIG")]
    config: Option<PathBuf>,
    /// Data folder; overrides `data` of the config.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// Address of page and API; overrides `http.listen`.
    #[arg(long, global = true)]
    http: Option<SocketAddr>,
    /// Address of the MQTT listener; overrides `mqtt.listen`.
    #[arg(long, global = true)]
    mqtt: Option<SocketAddr>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the service until SIGTERM or Ctrl-C.
    Serve,
    /// Enrols a device and writes its bundle (mode 0600).
    Enroll {
        /// The device's id: a-z, 0-9, '-', '_' and '.'.
        device: DeviceId,
        /// Where the bundle goes.
        #[arg(long)]
        out: PathBuf,
        /// Address that the device shall connect to, host:port; default: `mqtt.listen`.
        #[arg(long)]
        server: Option<String>,
    },
    /// Signs an image of a node's firmware, for `kilter-agent node-image`.
    SignImage(image::Sign),
    /// Makes an API token for a person and prints it once.
    Token {
        /// Whose.
        who: String,
    },
    /// Shows machines, nodes, models and rollouts.
    Fleet {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Goes back to the model before, as a new generation.
    Rollback {
        /// For machines of this kind.
        asset_class: Name,
        /// Why, for the audit log.
        #[arg(long, default_value = "asked for")]
        why: String,
    },
    /// Trains now and rolls the result out.
    Train {
        /// For machines of this kind only.
        #[arg(long)]
        asset_class: Option<Name>,
        /// Seed of the run.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Asks history in SQL: lake and journal tail together.
    Query {
        /// For example: SELECT asset, count(*) AS n FROM features GROUP BY asset
        sql: String,
        /// As the lake stood then, in microseconds since 1970; what was not committed by then is not seen.
        #[arg(long, value_name = "US", allow_negative_numbers = true)]
        as_of: Option<i64>,
    },
    /// Says whether a range is complete, or lists its gaps with their causes. Ends with 0 when it is, 3 when it is not, 1 when that
    /// could not be told.
    Completeness {
        /// tenant/site/asset/point
        #[arg(long)]
        point: String,
        /// From and to, in microseconds since 1970, as FROM..TO.
        #[arg(long)]
        range: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Has the edge asked for what the lake lost of a range: rows that were committed once and whose file is gone or damaged. What the edge
    /// does not keep any more becomes a gap that says so; `completeness` tells what is still missing.
    Refetch {
        /// tenant/site/asset/point
        #[arg(long, required_unless_present = "device")]
        point: Option<String>,
        /// The node that made the records.
        #[arg(long)]
        device: Option<DeviceId>,
        /// From and to, in microseconds since 1970, as FROM..TO.
        #[arg(long)]
        range: String,
        /// Why, for the audit log.
        #[arg(long, default_value = "asked for")]
        why: String,
    },
    /// Features that are defined afterwards, as SQL expressions over what the lake keeps: computed over the past, versions side by side.
    #[command(subcommand)]
    Reprocess(reprocess::Reprocess),
    /// Prints the documented default config.
    Config,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.context("failed to start the runtime").and_then(|runtime| runtime.block_on(run(arguments)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<print::NotComplete>() => ExitCode::from(print::NOT_COMPLETE),
        Err(error) => {
            eprintln!("kilter-aggregator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut config = Config::load(arguments.config.as_deref())?;
    if let Some(data) = arguments.data {
        config.data = data;
    }
    if let Some(address) = arguments.http {
        config.http.listen = address;
    }
    if let Some(address) = arguments.mqtt {
        config.mqtt.listen = address;
    }
    let http = config.http.listen;
    match arguments.command {
        Command::Serve => {
            let stop = CancellationToken::new();
            tokio::spawn(stop_on_signal(stop.clone()));
            app::run(config, stop).await
        }
        Command::Enroll { device, out, server } => enrol(&config, device, &out, server).await,
        Command::SignImage(ask) => {
            let keys = keys::Keys::load(&config.data.join("keys"), &config.tls.names)?;
            println!("{}", ask.run(&keys.signing_secret, clock::now())?);
            Ok(())
        }
        Command::Token { who } => {
            let catalogue = open_catalogue(&config).await?;
            println!("{}", catalogue.make_token(&who, clock::now()).await?);
            Ok(())
        }
        Command::Fleet { json } => {
            let fleet = client::ask(http, "GET", "/api/fleet", None).await?;
            let models = client::ask(http, "GET", "/api/models", None).await?;
            if json {
                println!("{}", json!({ "fleet": fleet, "models": models }));
            } else {
                print::fleet(&fleet, &models);
            }
            Ok(())
        }
        Command::Rollback { asset_class, why } => {
            let body = json!({ "asset_class": asset_class, "why": why });
            let answer = client::ask(http, "POST", "/api/rollback", Some(&body)).await?;
            println!("rollback is generation {}", answer["generation"]);
            Ok(())
        }
        Command::Train { asset_class, seed } => {
            let body = json!({ "asset_class": asset_class, "seed": seed });
            println!("{:#}", client::ask(http, "POST", "/api/train", Some(&body)).await?);
            Ok(())
        }
        Command::Query { sql, as_of } => {
            let ask = json!({ "sql": sql, "as_of_us": as_of });
            println!("{}", client::ask(http, "POST", "/api/query", Some(&ask)).await?);
            Ok(())
        }
        Command::Completeness { point, range, json } => {
            let (from, to) = range.split_once("..").context("failed to read --range: it is FROM..TO")?;
            let path = format!("/api/completeness?point={point}&from={from}&to={to}");
            let told = client::ask(http, "GET", &path, None).await?;
            match json {
                true => println!("{told}"),
                false => print!("{}", kilter_text::account(&told)),
            }
            anyhow::ensure!(told["complete"] == true, print::NotComplete);
            Ok(())
        }
        Command::Refetch { point, device, range, why } => {
            let (from, to) = range.split_once("..").context("failed to read --range: it is FROM..TO")?;
            let number = |text: &str| text.parse::<i64>().context("failed to read --range: both are microseconds");
            let (from, to) = (number(from)?, number(to)?);
            let body = json!({ "point": point, "device": device, "from": from, "to": to, "why": why });
            print::refetch(&client::ask(http, "POST", "/api/refetch", Some(&body)).await?);
            Ok(())
        }
        Command::Reprocess(wish) => reprocess::ask(http, wish).await,
        Command::Config => {
            print!("{}", config::DEFAULT_TOML);
            Ok(())
        }
    }
}

async fn enrol(config: &Config, device: DeviceId, out: &std::path::Path, server: Option<String>) -> anyhow::Result<()> {
    let catalogue = open_catalogue(config).await?;
    let keys = keys::Keys::load(&config.data.join("keys"), &config.tls.names)?;
    let server = server.unwrap_or_else(|| config.mqtt.listen.to_string());
    let loopback = server.starts_with("127.") || server.starts_with("localhost:") || server.starts_with("[::1]");
    // Off loopback the listener speaks TLS to everybody, local clients included.
    let local = loopback && !keys::is_open(config.mqtt.listen);
    let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host).trim_matches(['[', ']']);
    if !local && config.mqtt.broker.is_empty() && !config.tls.names.iter().any(|name| name == host) {
        anyhow::bail!(
            "failed to enrol {device}: the server's certificate does not hold {host:?}; add it to `tls.names` and remove {} \
             and server.key beside it, so that a new certificate is made",
            config.data.join("keys").join("server.pem").display()
        );
    }
    let bundle = Bundle {
        version: BUNDLE_VERSION,
        tenant: config.tenant.clone(),
        credential: catalogue.enrol(&config.tenant, &device, clock::now()).await?,
        device,
        server,
        server_ca: if local { String::new() } else { keys.ca_pem.clone() },
        signing_key: keys.signing_public(),
    };
    let text = toml::to_string(&bundle).context("failed to write the bundle")?;
    if out.exists() {
        std::fs::remove_file(out).with_context(|| format!("failed to replace {}", out.display()))?;
    }
    keys::write_secret(out, text.as_bytes())?;
    println!("enrolled {}; its bundle is {}", bundle.device, out.display());
    Ok(())
}

async fn open_catalogue(config: &Config) -> anyhow::Result<catalogue::Catalogue> {
    std::fs::create_dir_all(&config.data).with_context(|| format!("failed to create {}", config.data.display()))?;
    catalogue::Catalogue::open(&config.data.join("catalogue.sqlite")).await
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}

const EXAMPLES: &str = "\
Examples:
  kilter-aggregator serve
  kilter-aggregator serve --data /var/lib/kilter --http 0.0.0.0:18080 --mqtt 0.0.0.0:8883
  kilter-aggregator enroll edge-1 --out edge-1.bundle.toml --server plant.example:8883
  kilter-aggregator sign-image node.bin --board nrf52840 --generation 7 --out node-7.kltimage
  kilter-aggregator fleet
  kilter-aggregator query 'SELECT asset, count(*) AS n FROM features GROUP BY asset'
  kilter-aggregator reprocess define crest 'peak / rms'
  kilter-aggregator rollback pump --why 'too many alarms'";
