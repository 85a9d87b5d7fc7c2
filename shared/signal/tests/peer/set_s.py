"""Set S in numpy and scipy (f64), from the definitions in the table: the peer that tests/scipy.rs compares with.

Reads windows until the end of stdin: a line "N RATE RPM LOW HIGH BPFO BPFI BSF2 FTF", then N samples (f32, little endian).
Writes one "name value" per line and an empty line after each window.
"""

import sys

import numpy as np
from scipy import signal, stats


def lines_of(v):
    """One-sided amplitudes under a periodic Hann taper, Nyquist left out."""
    w = signal.get_window("hann", len(v))
    a = np.abs(np.fft.rfft(v * w)) * 2 / w.sum()
    a[0] /= 2
    return a[:-1]


def reach(place, r, count):
    """First and last line within r of place, from line 2 on."""
    return int(np.ceil(max(place - r, 2))), min(int(np.floor(place + r)), count - 1)


def line(a, place, r, around):
    lo, hi = reach(place, r, len(a))
    flo, fhi = reach(place, max(around, r + 8), len(a))
    rest = np.sort(np.concatenate([a[flo:lo], a[hi + 1 : fhi + 1]]))
    k = lo + int(np.argmax(a[lo : hi + 1]))
    return k, a[k], a[k] / rest[len(rest) // 2]


def sine_of(a, k):
    """Place and amplitude of a sine from its greatest line and the greater neighbour."""
    side = 1 if a[k + 1] >= a[k - 1] else -1
    ratio = a[k + side] / a[k]
    d = min(max((2 * ratio - 1) / (ratio + 1), 0), 0.5)
    return k + side * d, a[k] * (1 - d * d) / np.sinc(d)


def features(header):
    """All of Set S for the next window."""
    n, (rate, rpm, low, high, *orders) = int(header[0]), map(float, header[1:])
    x = np.frombuffer(sys.stdin.buffer.read(4 * n), "<f4").astype(float)
    y = x - x.mean()
    out = {}
    rms, peak, mean_abs = np.sqrt(np.mean(y**2)), np.max(np.abs(y)), np.mean(np.abs(y))
    out["mean"], out["rms"], out["peak"], out["peak_to_peak"] = x.mean(), rms, peak, np.ptp(y)
    out["crest_factor"], out["shape_factor"], out["impulse_factor"] = peak / rms, rms / mean_abs, peak / mean_abs
    out["clearance_factor"] = peak / np.mean(np.sqrt(np.abs(y))) ** 2
    out["skewness"], out["kurtosis"] = stats.skew(y), stats.kurtosis(y, fisher=False)
    out["zero_crossing_rate"] = np.count_nonzero(np.diff(np.signbit(y))) * rate / n

    df = rate / n
    a = lines_of(y)
    edges = [-(-i * len(a) // 16) for i in range(17)]
    for i in range(16):
        out[f"band_rms_{i:02d}"] = np.sqrt(np.sum(a[max(edges[i], 1) : edges[i + 1]] ** 2) / 3)
    k, p = np.arange(1, len(a)), a[1:] ** 2
    p = p / p.sum()
    centroid = np.sum(k * p)
    out["spectral_centroid"] = centroid * df
    out["spectral_spread"] = np.sqrt(np.sum((k - centroid) ** 2 * p)) * df
    out["spectral_entropy"] = stats.entropy(p) / np.log(len(p))
    tops, _ = signal.find_peaks(a[1:-1])
    tops = [t + 1 for t in tops if t + 1 >= 2]
    for i, t in enumerate(sorted(tops, key=lambda t: -a[t])[:3]):
        place, amplitude = sine_of(a, t)
        out[f"peak_{i + 1}_frequency"], out[f"peak_{i + 1}_amplitude"] = place * df, amplitude
    spectrum = np.fft.rfft(y)
    f = np.arange(len(spectrum)) * df
    band = (f >= (2 if rpm < 600 else 10)) & (f <= 1000)
    out["velocity_rms"] = np.sqrt(2 * np.sum(np.abs(9806.65 * spectrum[band] / (n * 2 * np.pi * f[band])) ** 2))

    inside = np.zeros(len(spectrum), bool)
    inside[int(np.ceil(low / df)) : int(np.floor(high / df)) + 1] = True
    passed = np.fft.irfft(np.where(inside, spectrum, 0), n)
    e = np.abs(signal.hilbert(passed))[::2]
    out["envelope_rms"] = np.sqrt(np.mean(e**2))
    out["envelope_kurtosis"] = stats.kurtosis(e, fisher=False)
    beats = lines_of(e - e.mean())
    for name, order in zip(("bpfo", "bpfi", "bsf2", "ftf"), orders):
        base = order * rpm / 60 / df
        found = [line(beats, h * base, max(0.01 * h * base, 2), max(0.4 * base, 10)) for h in (1, 2, 3)]
        out[f"{name}_amplitude"] = np.mean([v[1] for v in found])
        out[f"{name}_snr"] = np.mean([v[2] for v in found])
    shaft = rpm / 60 / df
    for name, order in (("half", 0.5), ("1x", 1), ("2x", 2), ("3x", 3)):
        k, _, _ = line(a, order * shaft, max(0.01 * order * shaft, 1.5), max(0.4 * shaft, 10))
        out[f"shaft_{name}"] = sine_of(a, k)[1]
    return out


while header := sys.stdin.buffer.readline().split():
    for name, value in features(header).items():
        print(name, repr(float(value)))
    print()
