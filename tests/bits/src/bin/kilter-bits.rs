//! `kilter-bits FILE`: the digest of a file of windows on this host, or under qemu-user.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::process::ExitCode;

use kilter_bits::{Bench, HEAD, ROOTS, SCRATCH, WINDOW, WINDOW_BYTES, setup};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: kilter-bits FILE (written by kilter-bits-windows)");
        return ExitCode::FAILURE;
    };
    let mut file = match File::open(&path) {
        Ok(file) => BufReader::new(file),
        Err(error) => {
            eprintln!("kilter-bits: failed to open {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let (mut roots, mut scratch) = (vec![0.0; ROOTS], vec![0.0; SCRATCH]);
    let Ok(mut bench) = Bench::new(&mut roots, &mut scratch) else {
        eprintln!("kilter-bits: a network's golden windows come out otherwise here");
        return ExitCode::FAILURE;
    };
    let mut bytes = vec![0; WINDOW_BYTES];
    let mut values = [0.0f32; HEAD + WINDOW];
    while file.read_exact(&mut bytes).is_ok() {
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        let (head, samples) = values.split_first_chunk::<HEAD>().expect("a window is longer than its head");
        if setup(head).and_then(|setup| bench.window(&setup, samples)).is_err() {
            eprintln!("kilter-bits: a window of the file can't be used");
            return ExitCode::FAILURE;
        }
    }
    let outcome = bench.outcome();
    println!("windows {} digest {:016x}", outcome.windows, outcome.digest);
    ExitCode::SUCCESS
}
