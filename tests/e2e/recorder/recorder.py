"""A recorder for tests, between Open WebUI and the door: writes down what Open WebUI sends, and
passes it on unchanged.

No stand-in for anything: the door and the model behind it are the real ones. Usage: recorder.py
FILE, for a line of JSON
with path and body for each POST.
"""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PASSED_ON = ("Authorization", "Content-Type")


class Recorder(BaseHTTPRequestHandler):
    # an answer ends when its connection does, so a stream passes through as it comes
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.pass_on(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Path(sys.argv[1]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"path": self.path, "body": json.loads(body)}) + "\n")
        self.pass_on(body)

    def pass_on(self, body: bytes | None) -> None:
        door = http.client.HTTPConnection("door", 8000, timeout=300)
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        door.request(self.command, self.path, body, headers)
        answer = door.getresponse()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.end_headers()
        while part := answer.read1(65536):
            self.wfile.write(part)
        door.close()


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Recorder).serve_forever()
