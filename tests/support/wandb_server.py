"""A W&B server in this process: enough of its GraphQL and file streams for runs, resumed runs and artifacts."""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"


class StoredRun:
    """What was sent of a run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.history: list[str] = []
        self.summary = "{}"
        self.config = "{}"
        self.upserts: list[dict[str, Any]] = []
        self.exit_code: int | None = None
        self.made: list[dict[str, Any]] = []
        self.used: list[str] = []


class WandbServer:
    """The server's state and how it behaves.

    Attributes:
        behaviour: `well`; `refuses` (401), `broken` (500 to everything), `hangs` (never answers), `drips` (a byte now
            and then), `no_runs` (takes the key, fails at runs), `stuck` (hangs when files are sent), `nobody` (has no
            viewer for the key).
        runs: by id.
        asked: names of the operations, in order.
    """

    def __init__(self) -> None:
        self.behaviour = "well"
        self.runs: dict[str, StoredRun] = {}
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.stopped = threading.Event()
        self.url = ""
        self.lock = threading.Lock()

    def run(self, name: str) -> StoredRun:
        with self.lock:
            return self.runs.setdefault(name, StoredRun(len(self.runs)))

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        if operation == "Viewer":
            viewer = {"id": "V", "entity": "team", "username": "somebody", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": None if self.behaviour == "nobody" else viewer}
        if operation == "UpsertBucket":
            run = self.run(variables["name"])
            run.upserts.append(variables)
            run.config = variables.get("config") or run.config
            project = {"id": "P", "name": variables.get("project") or "p", "entity": {"id": "E", "name": "team"}}
            bucket = {
                "id": f"B{run.number}",
                "name": variables["name"],
                "displayName": variables.get("displayName"),
                "description": "",
                "config": run.config,
                "sweepName": None,
                "project": project,
                "historyLineCount": len(run.history),
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": len(run.upserts) == 1}}
        if operation == "RunResumeStatus":
            return {"model": self._status(variables["name"])}
        if operation == "CreateArtifact":
            return self._artifact(variables["input"])
        if operation == "UseArtifact":
            self.run(variables["input"]["runName"]).used.append(variables["input"]["artifactID"])
            return {"useArtifact": {"artifact": {"id": variables["input"]["artifactID"]}}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "R", "uploadHeaders": [], "files": files}}
        return {}

    def _status(self, name: str) -> dict[str, Any] | None:
        if name not in self.runs:
            return {"id": "P", "name": "p", "entity": {"id": "E", "name": "team"}, "bucket": None}
        run = self.runs[name]
        bucket = {
            "id": f"B{run.number}",
            "name": name,
            "summaryMetrics": run.summary,
            "displayName": "",
            "tags": [],
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "notes": None,
            "historyTail": json.dumps(run.history[-1:]),
            "eventsTail": "[]",
            "config": run.config,
            "wandbConfig": '{"t": {}}',
        }
        return {"id": "P", "name": "p", "entity": {"id": "E", "name": "team"}, "bucket": bucket}

    def _artifact(self, content: dict[str, Any]) -> dict[str, Any]:
        name = content["artifactCollectionName"]
        if content.get("runName"):  # what a run uses is sent without the name of a maker
            self.run(content["runName"]).made.append(content)
        sequence = {"id": "S", "latestArtifact": {"id": name, "versionIndex": 0}}
        artifact = {"id": f"{name}@{content['digest']}", "state": "COMMITTED", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def stream(self, name: str, content: dict[str, Any]) -> None:
        run = self.run(name)
        for file, chunk in content.get("files", {}).items():
            if file == "wandb-history.jsonl":
                run.history[chunk["offset"] :] = chunk["content"]
            elif file == "wandb-summary.json":
                run.summary = chunk["content"][-1]
        if content.get("complete"):
            run.exit_code = content.get("exitcode")


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """A server on a free port, ended at the end even where it hangs."""
    server = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(200, {})

        def do_PUT(self) -> None:
            self._body()
            self._answer(200, {})

        def do_POST(self) -> None:
            body = self._body()
            if server.behaviour == "hangs":
                server.stopped.wait()
                return
            if server.behaviour == "drips":
                self._drip()
                return
            if server.behaviour in ("refuses", "broken"):
                self._answer(401 if server.behaviour == "refuses" else 500, {"errors": [{"message": "no"}]})
            elif self.path.endswith("/file_stream"):
                if server.behaviour == "stuck":
                    server.stopped.wait()
                    return
                server.stream(self.path.split("/")[4], json.loads(body))
                self._answer(200, {"exitcode": None, "limits": {}})
            elif self.path == "/graphql":
                self._graphql(json.loads(body))
            else:
                self._answer(200, {})

        def _graphql(self, request: dict[str, Any]) -> None:
            named = request.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
            server.asked.append(named)
            if "Authorization" in self.headers:
                server.keys.add(base64.b64decode(self.headers["Authorization"].split()[-1]).decode().split(":")[-1])
            if server.behaviour == "no_runs" and named == "UpsertBucket":
                self._answer(500, {"errors": [{"message": "no runs today"}]})
                return
            self._answer(200, {"data": server.graphql(named, request.get("variables") or {})})

        def _drip(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not server.stopped.wait(0.2):
                self.wfile.write(b" ")
                self.wfile.flush()

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that is gone is not news."""

    listener = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        listener.shutdown()
        listener.server_close()
