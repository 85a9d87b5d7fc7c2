"""Rolling features of the rows that `cargo run --example rolling_rate -- write FILE ROWS` makes, with pandas and DuckDB.

    python aggregator/history/peers.py FILE ROUNDS THREADS

Mean, population standard deviation, least and greatest of four columns over the last 60 rows of each of 100 machines. Everything is in
memory before the clock starts; the result is materialised. Needs numpy, pandas and duckdb.
"""

import sys
import time

import duckdb
import numpy as np
import pandas as pd

MACHINES, WIDTH, WINDOWS = 100, 4, 60


def main():
    path, rounds, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    values = np.fromfile(path, dtype="<f4").reshape(-1, WIDTH)
    rows = len(values)
    frame = pd.DataFrame(values, columns=[f"v{i}" for i in range(WIDTH)])
    frame.insert(0, "machine", np.arange(rows) // -(-rows // MACHINES))
    frame.insert(1, "place", np.arange(rows))
    base = duckdb.connect()
    base.execute(f"SET threads = {threads}")
    base.execute("CREATE TABLE frame AS SELECT * FROM frame")
    columns = ", ".join(
        f"{function}(v{i}) OVER recent AS {function}_{i}" for i in range(WIDTH) for function in ("avg", "stddev_pop", "min", "max")
    )
    statement = (
        f"CREATE OR REPLACE TABLE rolled AS SELECT machine, place, {columns} FROM frame "
        f"WINDOW recent AS (PARTITION BY machine ORDER BY place ROWS BETWEEN {WINDOWS - 1} PRECEDING AND CURRENT ROW)"
    )

    def by_duckdb():
        base.execute(statement)
        last = base.execute("SELECT avg_3, stddev_pop_3, min_3, max_3 FROM rolled ORDER BY place DESC LIMIT 1").fetchone()
        return last

    def by_pandas():
        recent = frame.groupby("machine", sort=False)[[f"v{i}" for i in range(WIDTH)]].rolling(WINDOWS, min_periods=1)
        parts = [recent.mean(), recent.std(ddof=0), recent.min(), recent.max()]
        return [part.iloc[-1, -1] for part in parts]

    for name, version, run in [("duckdb", duckdb.__version__, by_duckdb), ("pandas", pd.__version__, by_pandas)]:
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            last = run()
            times.append(time.perf_counter() - begin)
        times.sort()
        rate = lambda secs: rows / secs / 1e6
        print(f"{name} {version}, last: {last}")
        print(f"{name}: best {rate(times[0]):.2f}, median {rate(times[len(times) // 2]):.2f} M rows/s")


main()
