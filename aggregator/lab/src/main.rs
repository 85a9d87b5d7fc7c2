//! `kilter-lab`: the cold half of the aggregator.
//!
//! Follows the aggregator's journal into the lake, answers questions about the past and trains models. The server starts and
//! supervises it; killing it touches neither ingest nor alarms. The other commands ask a running lab through its socket; `query`
//! and `reproduce` also work without one.

mod again;
mod app;
mod arguments;
mod backtest;
mod bar;
mod cache;
mod client;
mod clock;
mod commit;
mod completeness;
mod config;
#[cfg(test)]
mod crash;
mod derived;
mod erasing;
mod evaluate;
mod files;
mod gather;
mod lab;
mod lost;
mod mending;
mod place;
mod refetch;
mod reprocess;
mod rollups;
mod seals;
mod searches;
mod shown;
mod socket;
mod state;
mod teach;
mod trainer;
mod training;
mod turns;
mod upkeep;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// The cold half of the aggregator: lake, history and training.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Follow the journal, commit to the lake, answer and train until stopped.
    Serve {
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Ask the lake and the journal's tail with SQL.
    Query {
        /// For example: SELECT asset, COUNT(*) AS n FROM features GROUP BY asset
        sql: String,
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// As the lake stood then, in microseconds since 1970 by the lab's clock; what was not committed by then is not seen.
        #[arg(long, value_name = "US", allow_negative_numbers = true)]
        as_of: Option<i64>,
    },
    /// Train models now.
    Train(arguments::Train),
    /// Train a head that says how long is left, on machines that ran to failure; needs no running lab.
    Life {
        /// A folder in the layout of C-MAPSS; only its training part is read from.
        folder: PathBuf,
        /// Where artifact and report of each subset go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// All random choices follow from it.
        #[arg(long, default_value_t = trainer::DEFAULT_SEED)]
        seed: u64,
        /// Steps of each member; fewer for a quick look.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        steps: Option<u32>,
    },
    /// Show how far the lab is.
    Status {
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Tell whether all records of a measuring point are there, and each hole with its cause.
    Completeness {
        /// tenant/site/asset/point
        point: String,
        /// Begin, microseconds since 1970.
        #[arg(long, default_value_t = 0)]
        from: i64,
        /// End, microseconds since 1970.
        #[arg(long, default_value_t = i64::MAX)]
        to: i64,
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Tell the newest rows of each table, one JSON object a line, in the order of their receipt; no lab may be running. A server that has lost
    /// its snapshot asks this to draw its page again.
    Shown {
        /// Rows of each table at most.
        #[arg(long, value_name = "N", default_value_t = shown::MOST_ROWS)]
        most_rows: usize,
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Erase data from every table and every version, by columns, by time, or both; the lab must be running.
    Erase {
        /// Column and value, as in device=press-1; several must all hold.
        #[arg(required_unless_present = "from", value_name = "COLUMN=VALUE")]
        equals: Vec<String>,
        /// Only rows of event time from here: a day as in 2036-01-01 (UTC), or microseconds since 1970.
        #[arg(long, value_name = "TIME", value_parser = arguments::begin_us, requires = "to", allow_negative_numbers = true)]
        from: Option<i64>,
        /// Up to here: the end of a day, or microseconds since 1970.
        #[arg(long, value_name = "TIME", value_parser = arguments::end_us, requires = "from", allow_negative_numbers = true)]
        to: Option<i64>,
        /// Who wants it.
        #[arg(long)]
        who: String,
        /// Why.
        #[arg(long)]
        why: String,
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Correct a record: what it says is replaced, the past still reads as it was; the lab must be running.
    Correct(arguments::Correct),
    /// Define features over what the lake keeps, compute them over the past, and follow what comes; the lab must be running.
    #[command(subcommand)]
    Reprocess(reprocess::Command),
    /// Let a device seal with another key than the first one that was seen of it; the lab must be running.
    AcceptKey(arguments::Accept),
    /// Compare every file of the lake with the log and with what was acknowledged, and every seal with its rows; fails when something is wrong.
    Reconcile {
        /// Take out records that are there more than once, and put back lost ones that the journal still holds.
        #[arg(long)]
        repair: bool,
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Run a data set through the production path and print how well it did; needs no running lab.
    Evaluate {
        /// cmapss, skab, nab, ims, femto, bearing, ai4i, shift or all
        suite: String,
        /// The folder that holds the data sets.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Write one JSON object per figure here.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Write each artifact, its card, its signed manifest and every score behind the figures into this folder.
        #[arg(long, value_name = "DIR")]
        export: Option<PathBuf>,
        /// Seeds from 1 to N.
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
        seeds: u64,
        /// Steps per network; fewer for a quick look.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        steps: Option<u32>,
        /// cmapss: train on labels that were mixed; the head must fall back to the constant.
        #[arg(long)]
        shuffle_labels: bool,
    },
    /// Run a model, a rule or another threshold over the past, through the code that judges on machines; needs no running lab.
    #[command(after_help = BACKTEST_EXAMPLES)]
    Backtest(arguments::Backtest),
    /// Make a model again from its card and compare the digests; the folder needs the lake only.
    Reproduce {
        /// The model's card, a JSON file.
        card: PathBuf,
        /// The aggregator's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("kilter-lab: failed to start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run());
    // A question that does not end must not keep the process.
    runtime.shutdown_background();
    done
}

async fn run() -> ExitCode {
    let filter = EnvFilter::try_from_env("KILTER_LOG").unwrap_or_else(|_| {
        EnvFilter::new("info,deltalake=warn,deltalake_core=warn,delta_kernel=warn,buoyant_kernel=warn")
    });
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match Cli::parse().command {
        Command::Serve { data } => app::serve(&data).await,
        Command::Query { sql, data, json, as_of } => client::query(&data, &sql, as_of, json).await,
        Command::Train(arguments) => teach::train(&arguments.data.clone(), arguments.wish()).await,
        // Minutes of work on this thread: nothing else runs in this process.
        Command::Life { folder, out, seed, steps } => teach::life(&folder, &out, seed, steps),
        Command::Status { data } => client::status(&data).await,
        Command::Completeness { point, from, to, data } => client::completeness(&data, &point, from, to).await,
        Command::Shown { most_rows, data } => shown::tell(&data, most_rows).await,
        Command::Erase { equals, from, to, who, why, data } => {
            client::erase(&data, &equals, (from, to), &who, &why).await
        }
        Command::Correct(arguments::Correct { set, device, epoch, class, seq, who, why, data }) => {
            let record = serde_json::json!({ "device": device, "epoch": epoch, "class": class, "seq": seq });
            client::correct(&data, &record, &set, &who, &why).await
        }
        Command::Reprocess(command) => reprocess::command(command).await,
        Command::AcceptKey(accept) => client::accept_key(&accept).await,
        Command::Reconcile { repair, data } => client::reconcile(&data, repair).await,
        Command::Evaluate { suite, data, json, export, seeds, steps, shuffle_labels } => {
            let steps = steps.map(|steps| steps as usize);
            let evaluation = kilter_train::suite::Evaluation { seeds, steps, shuffled_labels: shuffle_labels };
            // Minutes of work on this thread: nothing else runs in this process.
            let to = evaluate::Destination { json: json.as_deref(), export: export.as_deref() };
            evaluate::run(&suite, &data, to, &evaluation)
        }
        Command::Backtest(arguments) => backtest::run(&arguments.data.clone(), arguments.wish()).await,
        Command::Reproduce { card, data } => teach::reproduce(&data, &card).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kilter-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const BACKTEST_EXAMPLES: &str = "Examples:
  kilter-lab backtest --model pump.kltm --data /var/lib/kilter
  kilter-lab backtest --model pump.kltm --as-of 2036-01-31 --range 2036-01-01..2036-01-31 --json january.json --data /var/lib/kilter
  kilter-lab backtest --model pump.kltm --threshold 7.5 --data /var/lib/kilter
  kilter-lab backtest --rule 'velocity_rms>2.8' --data /var/lib/kilter

Recorded scores of the same model are compared bit for bit; what can't be compared is listed with the cause. The curve holds alarms
under multiples of the threshold, raised with five of eight windows, against what people called faulty (labels).";

const EXAMPLES: &str = "Examples:
  kilter-lab serve --data /var/lib/kilter
  kilter-lab query 'SELECT asset, COUNT(*) AS n FROM features GROUP BY asset' --data /var/lib/kilter
  kilter-lab query 'SELECT event_time_us, cause, severity FROM events WHERE kind = '\\''alarm'\\''' --data /var/lib/kilter --json
  kilter-lab train --class pump --seed 7 --data /var/lib/kilter
  kilter-lab train --class pump --search 9 --data /var/lib/kilter
  kilter-lab train --auto --device-ram 64k --latency 1ms --data /var/lib/kilter
  kilter-lab life /srv/datasets --out heads
  kilter-lab completeness acme/north/pump-1/drive-end --data /var/lib/kilter
  kilter-lab reconcile --data /var/lib/kilter
  kilter-lab erase device=press-1 --who dpo@acme --why 'contract ended' --data /var/lib/kilter
  kilter-lab erase --from 2036-01-01 --to 2036-12-31 --who ops --why 'the clock had jumped' --data /var/lib/kilter
  kilter-lab reprocess define crest 'peak / rms' --who ops --data /var/lib/kilter
  kilter-lab reproduce model.card.json --data /var/lib/kilter
  kilter-lab backtest --model pump.kltm --range 2036-01-01..2036-01-31 --data /var/lib/kilter
  kilter-lab evaluate cmapss --data /srv/datasets --json cmapss.json --seeds 3 --export artifacts

Tables: features, scores, events, gaps, quarantine, clips.";
