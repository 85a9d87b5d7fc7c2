"""The kernel against onnxruntime, tract and, if its program is named, Burn: same weights, same rows, answers checked against each other, timed in turns.

    cargo build --release -p kilter-infer --example peer
    cargo build --release --manifest-path shared/infer/benches/burn/Cargo.toml
    python shared/infer/benches/peers.py target/release/examples/peer [target/release/burn-peer]

Needs numpy, onnx, onnxruntime and tract (pip install onnx onnxruntime==1.31.* tract==0.23.*). One thread on all sides (RAYON_NUM_THREADS=1 for Burn). onnxruntime is
called with bound input and output, tract with its own tensor, so that Python adds little; what a model that does nothing costs in
each is printed too, and taken off in the columns "less call".
"""
import json, os, pathlib, subprocess, sys, tempfile, time
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import onnxruntime as ort
import tract

ROUNDS = 7
BATCH = 64


class Both:
    """One model in both peers."""

    def __init__(self, model):
        self.onnxruntime = session(model)
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            onnx.save(model, file.name)
            self.tract = tract.onnx().load(file.name).into_model().into_runnable()

    def calls(self, x, shape):
        """What one answer is by each of them, and the answers they give."""
        run, out = bound(self.onnxruntime, x, shape)
        run()
        state, tensor = self.tract.spawn_state(), tract.Tensor.from_numpy(x)
        theirs = state.run([tensor])[0].to_numpy()
        return (run, lambda: state.run([tensor])), (out.numpy(), theirs)


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def model_of(nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def lstm(folder, n, h, t, batch):
    load = lambda name, *shape: np.fromfile(folder / name, "<f4").reshape(shape)
    order = lambda a: np.concatenate([a[0:h], a[3 * h:4 * h], a[h:2 * h], a[2 * h:3 * h]])  # ours: i f c o; ONNX: i o f c
    bias = order(load("b", 4 * h))
    weights = {
        "W": order(load("w", 4 * h, n))[None], "R": order(load("r", 4 * h, h))[None],
        "B": np.concatenate([bias, np.zeros_like(bias)])[None],
        "Wo": load("wo", n, h), "bo": load("bo", n), "axes": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "last"], hidden_size=h),
        helper.make_node("Squeeze", ["last", "axes"], ["flat"]),
        helper.make_node("Gemm", ["flat", "Wo", "bo"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [t, batch, n])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, n])
    return Both(model_of(nodes, [x], [y], weights))


def bound(run, x, shape):
    binding = run.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
    y = np.zeros(shape, np.float32)
    out = ort.OrtValue.ortvalue_from_numpy(y)
    binding.bind_ortvalue_output("y", out)
    return (lambda: run.run_with_iobinding(binding)), out


def timed(call, repeats=32, seconds=0.15):
    nanos, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter_ns()
        for _ in range(repeats):
            call()
        nanos.append((time.perf_counter_ns() - start) / repeats)
    return float(np.median(nanos)), min(nanos)


def main():
    binary, burn = sys.argv[1], sys.argv[2:3]
    folder = pathlib.Path(tempfile.mkdtemp())
    subprocess.run([binary, "write", folder], check=True)
    identity = model_of([helper.make_node("Identity", ["x"], ["y"])],
                        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16])],
                        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])], {})
    calls = dict(zip(["onnxruntime", "tract"], ({("nothing", "call"): call} for call in Both(identity).calls(np.zeros((1, 16), np.float32), (1, 16))[0])))
    for path in sorted(folder.iterdir()):
        n, h, t = (int("".join(filter(str.isdigit, part))) for part in path.name.split("_"))
        rows = np.fromfile(path / "rows", "<f4").reshape(BATCH, t, n)
        answers = np.fromfile(path / "answers", "<f4").reshape(BATCH, n)
        int8 = np.fromfile(path / "answers_int8", "<f4").reshape(BATCH, n)
        for kind, batch in (("full", 1), ("batch64", BATCH)):
            x = np.ascontiguousarray(rows[:batch].transpose(1, 0, 2))
            runs, theirs = lstm(path, n, h, t, batch).calls(x, (batch, n))
            for name, run, theirs in zip(calls, runs, theirs):
                worst = np.abs(theirs - answers[:batch]).max()
                assert worst < 1e-5, f"{path.name}: answers of {name} differ by {worst}"
                print(f"{path.name} {kind}: largest difference to {name} f32 {worst:.1e}, int8 {np.abs(theirs - int8[:batch]).max():.1e}")
                calls[name][path.name, kind] = run
    theirs, ours = {name: {} for name in [*calls, *(["Burn"] if burn else [])]}, {}
    for _ in range(ROUNDS):
        for name, of in calls.items():
            for key, call in of.items():
                theirs[name].setdefault(key, []).append(timed(call, 4 if key[1] == "batch64" else 32))
        for program in burn:
            said = subprocess.run([program, folder], check=True, capture_output=True, text=True, env={**os.environ, "RAYON_NUM_THREADS": "1"}).stdout
            for row in map(json.loads, said.splitlines()):
                assert row["worst"] < 1e-5, f"{row['model']}: answers of Burn differ by {row['worst']}"
                theirs["Burn"].setdefault((row["model"], row["kind"]), []).append((row["median_ns"], row["best_ns"]))
        for line in subprocess.run([binary, "time"], check=True, capture_output=True, text=True).stdout.splitlines():
            row = json.loads(line)
            if "width" in row:
                width = row["width"]
            else:
                ours.setdefault((row["model"], row["kind"]), []).append((row["median_ns"], row["best_ns"]))
    middle = lambda pairs: (float(np.median([m for m, _ in pairs])), min(b for _, b in pairs))
    print(f"onnxruntime {ort.__version__}, tract {tract.version()}, width {width}, load {os.getloadavg()[0]:.1f}")
    for name, of in theirs.items():
        call = middle(of["nothing", "call"]) if ("nothing", "call") in of else (0.0, 0.0)
        print(f"{name}, an empty call {call[0] / 1e3:.1f} us")
        print(f"{'workload':<22}{'ours us':>10}{'best':>8}{'theirs':>10}{'best':>8}{'ratio':>8}{'of best':>9}{'less call':>11}")
        for (model, kind), pairs in ours.items():
            (m, b), (om, ob) = middle(pairs), middle(of[model, "batch64" if kind == "batch64" else "full"])
            print(f"{model + ' ' + kind:<22}{m / 1e3:>10.2f}{b / 1e3:>8.2f}{om / 1e3:>10.2f}{ob / 1e3:>8.2f}"
                  f"{m / om:>8.3f}{b / ob:>9.3f}{b / (ob - call[1]):>11.3f}")


if __name__ == "__main__":
    main()
