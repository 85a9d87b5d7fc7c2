"""How many messages a second JetStream makes durable with `sync_interval: always`: one stream on file storage, one connection, a window of
messages on the way, each acknowledged by the stream.

    python jetstream_rate.py nats-server /folder/on/the/disk rows_per_message messages [window]

Prints rows a second. Rows are the bytes of a packed row of 32 features (95 bytes, see Wire in docs/BENCHMARKS.md).
"""

import os
import socket
import subprocess
import sys
import tempfile
import time

ROW_BYTES = 95


def main() -> None:
    server, folder, rows, messages = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    window = int(sys.argv[5]) if len(sys.argv) > 5 else 256
    with tempfile.TemporaryDirectory(dir=folder) as store:
        config = os.path.join(store, "nats.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'listen: 127.0.0.1:14222\njetstream {{ store_dir: "{store}/js", sync_interval: always }}\n')
        process = subprocess.Popen([server, "-c", config], stderr=subprocess.DEVNULL)
        try:
            seconds = measure(rows * ROW_BYTES, messages, window)
        finally:
            process.terminate()
            process.wait()
    print(f"{messages} messages of {rows} rows in {seconds:.2f} s: {messages / seconds:.0f} messages/s, {messages * rows / seconds:.0f} rows/s")


def measure(payload_bytes: int, messages: int, window: int) -> float:
    nats = connect()
    nats.sendall(b'CONNECT {"verbose":false}\r\nSUB inbox.> 1\r\n')
    request = b'{"name":"rows","subjects":["rows"],"storage":"file","num_replicas":1}'
    nats.sendall(b"PUB $JS.API.STREAM.CREATE.rows inbox.made %d\r\n%s\r\n" % (len(request), request))
    answers = Answers(nats)
    made = answers.take()
    assert b'"error"' not in made, made
    payload = os.urandom(payload_bytes)
    message = b"PUB rows inbox.ack %d\r\n%s\r\n" % (payload_bytes, payload)
    begun, sent, acked = time.monotonic(), 0, 0
    while acked < messages:
        more = min(window - (sent - acked), messages - sent)
        if more > 0:
            nats.sendall(message * more)
            sent += more
        acknowledged = answers.take()
        assert b'"seq"' in acknowledged, acknowledged
        acked += 1
    return time.monotonic() - begun


def connect() -> socket.socket:
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", 14222))
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nats-server does not listen")


class Answers:
    """Messages to our inbox, one by one."""

    def __init__(self, nats: socket.socket) -> None:
        self.file = nats.makefile("rb")

    def take(self) -> bytes:
        while True:
            line = self.file.readline()
            if line.startswith(b"MSG "):
                body = self.file.read(int(line.split()[-1]) + 2)
                return body
            if line.startswith(b"-ERR") or not line:
                raise SystemExit(f"nats-server says {line!r}")


main()
