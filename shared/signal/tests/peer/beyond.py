"""Welch, cepstrum, kurtogram and whitened envelope in numpy, scipy and openconmo: the peer that tests/peers.rs compares with.

Reads windows until the end of stdin: a line "N RATE SEGMENT", then N samples (f32, little endian).
Writes one JSON object per window.
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import numpy as np
from openconmo import benchmark_methods, kurtogram
from scipy import signal

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16)


def amplitudes(v):
    w = signal.get_window("hann", len(v))
    a = np.abs(np.fft.rfft((v - v.mean()) * w)) * 2 / w.sum()
    a[0] /= 2
    return a[:-1]


def envelope_lines(spectrum, n, low, high, rate):
    """Spectrum of every second value of the Hilbert envelope of a band."""
    f = np.arange(len(spectrum)) * rate / n
    inside = (f >= low) & (f <= high) & (np.arange(len(f)) >= 1) & (np.arange(len(f)) < n // 2)
    passed = np.fft.irfft(np.where(inside, spectrum, 0), n)
    return amplitudes(np.abs(signal.hilbert(passed))[::2])


def tree(spectrum, n):
    """Kurtosis of each band's complex envelope, as the Rust module defines it."""
    lines = spectrum[: n // 2].copy()
    lines[0] = 0
    out = []
    for bands in LEVELS:
        width = n // 2 // bands
        for b in range(bands):
            c = np.fft.ifft(lines[b * width : (b + 1) * width])
            c = c - c.mean()
            p = np.abs(c) ** 2
            out.append(np.mean(p**2) / np.mean(p) ** 2 - 2)
    return out


while header := sys.stdin.buffer.readline().split():
    n, rate, segment = int(header[0]), float(header[1]), int(header[2])
    x = np.frombuffer(sys.stdin.buffer.read(4 * n), "<f4").astype(float)
    y = x - x.mean()
    spectrum = np.fft.rfft(y)
    answer = {}
    f, p = signal.welch(x, rate, "hann", segment, segment // 2, detrend=False)
    answer["welch"] = p[:-1].tolist()
    full = np.abs(spectrum).copy()
    full[0] = full[1]
    answer["cepstrum"] = np.fft.irfft(np.log(full), n)[: n // 2].tolist()
    answer["tree"] = tree(spectrum, n)
    _, white = benchmark_methods.cepstrum_prewhitening(y.copy(), rate)
    flat = np.fft.rfft(white)
    flat = flat / np.median(np.abs(flat))
    answer["whitened"] = envelope_lines(flat, n, 0.01 * rate, 0.49 * rate, rate).tolist()
    beat_f, beat = benchmark_methods.envelope(y.copy(), rate)
    beat_f, beat = np.asarray(beat_f), np.abs(np.asarray(beat))
    near = (beat_f > 20) & (beat_f < 600)
    answer["openconmo_beat_hz"] = float(beat_f[near][np.argmax(beat[near])])
    _, _, _, centre, width = kurtogram.fast_kurtogram(y.copy(), rate, nlevel=4)
    answer["openconmo_centre_hz"], answer["openconmo_width_hz"] = float(centre), float(width)
    print(json.dumps(answer))
