"""Bytes that the same rows take as Sparkplug B (pysparkplug 0.6.1), metrics by alias, with topic and MQTT headers.

    python sparkplug_bytes.py rows.csv

Each row is 32 metrics with alias, timestamp and float value; 60 rows go as one DDATA, or one row each. Datatypes and names travel in
the birth certificate and are not counted.
"""

import sys

from pysparkplug import DataType, DData, Metric

TOPIC = "spBv1.0/default/DDATA/edge-1/drive-end"


def packet(payload: int) -> int:
    rest = 2 + len(TOPIC) + 2 + 1 + payload
    length = 1 if rest < 128 else 2 if rest < 16_384 else 3
    return 1 + length + rest


def metrics(rows, at, stamps):
    for i, row in enumerate(rows):
        t = 1_700_000_000_000 + (at + i) * 1000
        for alias, value in enumerate(row):
            stamp = t if stamps or alias == 0 else None
            yield Metric(timestamp=stamp, name=None, datatype=DataType.FLOAT, value=value, alias=alias)


def main():
    recordings = {}
    for line in open(sys.argv[1]):
        number, *values = line.split(",")
        recordings.setdefault(number, []).append([float(v) for v in values])
    count = sum(map(len, recordings.values()))
    for stamps in (True, False):
        for batch in (60, 1):
            total = 0
            for rows in recordings.values():
                for seq, at in enumerate(range(0, len(rows), batch)):
                    chosen = tuple(metrics(rows[at : at + batch], at, stamps))
                    data = DData(timestamp=1_700_000_000_000 + at * 1000, seq=seq % 256, metrics=chosen)
                    total += packet(len(data.encode(include_dtypes=False)))
            kind = "a timestamp a metric" if stamps else "a timestamp a row"
            print(f"{kind}, {batch} rows a message: {total / count:.1f} bytes a row")


main()
