"""A stand-in for the Hub on 127.0.0.1: enough of its HTTP protocol to create a repository, push, and load from it.

Files go in as the Hub client sends them (small ones in the commit, large ones through LFS) and come out of `resolve`.
Run as a program it prints its address and serves until it is stopped.
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


TOKEN = "hf_test_token"


class Hub(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}  # LFS, by sha256
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, folder) -> dict[str, str]:
        """What a process needs to take this server for the Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(folder),
            "HF_MODULES_CACHE": str(folder / "modules"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_OFFLINE": "0",
        }


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        self.server.requests.append(f"{self.command} {self.path}")

    def reply(self, status: int, body: bytes | dict = b"", **headers: str):
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self):  # where the LFS batch below sends the client; no token, as on the Hub
        data = self.body()
        self.server.objects[hashlib.sha256(data).hexdigest()] = data
        self.reply(200)

    def do_POST(self):
        data = self.body()
        if self.path == "/api/validate-yaml":  # sent without a token
            return self.reply(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            wanted = json.loads(data)
            name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            status = 409 if name in self.server.repositories else 200
            self.server.repositories.setdefault(name, {})
            return self.reply(status, {"url": f"{self.server.url}/{name}", "name": name})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/.+", self.path):
            files = json.loads(data)["files"]
            mode = {True: "lfs", False: "regular"}
            chosen = [
                {"path": file["path"], "shouldIgnore": False, "uploadMode": mode[file["path"].endswith(".safetensors")]}
                for file in files
            ]
            return self.reply(200, {"files": chosen})
        if self.path.endswith(".git/info/lfs/objects/batch"):
            return self.lfs_batch(json.loads(data))
        if match := re.fullmatch(r"/api/models/(.+)/commit/.+", self.path):
            return self.commit(match.group(1), data)
        self.reply(404, {"error": self.path})

    def lfs_batch(self, wanted: dict):
        objects = [
            {"oid": item["oid"], "size": item["size"], "actions": {"upload": {"href": f"{self.server.url}/lfs"}}}
            for item in wanted["objects"]
        ]
        self.reply(200, {"transfer": "basic", "objects": objects})

    def commit(self, name: str, data: bytes):
        files = self.server.repositories[name]
        for line in data.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        url = f"{self.server.url}/{name}/commit/{self.revision(name)}"
        self.reply(200, {"commitUrl": url, "commitOid": self.revision(name), "hookOutput": ""})

    def revision(self, name: str) -> str:
        digest = hashlib.sha1()
        for path, content in sorted(self.server.repositories[name].items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()

    def do_GET(self):
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", self.path):
            name = match.group(1)
            if name not in self.server.repositories:
                return self.reply(404, X_Error_Code="RepoNotFound")
            siblings = [{"rfilename": path} for path in self.server.repositories[name]]
            return self.reply(200, {"id": name, "sha": self.revision(name), "siblings": siblings, "tags": []})
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            name, path = match.groups()
            if name not in self.server.repositories:
                return self.reply(404, X_Error_Code="RepoNotFound")
            content = self.server.repositories[name].get(path)
            if content is None:
                return self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=self.revision(name))
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.reply(200, content, ETag=etag, X_Repo_Commit=self.revision(name))
        self.reply(404, {"error": self.path})

    do_HEAD = do_GET


if __name__ == "__main__":
    hub = Hub()
    print(hub.url, flush=True)
    hub.serve_forever()
