"""A headless Chromium over its DevTools protocol, with nothing but Python's own library: a WebSocket
client of thirty lines, commands, and the events that came in between."""

import base64
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request


def find_chromium() -> str | None:
    names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Browser:
    def __init__(self, program: str, size=(1360, 900)):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--remote-allow-origins=*",
             f"--window-size={size[0]},{size[1]}", f"--user-data-dir={self.profile.name}", "--remote-debugging-port=0", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = pathlib.Path(self.profile.name, "DevToolsActivePort")
        for _ in range(300):
            if port_file.exists() and "\n" in port_file.read_text():
                break
            time.sleep(0.1)
        else:
            raise SystemExit("Chromium did not start within 30 s")
        port = int(port_file.read_text().splitlines()[0])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages = json.load(opener.open(f"http://127.0.0.1:{port}/json/list"))
        page = next(p for p in pages if p["type"] == "page")
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.stream = self.socket.makefile("rb")
        path = page["webSocketDebuggerUrl"].split(str(port), 1)[1]
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        while self.stream.readline().strip():
            pass
        self.last = 0
        self.events = []

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.profile.cleanup()

    def send(self, method: str, **params):
        """One command; its result. What happens meanwhile goes to `events`."""
        self.last += 1
        self._frame(json.dumps({"id": self.last, "method": method, "params": params}).encode())
        while True:
            message = self._message()
            if message.get("id") == self.last:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def run(self, script: str):
        """The value of an expression in the page; a promise is waited for."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"{script}\n{json.dumps(result['exceptionDetails'])[:2000]}")
        return result["result"].get("value")

    def wait(self, script: str, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(script):
                return
            time.sleep(0.02)
        raise SystemExit(f"waited {seconds} s in vain for: {script}")

    def press(self, key: str):
        code = {"/": 191, "Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37, "j": 74, "k": 75, "Tab": 9}[key]
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if kind == "keyDown" and text else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **extra)

    def picture(self, path):
        shot = self.send("Page.captureScreenshot", format="png")
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))

    def _frame(self, payload: bytes):
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([0x81])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 65536:
            head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
        else:
            head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def _message(self):
        parts = []
        while True:
            first, second = self.stream.read(2)
            length = second & 0x7F
            if length == 126:
                length = int.from_bytes(self.stream.read(2), "big")
            elif length == 127:
                length = int.from_bytes(self.stream.read(8), "big")
            parts.append(self.stream.read(length))
            if first & 0x80:
                return json.loads(b"".join(parts))
