"""The lake's peers on the same rows: `deltalake` writes them, DuckDB asks for them.

    python aggregator/lake/peers.py write ROWS ROWS_PER_COMMIT FOLDER    rows/s of the Python deltalake package, the columns of `rate`
    python aggregator/lake/peers.py fill ROWS DAYS FOLDER              a table of so many rows, sorted by machine as compaction leaves it
    python aggregator/lake/peers.py ask DATA_FOLDER ROUNDS               p95 of the lab that runs there, and of DuckDB on its files

The package writes without a single fsync; `cargo run --example rate` fsyncs every file, log entry and folder.
Needs deltalake, pyarrow, numpy; `ask` needs duckdb, and `cache_bytes = 0` under [query] in the lab.toml of a lab whose answers are not to come
from memory.
"""

import glob
import json
import shutil
import socket
import sys
import time


def columns(start, count):
    import numpy as np
    import pyarrow as pa

    i = np.arange(start, start + count, dtype=np.int64)
    machine = i % 5_000
    text = lambda value: pa.array([value] * count)
    received = 1_798_675_300_000_000 + i
    values = pa.array(np.random.default_rng(start).random(count * 32, dtype=np.float32))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, count * 32 + 1, 32, dtype=np.int32)), values)
    names = [f"m{m}" for m in machine]
    devices = [f"agent-{m // 10}" for m in machine]
    return pa.table({
        "tenant": text("acme"), "site": text("north"), "asset": names, "point": text("drive-end"), "device": devices,
        "epoch": machine, "seq": i // 5_000, "class": text("feature"), "event_time_us": received,
        "event_bound_us": pa.array(np.full(count, 500)), "received_us": received, "monotonic_us": i,
        "recorded_wall_us": pa.nulls(count, pa.int64()), "uncertainty_us": pa.array(np.full(count, 10)),
        "timeline": text("device"), "journal_offset": i, "group": pa.array(np.zeros(count, dtype=np.int32)),
        "kind": text("vibration"), "window_index": i // 5_000, "start_us": i * 10, "end_us": i * 10 + 100,
        "state": text("steady:0"), "rpm": pa.array(np.full(count, 1480, dtype=np.float32)),
        "quality": pa.array(np.zeros(count, dtype=np.int32)), "schema": pa.array(np.full(count, 7)),
        "valid": pa.array(np.full(count, 2**32 - 1)), "values": lists, "day": text("2026-12-31"),
        "bucket": pa.array((machine % 4).astype(np.int32)),
    })


def write(rows, per_commit, folder):
    import deltalake

    shutil.rmtree(folder, ignore_errors=True)
    properties = deltalake.WriterProperties(compression="ZSTD", compression_level=1)
    spent = 0.0
    for start in range(0, rows, per_commit):
        table = columns(start, min(per_commit, rows - start))
        begin = time.perf_counter()
        deltalake.write_deltalake(folder, table, mode="append", partition_by=["day", "bucket"], writer_properties=properties)
        spent += time.perf_counter() - begin
    size = sum(len(open(path, "rb").read()) for path in glob.glob(f"{folder}/**/*.parquet", recursive=True))
    print(f"{rows} rows of 32 values, {per_commit} a commit: {rows / spent:.0f} rows/s, {size / rows:.1f} bytes a row (no fsync)")
    shutil.rmtree(folder)


def fill(rows, days, folder):
    import deltalake
    import pyarrow as pa

    properties = deltalake.WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=16384)
    for day in range(days):
        table = columns(day * (rows // days), rows // days)
        at = table.schema.get_field_index("day")
        table = table.set_column(at, "day", pa.array([f"2026-12-{31 - day:02d}"] * len(table)))
        table = table.sort_by([("asset", "ascending"), ("event_time_us", "ascending")])
        deltalake.write_deltalake(folder, table, mode="append", partition_by=["day", "bucket"], writer_properties=properties)


def ask(data, rounds):
    """The same questions to a running lab and to DuckDB on the same files, in turn; the tail is empty once the lab has committed."""
    import duckdb

    base = duckdb.connect()
    base.execute("SET threads = 2")
    files = f"read_parquet('{data}/lake/features/**/*.parquet', hive_partitioning = true, union_by_name = true)"
    lab = socket.socket(socket.AF_UNIX)
    lab.connect(f"{data}/lab.sock")
    stream = lab.makefile("rw")

    def ours(sql):
        stream.write(json.dumps({"op": "query", "sql": sql}) + "\n")
        stream.flush()
        answer = json.loads(stream.readline())
        if "error" in answer:
            sys.exit(answer["error"])
        return answer["ok"]

    for name, sql in QUESTIONS.items():
        spent = {"lab": [], "duckdb": []}
        for _ in range(rounds):
            begin = time.perf_counter()
            answer = ours(sql)
            spent["lab"].append((time.perf_counter() - begin) * 1000)
            begin = time.perf_counter()
            rows = base.execute(sql.replace("features", files)).fetchall()
            spent["duckdb"].append((time.perf_counter() - begin) * 1000)
            assert len(rows) == len(answer["rows"]), (len(rows), len(answer["rows"]))
        p95 = {who: sorted(times)[int(len(times) * 0.95)] for who, times in spent.items()}
        print(f"{name}: p95 lab {p95['lab']:.1f} ms, DuckDB {p95['duckdb']:.1f} ms, {len(rows)} rows, scanned {answer['scanned']}")


QUESTIONS = {
    "one point, one day": "SELECT seq, event_time_us, rpm FROM features WHERE asset = 'm7' AND point = 'drive-end' AND day = '2026-12-31'",
    "rows per machine": "SELECT asset, COUNT(*) AS n FROM features GROUP BY asset",
    "speed per day": "SELECT day, AVG(rpm) AS rpm FROM features GROUP BY day",
}

if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    elif sys.argv[1] == "fill":
        fill(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        ask(sys.argv[2], int(sys.argv[3]))
