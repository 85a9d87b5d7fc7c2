//! Burn's own LSTM on the models that `peer write DIR` made: answers compared, one line of JSON per workload (see `../peers.py`).

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use burn::module::Param;
use burn::nn::{GateController, Lstm, LstmConfig};
use burn::tensor::{Device, Tensor, TensorData};

const BATCH: usize = 64;

fn main() {
    let folder = std::env::args().nth(1).expect("burn-peer DIR, as `peer write DIR` made it");
    let mut models: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|item| item.expect("an entry").path()).collect();
    models.sort();
    for path in models {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let numbers: Vec<usize> =
            name.split('_').map(|part| part.trim_start_matches(char::is_alphabetic).parse().expect("inputs, hidden, rows")).collect();
        let [inputs, hidden, rows] = numbers[..] else { panic!("{name}: not in16_h32_seq32") };
        measure(&path, &name, (inputs, hidden, rows));
    }
}

fn measure(path: &Path, name: &str, (inputs, hidden, length): (usize, usize, usize)) {
    let device = Device::flex();
    let model = Model::read(path, (inputs, hidden), &device);
    let (rows, answers) = (floats(path, "rows"), floats(path, "answers"));
    for (kind, batch) in [("full", 1), ("batch64", BATCH)] {
        // Theirs is rows first; on disk it is batch first.
        let value = |row: usize, window: usize, column: usize| rows[(window * length + row) * inputs + column];
        let ordered = (0..length)
            .flat_map(|row| (0..batch).flat_map(move |window| (0..inputs).map(move |column| value(row, window, column))))
            .collect();
        let x = Tensor::<3>::from_data(TensorData::new(ordered, [length, batch, inputs]), &device);
        let theirs = model.answer(x.clone()).into_data().try_to_vec::<f32>().expect("floats");
        let worst = theirs.iter().zip(&answers).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let (median, best) = timed(if batch > 1 { 4 } else { 32 }, || {
            black_box(model.answer(black_box(x.clone())).into_data());
        });
        println!(
            r#"{{"model": "{name}", "kind": "{kind}", "median_ns": {median:.0}, "best_ns": {best:.0}, "worst": {worst:e}}}"#
        );
    }
}

struct Model {
    lstm: Lstm,
    output: Tensor<2>,
    bias: Tensor<2>,
}

impl Model {
    fn read(path: &Path, (inputs, hidden): (usize, usize), device: &Device) -> Self {
        let [w, r, b, wo, bo] = ["w", "r", "b", "wo", "bo"].map(|name| floats(path, name));
        let mut lstm = LstmConfig::new(inputs, hidden, true).with_batch_first(false).init(device);
        let gate = |place: usize, mut gate: GateController| {
            let weight = |all: &[f32], columns: usize| {
                let rows = &all[place * hidden * columns..][..hidden * columns];
                let turned = (0..columns).flat_map(|column| (0..hidden).map(move |row| rows[row * columns + column]));
                Param::from_data(TensorData::new(turned.collect::<Vec<_>>(), [columns, hidden]), device)
            };
            let bias = |values: Vec<f32>| Some(Param::from_data(TensorData::new(values, [hidden]), device));
            gate.input_transform.weight = weight(&w, inputs);
            gate.hidden_transform.weight = weight(&r, hidden);
            gate.input_transform.bias = bias(b[place * hidden..][..hidden].to_vec());
            gate.hidden_transform.bias = bias(vec![0.0; hidden]);
            gate
        };
        lstm.input_gate = gate(0, lstm.input_gate);
        lstm.forget_gate = lstm.forget_gate.map(|controller| gate(1, controller));
        lstm.cell_gate = gate(2, lstm.cell_gate);
        lstm.output_gate = gate(3, lstm.output_gate);
        let output = Tensor::<2>::from_data(TensorData::new(wo, [inputs, hidden]), device).transpose();
        Self { lstm, output, bias: Tensor::from_data(TensorData::new(bo, [1, inputs]), device) }
    }

    fn answer(&self, rows: Tensor<3>) -> Tensor<2> {
        let (_, last) = self.lstm.forward(rows, None);
        last.hidden.matmul(self.output.clone()) + self.bias.clone()
    }
}

fn floats(folder: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(folder.join(name)).expect("written by `peer write`");
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}

/// The median and the fastest of many short runs.
fn timed(repeats: u32, mut run: impl FnMut()) -> (f64, f64) {
    let (begin, mut nanos) = (Instant::now(), Vec::new());
    while begin.elapsed().as_millis() < 150 {
        let start = Instant::now();
        (0..repeats).for_each(|_| run());
        nanos.push(start.elapsed().as_nanos() as f64 / f64::from(repeats));
    }
    nanos.sort_unstable_by(f64::total_cmp);
    (nanos[nanos.len() / 2], nanos[0])
}
