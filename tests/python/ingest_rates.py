"""Rows of 32 features a second that a server takes from many clients over MQTT QoS 1, ours beside two chains of other people's parts:
mosquitto, a bridge, VictoriaMetrics; and mosquitto, the bridge, InfluxDB. Rounds take turns; medians are printed, and who took which share
of the processor.

    cargo build --release --workspace --exclude kilter-nostd-proof --bin kilter-aggregator --bin kilter-lab --example load --example chain
    python tests/python/ingest_rates.py $CARGO_TARGET_DIR/release [rounds] [clients] [rows of each] [bridges] [messages in a request]

Debian: mosquitto, victoria-metrics, influxdb. Everything lies in one temporary folder on this disk (TMPDIR). Ours acknowledges after its
journal's fdatasync; the two databases answer before theirs.
"""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

MQTT, HTTP, BROKER, DATABASE = 21883, 21880, 21884, 21886


def main() -> None:
    programs = sys.argv[1]
    numbers = [int(text) for text in sys.argv[2:]]
    rounds, clients, rows, bridges, messages = numbers + [5, 50, 10_000, 4, 16][len(numbers) :]
    chain = [clients, rows, 60, bridges, messages]
    found = {"ours": [], "victoria-metrics": [], "influxdb": []}
    for number in range(rounds):
        for name, run in (("ours", ours), ("victoria-metrics", victoria), ("influxdb", influx)):
            if name != "ours" and not shutil.which({"influxdb": "influxd"}.get(name, name)):
                continue
            with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
                rate, said, processor = run(programs, folder, chain)
            found[name].append(rate)
            print(f"round {number + 1} {name}: {said}; {processor}", flush=True)
    for name, rates in found.items():
        if rates:
            print(f"{name}: median {statistics.median(rates):.0f} rows/s of {sorted(round(rate) for rate in rates)}")


def ours(programs: str, folder: str, chain: list) -> tuple:
    clients, rows = chain[:2]
    config, bundles = os.path.join(folder, "aggregator.toml"), os.path.join(folder, "bundles")
    os.mkdir(bundles)
    write(
        config,
        f'data = "{folder}/data"\n[mqtt]\nlisten = "127.0.0.1:{MQTT}"\nquic = false\n[http]\nlisten = "127.0.0.1:{HTTP}"\n'
        "[lab]\nenabled = false\n",
    )
    server = os.path.join(programs, "kilter-aggregator")
    for client in range(clients):
        enrol = [server, "enroll", f"load-{client}", "--config", config, "--server", f"127.0.0.1:{MQTT}", "--out"]
        subprocess.run([*enrol, f"{bundles}/{client}.toml"], check=True, stdout=subprocess.DEVNULL)
        plain(f"{bundles}/{client}.toml")
    with Running([server, "serve", "--config", config], folder, MQTT) as running:
        said = output([os.path.join(programs, "examples", "load"), bundles, str(rows)])
        return rate_of(said), said, f"server {running.processor_secs():.1f} s of a core"


def victoria(programs: str, folder: str, chain: list) -> tuple:
    command = ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{DATABASE}", f"-storageDataPath={folder}/vm"]
    return through_mosquitto(programs, folder, chain, [*command, "-retentionPeriod=100y"], "/write")


def influx(programs: str, folder: str, chain: list) -> tuple:
    config = os.path.join(folder, "influx.conf")
    write(
        config,
        f'reporting-disabled = true\nbind-address = "127.0.0.1:0"\n[meta]\ndir = "{folder}/meta"\n[data]\ndir = "{folder}/data"\n'
        f'wal-dir = "{folder}/wal"\nindex-version = "tsi1"\n[http]\nbind-address = "127.0.0.1:{DATABASE}"\nlog-enabled = false\n'
        "[monitor]\nstore-enabled = false\n",
    )
    return through_mosquitto(programs, folder, chain, ["influxd", "-config", config], "/write?db=rows")


def through_mosquitto(programs: str, folder: str, chain: list, database: list, path: str) -> tuple:
    config = os.path.join(folder, "mosquitto.conf")
    write(
        config,
        f"listener {BROKER} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        "persistence false\nlog_type error\n",
    )
    broker = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with Running([broker, "-c", config], folder, BROKER) as mosquitto, Running(database, folder, DATABASE) as running:
        if "db=" in path:
            create = f"http://127.0.0.1:{DATABASE}/query?q=CREATE+DATABASE+rows"
            urllib.request.urlopen(urllib.request.Request(create, data=b""), timeout=10).read()
        command = [os.path.join(programs, "examples", "chain"), str(BROKER), f"127.0.0.1:{DATABASE}", path]
        said = output([*command, *map(str, chain)])
        shares = f"mosquitto {mosquitto.processor_secs():.1f}, database {running.processor_secs():.1f} s of a core"
        return rate_of(said), said, shares


def plain(bundle: str) -> None:
    """Without an authority the client speaks MQTT over plain TCP, as the chain does, and does not try QUIC first."""
    with open(bundle, encoding="utf-8") as file:
        text = file.read()
    write(bundle, re.sub(r'server_ca = (""".*?"""|\'\'\'.*?\'\'\'|".*?")', 'server_ca = ""', text, flags=re.DOTALL))


class Running:
    """A server, from when it listens until it is told to end."""

    def __init__(self, command: list, folder: str, port: int) -> None:
        self.log = open(os.path.join(folder, os.path.basename(command[0]) + ".log"), "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.port = port

    def __enter__(self) -> "Running":
        for _ in range(600):
            if self.process.poll() is not None:
                raise SystemExit(f"it has ended: {open(self.log.name, encoding='utf-8').read()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"nothing listens on {self.port}")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def processor_secs(self) -> float:
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100.0


def output(command: list) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def rate_of(said: str) -> float:
    return float(re.search(r": (\d+) rows/s", said)[1])


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
