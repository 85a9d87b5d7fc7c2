//! Rows a second of the rolling features, for comparison with `peers.py` on the same rows.
//!
//! `rolling_rate write FILE ROWS` makes a frame of 4 values a row for 100 machines; `rolling_rate roll FILE ROUNDS THREADS` reads it and
//! rolls mean, deviation, least and greatest of each over the last 60 rows of its machine.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use kilter_history::rolling;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", file, rows] => write(file, rows.parse()?)?,
        ["roll", file, rounds, threads] => measure(file, rounds.parse()?, threads.parse()?)?,
        _ => return Err("rolling_rate write FILE ROWS, or rolling_rate roll FILE ROUNDS THREADS".into()),
    }
    Ok(())
}

fn write(file: &str, rows: usize) -> std::io::Result<()> {
    let mut state = 3u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let values = (0..rows * WIDTH).flat_map(|_| (10.0 + noise()).to_le_bytes());
    std::fs::write(file, values.collect::<Vec<u8>>())
}

fn measure(file: &str, rounds: usize, threads: usize) -> std::io::Result<()> {
    let bytes = std::fs::read(file)?;
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let rows = values.len() / WIDTH;
    let series: Vec<u32> = (0..rows).map(|row| (row / rows.div_ceil(MACHINES)) as u32).collect();
    let mut times = Vec::new();
    for _ in 0..rounds.max(1) {
        let begin = Instant::now();
        let rolled = rolling(&values, &series, WIDTH, WINDOWS, threads);
        times.push(begin.elapsed().as_secs_f64());
        let last = rows * WIDTH - 1;
        println!(
            "last: {} {} {} {}",
            rolled.mean[last], rolled.deviation[last], rolled.least[last], rolled.greatest[last]
        );
    }
    times.sort_by(f64::total_cmp);
    let rate = |secs: f64| rows as f64 / secs / 1e6;
    println!(
        "{rows} rows, {threads} threads: best {:.2}, median {:.2} M rows/s",
        rate(times[0]),
        rate(times[times.len() / 2])
    );
    Ok(())
}

const MACHINES: usize = 100;
const WIDTH: usize = 4;
const WINDOWS: usize = 60;
