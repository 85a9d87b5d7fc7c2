"""Rows at a steady rate into a whole aggregator, over MQTT or QUIC: the time until accepted, processor and memory of the server.

    cargo build --release -p kilter-tests --example load && cargo build --release -p kilter-aggregator
    python ingest_paced.py $CARGO_TARGET_DIR/release mqtt|quic clients 0 rows_per_second seconds [clients_that_come_at_half_time]

What comes after the number of clients goes to `tests/examples/load.rs` as it is, which tells what it means.
"""

import os
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
        quic = str(kind == "quic").lower()
        write(
            config,
            f'data = "{folder}/data"\n[mqtt]\nlisten = "127.0.0.1:{MQTT}"\nquic = {quic}\n[http]\nlisten = "127.0.0.1:{HTTP}"\n'
            "[lab]\nenabled = false\n",
        )
        for client in range(int(clients)):
            enrol = [server, "enroll", f"load-{client}", "--config", config, "--server", f"127.0.0.1:{MQTT}", "--out"]
            subprocess.run([*enrol, f"{bundles}/{client}.toml"], check=True, stdout=subprocess.DEVNULL)
            if kind == "mqtt":
                plain(f"{bundles}/{client}.toml")
        with Running([server, "serve", "--config", config], folder, MQTT) as running:
            memory = Memory(running.process.pid)
            begun, before = time.monotonic(), running.processor_secs()
            print(output([os.path.join(programs, "examples", "load"), bundles, *load]))
            took, used = time.monotonic() - begun, running.processor_secs() - before
            print(f"server {used:.1f} s of a core in {took:.1f} s, resident at most {memory.most_mb():.0f} MB, load {os.getloadavg()}")


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
