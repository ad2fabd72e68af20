"""A web page that is open in a browser on this computer reaches nothing of the daemon."""

import base64
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import zmq
from helpers import LOCAL, wait_until

from cars_rt.trust.curve import secure_server
from hostile.line import Line
from hostile.peers import OLD_GREETING, a_request, connected, old_part, smuggled, where

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "curl/8",
)


def posted(host: str, agent: str, body: bytes) -> bytes:
    """What a browser sends for a page that posts this body to another origin without asking it first."""
    head = [
        "POST / HTTP/1.1", f"Host: {host}", "Connection: keep-alive", f"Content-Length: {len(body)}",
        f"User-Agent: {agent}", "Accept: */*", "Origin: http://elsewhere.example",
        "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty",
        "Accept-Encoding: gzip, deflate, br, zstd",
    ]  # fmt: skip
    return "\r\n".join([*head, "", ""]).encode() + body


def cut_off(connection: socket.socket) -> None:
    """Return when the other end has closed the connection: nothing of it can come any more."""
    with suppress(ConnectionError):
        while connection.recv(4096):
            pass


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.XPUB])
def test_old_protocol_is_refused_by_every_socket_of_ours(kind: int) -> None:
    """Without that, a request in the body of a POST is a message."""
    with zmq.Context() as context, context.socket(kind) as server:
        server.setsockopt(zmq.LINGER, 0)
        secure_server(server, LOCAL, None)
        server.bind(LOCAL)
        address = server.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        content = b"\x01raman." if kind == zmq.XPUB else a_request("stop")
        attempts = [OLD_GREETING + old_part(content)] + [
            posted("127.0.0.1", agent, smuggled(content)) for agent in AGENTS
        ]
        for attempt in attempts:
            with connected(address) as connection:
                connection.sendall(attempt)
                cut_off(connection)
        assert not server.poll(0)
        with context.socket(zmq.DEALER if kind == zmq.ROUTER else zmq.SUB) as friend:
            if kind == zmq.XPUB:
                friend.subscribe(b"raman.")
            friend.connect(address)
            if kind == zmq.ROUTER:
                friend.send(b"hello")
            assert server.poll(10_000)  # ZMTP 3 is let in as before


def test_posts_of_a_page_reach_nothing(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        before = line.ask("status")
        for address in (line.control, line.raman, line.preview):
            for agent in AGENTS:
                for do in ("pause", "stop"):
                    with connected(address) as connection:
                        host = "{}:{}".format(*where(address))
                        connection.sendall(posted(host, agent, smuggled(a_request(do))))
                        cut_off(connection)
        line.goes_on()
        after = line.ask("status")
        for name in ("state", "subscribers", "refused", "reloads", "reloads_failed"):
            assert after[name] == before[name], name


PAGE = """<!doctype html><title>a page</title><iframe name="sink"></iframe><script>
const ports = PORTS, body = Uint8Array.from(atob("BODY"), letter => letter.charCodeAt(0));
const later = ms => new Promise(done => setTimeout(done, ms));
async function attack() {
  const tried = {};
  const count = (what, how) => { tried[what + " " + how] = (tried[what + " " + how] || 0) + 1; };
  for (const port of ports) {
    const url = `http://127.0.0.1:${port}/`;
    const post = (what, given) => Promise.race([fetch(url, given), later(2000)]).then(
      () => count(what, "sent"), () => count(what, "failed"));
    await post("no-cors", {method: "POST", mode: "no-cors", body: new Blob([body])});
    await post("text", {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body});
    await post("cors", {method: "POST", body: new Blob([body])});
    await post("get", {mode: "no-cors"});
    count("beacon", navigator.sendBeacon(url, new Blob([body])) ? "sent" : "failed");
    await new Promise(done => {
      let socket;
      try { socket = new WebSocket(`ws://127.0.0.1:${port}/`); } catch { return done(); }
      socket.binaryType = "arraybuffer";
      socket.onopen = () => { socket.send(body); count("websocket", "open"); };
      socket.onerror = socket.onclose = () => { count("websocket", "closed"); done(); };
      setTimeout(done, 2000);
    });
    const form = document.createElement("form");
    form.method = "POST"; form.enctype = "multipart/form-data"; form.action = url; form.target = "sink";
    const input = document.createElement("input"), files = new DataTransfer();
    files.items.add(new File([body], "x")); input.type = "file"; input.name = "x"; input.files = files.files;
    form.append(input); document.body.append(form); form.submit(); count("form", "sent");
    await later(300);
  }
  await fetch("/report", {method: "POST", body: JSON.stringify(tried)});
}
attack();
</script>"""


@contextmanager
def site(page: str) -> Iterator[tuple[str, list[dict[str, int]]]]:
    """Serves the page at another port, which is another origin; its address, and what pages reported."""
    reports: list[dict[str, int]] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def do_POST(self) -> None:
            reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", reports
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here that could show a page")
def test_page_in_a_real_browser_gets_nowhere(tmp_path: Path) -> None:
    assert BROWSER is not None
    with Line(tmp_path) as line:
        before = line.ask("status")
        ports = [where(address)[1] for address in (line.control, line.raman, line.preview)]
        ports.append(int(line.http.rpartition(":")[2]))
        body = base64.b64encode(smuggled(a_request("stop"))).decode()
        with site(PAGE.replace("PORTS", json.dumps(ports)).replace("BODY", body)) as (url, reports):
            browser = subprocess.Popen(
                [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-extensions", "--remote-debugging-port=0",
                 f"--user-data-dir={tmp_path / 'profile'}", url],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                wait_until(lambda: reports or browser.poll() is not None, 120)
            finally:
                browser.kill()
                browser.wait()
        assert reports, "the browser ended before its page was done"
        tried = reports[0]
        assert tried["form sent"] == tried["beacon sent"] == len(ports), tried  # it did what it could
        assert "websocket open" not in tried, tried
        line.goes_on()
        after = line.ask("status")
        for name in ("state", "subscribers", "refused", "reloads", "reloads_failed"):
            assert after[name] == before[name], (name, tried)
