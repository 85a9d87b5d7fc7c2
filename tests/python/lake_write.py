"""How many rows of 32 values a second the Python deltalake package writes: the peer of `cargo run --example lake_rate`, the same rows.

    python lake_write.py rows rows_per_commit folder

The Arrow tables are made before the clock runs. deltalake does not sync what it has written; with `sync` as a last word the folder is
synced after each commit, as ours is.
"""

import os
import shutil
import subprocess
import sys
import time

import deltalake
import numpy
import pyarrow


def table(first: int, rows: int) -> pyarrow.Table:
    i = numpy.arange(first, first + rows, dtype=numpy.uint64)
    machine, index = i % 5_000, i // 5_000
    text = lambda make: pyarrow.array([make(int(m)) for m in machine])
    received = (1_798_675_300_000_000 + i).astype(numpy.int64)
    k = numpy.arange(32, dtype=numpy.uint64) << numpy.uint64(40)
    noise = ((i[:, None] * numpy.uint64(6_364_136_223_846_793_005) + k) >> numpy.uint64(40)).astype(numpy.float32) / (1 << 24)
    constant = lambda value, kind: pyarrow.array(numpy.full(rows, value), kind)
    columns = {
        "tenant": pyarrow.array(["acme"] * rows),
        "site": pyarrow.array(["north"] * rows),
        "asset": text(lambda m: f"m{m}"),
        "point": pyarrow.array(["drive-end"] * rows),
        "device": text(lambda m: f"agent-{m // 10}"),
        "epoch": pyarrow.array(machine.astype(numpy.int64)),
        "seq": pyarrow.array(index.astype(numpy.int64)),
        "class": pyarrow.array(["feature"] * rows),
        "event_time_us": pyarrow.array(received),
        "event_bound_us": constant(500, pyarrow.int64()),
        "received_us": pyarrow.array(received),
        "monotonic_us": pyarrow.array(i.astype(numpy.int64)),
        "recorded_wall_us": pyarrow.nulls(rows, pyarrow.int64()),
        "uncertainty_us": constant(10, pyarrow.int64()),
        "timeline": pyarrow.array(["device"] * rows),
        "journal_offset": pyarrow.array(i.astype(numpy.int64)),
        "group": constant(0, pyarrow.int32()),
        "kind": pyarrow.array(["vibration"] * rows),
        "window_index": pyarrow.array(index.astype(numpy.int64)),
        "start_us": pyarrow.array((i * 10).astype(numpy.int64)),
        "end_us": pyarrow.array((i * 10 + 100).astype(numpy.int64)),
        "state": pyarrow.array(["steady:0"] * rows),
        "rpm": constant(1480.0, pyarrow.float32()),
        "quality": constant(0, pyarrow.int32()),
        "schema": constant(7, pyarrow.int64()),
        "valid": constant((1 << 32) - 1, pyarrow.int64()),
        "values": pyarrow.ListArray.from_arrays(numpy.arange(0, 32 * rows + 1, 32, dtype=numpy.int32), noise.reshape(-1)),
        "day": pyarrow.array(["2026-12-31"] * rows),
        "bucket": pyarrow.array((machine // 10 % 4).astype(numpy.int32)),
    }
    return pyarrow.table(columns)


def main() -> None:
    rows, per_commit, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    shutil.rmtree(folder, ignore_errors=True)
    tables = [table(first, min(per_commit, rows - first)) for first in range(0, rows, per_commit)]
    properties = deltalake.WriterProperties(compression="ZSTD", compression_level=1)
    seconds = 0.0
    for part in tables:
        begun = time.monotonic()
        deltalake.write_deltalake(
            folder, part, mode="append", partition_by=["day", "bucket"], writer_properties=properties
        )
        if sys.argv[-1] == "sync":
            subprocess.run(["sync", "-f", folder], check=True)
        seconds += time.monotonic() - begun
    size = sum(file.stat().st_size for file in walk(folder) if file.name.endswith(".parquet"))
    print(f"{rows} rows of 32 values, {per_commit} a commit: {rows / seconds:.0f} rows/s, {size / rows:.1f} bytes a row")
    shutil.rmtree(folder)


def walk(folder: str):
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from walk(entry.path)
        else:
            yield entry


main()
