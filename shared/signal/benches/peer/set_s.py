"""All of Set S in numpy and scipy, timed: per window and vectorised over windows, f32 where scipy keeps it.

    python set_s.py FILE                 FILE holds 32 windows of 4096 f32 samples (12.8 kHz, 1797 rpm, 6205)

Prints the best and the median time per window in microseconds and writes the values of every window to FILE.peer (f64,
51 per window), so that the Rust side of the bench checks that both computed the same. Written to be fast: plans and indices are made
once, one FFT serves spectrum, velocity and band, and every sum is a numpy call.
"""

import sys
import time

import numpy as np
from scipy import fft

N, RATE, RPM = 4096, 12800.0, 1797.0
LOW, HIGH = 1920.0, 5760.0
ORDERS = tuple(map(float, sys.argv[2:6])) or (3.5848, 5.4152, 4.7135, 0.39831)
DF = RATE / N
HALF, QUARTER = N // 2, N // 4
BAND = (int(np.ceil(LOW / DF)), int(np.floor(HIGH / DF)) + 1)
EDGES = [max(-(-i * HALF // 16), 1) for i in range(16)]
K = np.arange(1, HALF, dtype=np.float32)
V0, V1 = int(np.ceil(10 / DF)), int(np.floor(1000 / DF)) + 1
INTEGRATE = (9806.65 / (N * 2 * np.pi * DF * np.arange(V0, V1))).astype(np.float32)
SHAFT = RPM / 60 / DF


def reach(place, r, count):
    return int(np.ceil(max(place - r, 2))), min(int(np.floor(place + r)), count - 1)


def window_of(place, r, around, count):
    lo, hi = reach(place, r, count)
    flo, fhi = reach(place, max(around, r + 8), count)
    rest = np.r_[flo:lo, hi + 1 : fhi + 1]
    return lo, hi + 1, rest, len(rest) // 2


BEATS = []
for order in ORDERS:
    base = order * RPM / 60 / DF
    BEATS.append([window_of(h * base, max(0.01 * h * base, 2), max(0.4 * base, 10), QUARTER) for h in (1, 2, 3)])
SHAFTS = [window_of(o * SHAFT, max(0.01 * o * SHAFT, 1.5), max(0.4 * SHAFT, 10), HALF) for o in (0.5, 1, 2, 3)]


def hann(X, lines):
    """Amplitudes under a periodic Hann taper from the untapered spectrum: the three-term convolution."""
    Y = np.empty(X.shape[:-1] + (lines,), X.dtype)
    Y[..., 1:] = 0.5 * X[..., 1:lines] - 0.25 * (X[..., : lines - 1] + X[..., 2 : lines + 1])
    Y[..., 0] = 0.25 * (X[..., 0].real - X[..., 1].real)
    return np.abs(Y) * np.float32(2 / lines)


def interpolate(a, k):
    left, right = a[k - 1], a[k + 1]
    side, neighbour = (1, right) if right >= left else (-1, left)
    ratio = neighbour / a[k]
    d = min(max((2 * ratio - 1) / (ratio + 1), 0.0), 0.5)
    return k + side * d, a[k] * (1 - d * d) / np.sinc(d)


def sweep(x):
    """What vectorises: everything but the searches for lines. x: windows by samples."""
    out = np.empty((len(x), 51), np.float64)
    mean = x.mean(-1, keepdims=True)
    y = x - mean
    size = np.abs(y)
    y2 = y * y
    square = y2.mean(-1)
    rms, peak, mean_abs = np.sqrt(square), size.max(-1), size.mean(-1)
    out[:, 0], out[:, 1], out[:, 2], out[:, 3] = mean[:, 0], rms, peak, y.max(-1) - y.min(-1)
    out[:, 4], out[:, 5], out[:, 6] = peak / rms, rms / mean_abs, peak / mean_abs
    out[:, 7] = peak / np.sqrt(size).mean(-1) ** 2
    out[:, 8] = (y2 * y).mean(-1) / (square * rms)
    out[:, 9] = (y2 * y2).mean(-1) / (square * square)
    sign = y < 0
    out[:, 10] = np.count_nonzero(sign[:, 1:] != sign[:, :-1], axis=-1) * (RATE / N)
    X = fft.rfft(y, axis=-1)
    a = hann(X, HALF)
    p = a * a
    out[:, 11:27] = np.sqrt(np.add.reduceat(p, EDGES, axis=-1) / 3)
    q = p[:, 1:]
    total = q.sum(-1)
    centroid = q @ K / total
    out[:, 27] = centroid * DF
    out[:, 28] = np.sqrt((q * (K - centroid[:, None]) ** 2).sum(-1) / total) * DF
    share = q / total[:, None]
    out[:, 29] = -(share * np.log(np.maximum(share, np.float32(1e-38)))).sum(-1) / np.log(HALF - 1)
    velocity = np.abs(X[:, V0:V1]) * INTEGRATE
    out[:, 36] = np.sqrt(2 * (velocity * velocity).sum(-1))
    Z = np.zeros((len(x), HALF), X.dtype)
    Z[:, : BAND[1] - BAND[0]] = X[:, BAND[0] : BAND[1]]
    e = np.abs(fft.ifft(Z, axis=-1))
    level = e.mean(-1, keepdims=True)
    f = e - level
    f2 = f * f
    variance = f2.mean(-1)
    out[:, 37] = np.sqrt((e * e).mean(-1))
    out[:, 38] = (f2 * f2).mean(-1) / (variance * variance)
    return out, a, hann(fft.rfft(f, axis=-1), QUARTER)


def search(out, a, beats):
    """The lines of one window."""
    inner = a[1:-1]
    tops = np.flatnonzero((inner > a[:-2]) & (inner >= a[2:])) + 1
    tops = tops[tops >= 2]
    best = tops[np.argpartition(a[tops], -3)[-3:]]
    for i, k in enumerate(best[np.argsort(-a[best])]):
        place, out[31 + 2 * i] = interpolate(a, k)
        out[30 + 2 * i] = place * DF
    for i, family in enumerate(BEATS):
        amplitude = ratio = 0.0
        for lo, hi, rest, middle in family:
            line = beats[lo:hi].max()
            amplitude += line
            ratio += line / np.partition(beats[rest], middle)[middle]
        out[39 + 2 * i], out[40 + 2 * i] = amplitude / 3, ratio / 3
    for i, (lo, hi, _, _) in enumerate(SHAFTS):
        out[47 + i] = interpolate(a, lo + int(a[lo:hi].argmax()))[1]


def features(x):
    out, a, beats = sweep(x)
    for i in range(len(x)):
        search(out[i], a[i], beats[i])
    return out


def timed(what, f, per_call, rounds=300):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        f()
        times.append((time.perf_counter() - start) * 1e6 / per_call)
    times.sort()
    print(f"{what:28} best {times[0]:8.2f} us, median {times[len(times) // 2]:8.2f} us")


windows = np.fromfile(sys.argv[1], "<f4").reshape(-1, N)
features(windows).tofile(sys.argv[1] + ".peer")
timed("scipy set S per window", lambda: features(windows[:1]), 1)
timed("scipy set S vectorised", lambda: features(windows), len(windows), 60)
one = windows[0]
timed("scipy real FFT", lambda: [fft.rfft(one) for _ in range(10)], 10, 800)
