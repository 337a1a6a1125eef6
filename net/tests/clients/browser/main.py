"""Checks an MQTT broker with mqtt.js in headless Chromium, by WebSocket.

Usage: main.py HOST PORT

The broker has to let pages of http://127.0.0.1:$MQTT_PAGE_PORT in, and no others. Prints one line per scenario,
`ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed.
"""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode, urlsplit

HERE = Path(__file__).resolve().parent
MQTT_JS = Path(os.environ["NODE_PATH"]) / "mqtt/dist/mqtt.min.js"
PAGE_MAX_S = 60
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]
FILES = {
    "/page.html": ("text/html", HERE / "page.html"),
    "/page.js": ("text/javascript", HERE / "page.js"),
    "/mqtt.js": ("text/javascript", MQTT_JS),
}


def main(host, port):
    scheme = os.environ.get("MQTT_SCHEME", "ws")
    page_port = int(os.environ["MQTT_PAGE_PORT"])
    reports = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", page_port), lambda *args: Handler(reports, *args))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    query = {"url": f"{scheme}://{host}:{port}/mqtt", "tag": f"browser-{os.getpid()}"}
    failed = False
    # The same page under two names, of which the broker knows one.
    for name, scenarios in (("127.0.0.1", "exchange,retained_and_will,subprotocol"), ("localhost", "origin_is_refused")):
        address = f"http://{name}:{page_port}/page.html?{urlencode(query | {'scenarios': scenarios})}"
        for line in visit(address, reports):
            print(line, flush=True)
            failed |= not line.startswith("ok ")
    return 1 if failed else 0


def visit(address, reports):
    """Opens the page in a browser of its own; the lines that it reports."""
    profile = tempfile.mkdtemp(prefix="ringmq-browser-")
    # The certificates of the tests come from a CA that no browser knows.
    flags = [*FLAGS, f"--user-data-dir={profile}", "--ignore-certificate-errors"]
    browser = subprocess.Popen(["chromium", *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = []
    threading.Thread(target=lambda: errors.extend(browser.stderr), daemon=True).start()
    try:
        return reports.get(timeout=PAGE_MAX_S).splitlines()
    except queue.Empty:
        return [f"FAIL page: no report within {PAGE_MAX_S} s: {' '.join(errors[-3:])}".replace("\n", " ")]
    finally:
        browser.terminate()
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
        shutil.rmtree(profile, ignore_errors=True)


class Handler(BaseHTTPRequestHandler):
    """Serves the page, and takes its report."""

    def __init__(self, reports, *args):
        self.reports = reports
        super().__init__(*args)

    def do_GET(self):
        found = FILES.get(urlsplit(self.path).path)
        if not found:
            return self.send_error(404)
        kind, path = found
        self.answer(kind, path.read_bytes())

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        self.reports.put(self.rfile.read(size).decode())
        self.answer("text/plain", b"")

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
