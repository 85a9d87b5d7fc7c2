"""The features that tsfel and tsfresh share with Set S, of the windows that the bench wrote, timed per window on one core.

    python features.py FILE              FILE as for set_s.py; FILE.peer must be there (scipy's values, 51 per window)

Each library is called through its own functions, in one call per window where it has one (tsfresh's extractors of the chosen
features, without its table machinery; tsfel's functions one by one). Mean, RMS, peak to peak, skewness, kurtosis (both give the
excess, Set S Pearson's) and zero crossings are compared with Set S; spectral centroid, spread and entropy are computed by both
from an untapered spectrum of amplitudes and are timed only.
"""

import sys
import time

import numpy as np
import tsfel
from tsfresh.feature_extraction import feature_calculators as fresh

N, RATE = 4096, 12800.0
windows = np.fromfile(sys.argv[1], "<f4").reshape(-1, N)
ours = np.fromfile(sys.argv[1] + ".peer", "<f8").reshape(len(windows), -1)
windows = windows - windows.mean(-1, keepdims=True)


def by_tsfel(x):
    return [
        tsfel.rms(x),
        tsfel.pk_pk_distance(x),
        tsfel.skewness(x),
        tsfel.kurtosis(x) + 3,
        tsfel.zero_cross(x) * RATE / N,
        tsfel.calc_mean(x),
        tsfel.spectral_centroid(x, RATE),
        tsfel.spectral_spread(x, RATE),
        tsfel.spectral_entropy(x, RATE),
    ]


AGGREGATED = [{"aggtype": "centroid"}, {"aggtype": "variance"}]


def by_tsfresh(x):
    return [
        fresh.root_mean_square(x),
        fresh.maximum(x) - fresh.minimum(x),
        fresh.skewness(x),
        fresh.kurtosis(x) + 3,
        fresh.number_crossing_m(x, 0) * RATE / N,
        fresh.mean(x),
        list(fresh.fft_aggregated(x, AGGREGATED)),
        fresh.fourier_entropy(x, 100),
    ]


def best(f, rounds=30):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for x in windows:
            f(x)
        times.append((time.perf_counter() - start) * 1e6 / len(windows))
    return min(times), sorted(times)[rounds // 2]


# Places of rms, peak_to_peak, skewness, kurtosis, zero_crossing_rate in Set S. Sample forms differ from population forms by 6/n.
PLACES = [1, 3, 8, 9, 10]
for name, f in (("tsfel", by_tsfel), ("tsfresh", by_tsfresh)):
    got = np.array([[float(v) for v in f(x)[:5]] for x in windows])
    want = ours[:, PLACES]
    error = np.abs(got - want) / np.maximum(np.abs(want), 0.1)
    # Zeros and windows whose mean is rounded otherwise may move a crossing or two of some hundreds.
    assert error[:, :4].max() < 5e-3 and error[:, 4].max() < 2e-2, (name, error.max(0))
    low, middle = best(f)
    print(f"{name:28} best {low:8.2f} us, median {middle:8.2f} us (greatest difference {error[:, :4].max():.1e})")
