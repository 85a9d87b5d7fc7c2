"""The same training with PyTorch on the CPU, on the rows that `cargo run --example training_rate -- write FILE` makes.

    python aggregator/train/peers.py FILE ROUNDS THREADS

An LSTM autoencoder of the same shape (sequences of 12, 24 hidden, code 8), the same windows, batches, budget of 800 steps, looks at the
held-out loss, Adam, cut gradients and cosine. It ends with the weights on disk; thresholds, the simple detector, the comparison of both
and the certificate, which `training_rate` also makes, have no counterpart here. Needs torch and numpy.
"""

import math
import sys
import time

import numpy as np
import torch

MACHINES, WINDOWS, FEATURES = 8, 800, 20
SEQUENCE, HIDDEN, CODE, BATCH, STEPS, LOOK = 12, 24, 8, 64, 800, 40


class Autoencoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.squeeze = torch.nn.Linear(HIDDEN, CODE)
        self.decoder = torch.nn.LSTM(CODE, HIDDEN, batch_first=True)
        self.out = torch.nn.Linear(HIDDEN, FEATURES)

    def forward(self, x):
        _, (hidden, _) = self.encoder(x)
        code = torch.tanh(self.squeeze(hidden[0]))
        rebuilt, _ = self.decoder(code.unsqueeze(1).expand(-1, x.shape[1], -1))
        return self.out(rebuilt)


def run(path):
    begin = time.perf_counter()
    rows = np.fromfile(path, dtype="<f4").reshape(MACHINES, WINDOWS, FEATURES)
    # As there: two machines in eight are kept away, 60 % of the others' rows train, 10 % decide when to stop.
    train, stop = rows[:6, : WINDOWS * 60 // 100], rows[:6, WINDOWS * 60 // 100 + 1 : WINDOWS * 70 // 100]
    mean, scale = train.mean((0, 1)), train.std((0, 1))

    def windows(part):
        part = ((part - mean) / scale).clip(-6, 6)
        cut = np.lib.stride_tricks.sliding_window_view(part, SEQUENCE, axis=1)
        return torch.from_numpy(np.ascontiguousarray(cut.swapaxes(2, 3).reshape(-1, SEQUENCE, FEATURES)))

    train, stop = windows(train), windows(stop)
    stop = stop[:: max(1, math.ceil(len(stop) / 256))]
    torch.manual_seed(1)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    order, at, looks, best = torch.randperm(len(train)), 0, [], math.inf
    for step in range(1, STEPS + 1):
        if at + BATCH > len(train):
            order, at = torch.randperm(len(train)), 0
        batch = train[order[at : at + BATCH]]
        at += BATCH
        optimizer.param_groups[0]["lr"] = 6e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi * step / STEPS)))
        optimizer.zero_grad()
        loss = (model(batch) - batch.flip(1)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % LOOK == 0:
            with torch.no_grad():
                best = min(best, (model(stop) - stop.flip(1)).square().mean().item())
            looks.append((step, time.perf_counter() - begin))
    torch.save(model.state_dict(), path + ".pt")
    whole = time.perf_counter() - begin
    (first, start), (last, end) = looks[0], looks[-1]
    return whole, (end - start) / (last - first), best


if __name__ == "__main__":
    path, rounds, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    results = [run(path) for _ in range(rounds)]
    for name, times in [("rows to weights, s", [r[0] for r in results]), ("one step with its share of looks, ms", [1e3 * r[1] for r in results])]:
        times.sort()
        print(f"torch {torch.__version__}, {threads} threads, {name}: best {times[0]:.3f}, median {times[len(times) // 2]:.3f}")
    print(f"held-out loss {results[0][2]:.4f}")
