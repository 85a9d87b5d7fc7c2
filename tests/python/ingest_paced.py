"""Rows at a steady rate into a whole aggregator, over MQTT or QUIC: the time until accepted, processor and memory of the server.

    cargo build --release -p kilter-tests --example load && cargo build --release -p kilter-aggregator
    python ingest_paced.py $CARGO_TARGET_DIR/release mqtt|quic[+lab] clients 0 rows_per_second seconds [clients_that_come_at_half_time]

What comes after the number of clients goes to `tests/examples/load.rs` as it is, which tells what it means. With `+lab` a lab (kilter-lab in the
same folder) commits the rows; when all has ended the Python deltalake package counts them in the lake, all and different ones. The time
from the last row until a query finds all of them is told too.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from ingest_rates import HTTP, MQTT, Running, output, plain, write


def main() -> None:
    programs, kind, clients, *load = sys.argv[1:]
    server = os.path.join(programs, "kilter-aggregator")
    with tempfile.TemporaryDirectory(prefix="paced-") as folder:
        config, bundles = os.path.join(folder, "aggregator.toml"), os.path.join(folder, "bundles")
        os.mkdir(bundles)
        quic, lab = str(kind.startswith("quic")).lower(), str(kind.endswith("+lab")).lower()
        write(
            config,
            f'data = "{folder}/data"\n[mqtt]\nlisten = "127.0.0.1:{MQTT}"\nquic = {quic}\n[http]\nlisten = "127.0.0.1:{HTTP}"\n'
            f"[lab]\nenabled = {lab}\n",
        )
        for client in range(int(clients)):
            enrol = [server, "enroll", f"load-{client}", "--config", config, "--server", f"127.0.0.1:{MQTT}", "--out"]
            subprocess.run([*enrol, f"{bundles}/{client}.toml"], check=True, stdout=subprocess.DEVNULL)
            if quic == "false":
                plain(f"{bundles}/{client}.toml")
        with Running([server, "serve", "--config", config], folder, MQTT) as running:
            memory = Memory(running.process.pid)
            begun, before = time.monotonic(), running.processor_secs()
            said = output([os.path.join(programs, "examples", "load"), bundles, *load])
            print(said)
            took, used = time.monotonic() - begun, running.processor_secs() - before
            print(f"server {used:.1f} s of a core in {took:.1f} s, resident at most {memory.most_mb():.0f} MB, load {os.getloadavg()}")
            sent = int(re.search(r"(\d+) rows accepted", said)[1])
            if lab == "true":
                queried(server, config, sent)
        if lab == "true":
            in_the_lake(f"{folder}/data/lake/features", sent)


def queried(server: str, config: str, sent: int) -> None:
    """Waits until a query over lake and journal tail finds as many rows."""
    begun = time.monotonic()
    question = [server, "query", "SELECT COUNT(seq) AS n FROM features", "--config", config]
    while True:
        answer = subprocess.run(question, check=True, capture_output=True, text=True).stdout
        found = json.loads(answer)["rows"][0][0]
        if found >= sent:
            print(f"a query finds {found} of {sent} rows {time.monotonic() - begun:.1f} s after the last was accepted")
            return


def in_the_lake(table: str, sent: int) -> None:
    """Counts the committed rows, and how many of them differ."""
    from deltalake import DeltaTable

    rows = DeltaTable(table).to_pyarrow_table(columns=["device", "epoch", "seq"])
    different = rows.group_by(["device", "epoch", "seq"]).aggregate([]).num_rows
    print(f"{sent} rows sent, {rows.num_rows} in the lake, {different} different ones")
    if (rows.num_rows, different) != (sent, sent):
        raise SystemExit("the lake does not hold each row once")



class Memory:
    """The most that a process was seen to hold."""

    def __init__(self, pid: int) -> None:
        self.most, self.ended = 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, args=(pid,), daemon=True)
        self.thread.start()

    def watch(self, pid: int) -> None:
        while not self.ended.wait(0.2):
            with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
                found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
            self.most = max([self.most, *found])

    def most_mb(self) -> float:
        self.ended.set()
        self.thread.join()
        return self.most / 1024


if __name__ == "__main__":
    main()
    # Arrow's threads may abort an interpreter that takes itself apart (apache/arrow issue 34314).
    sys.stdout.flush()
    os._exit(0)
