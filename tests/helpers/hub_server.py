"""A stand-in for the Hub on 127.0.0.1: enough of its HTTP protocol to create a repository, push, and load from it.

Files go in as the Hub client sends them (small ones in the commit, large ones through LFS) and come out of `resolve`.
Repositories have branches, tags and pull requests. Faults can be set: an answer with an error, or a cut connection.
Run as a program it prints its address and serves until it is stopped.
"""

import base64
import hashlib
import json
import re
import socket
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


TOKEN = "hf_test_token"


@dataclass
class Fault:
    """What the server does instead of answering requests whose "METHOD path" matches a pattern.

    Args:
        pattern: regular expression.
        status: status of the answer; 0 reads half of the body and cuts the connection.
        message: message of the error.
        times: number of such requests; after them the server works.
    """

    pattern: str
    status: int
    message: str = ""
    times: int = 1_000_000


class Hub(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}  # the files of main
        self.branches: dict[tuple[str, str], dict[str, bytes]] = {}  # of other branches and pull requests
        self.tags: dict[tuple[str, str], str] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}  # LFS, by sha256
        self.requests: list[str] = []
        self.messages: list[str] = []  # of commits
        self.faults: list[Fault] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, name: str, revision: str = "main") -> dict[str, bytes] | None:
        """The files of a branch or a commit; None if there is none."""
        if name not in self.repositories:
            return None
        branches = {"main": self.repositories[name]}
        branches |= {branch: files for (owner, branch), files in self.branches.items() if owner == name}
        commits = {commit_id(files): files for files in branches.values()}
        return (commits | branches).get(self.tags.get((name, revision), revision))

    def uploaded(self) -> dict[str, bytes]:
        """All files that were ever received, of all repositories and branches."""
        kept = {
            f"{name}/main/{path}": data for name, files in self.repositories.items() for path, data in files.items()
        }
        kept |= {
            f"{'/'.join(key)}/{path}": data for key, files in self.branches.items() for path, data in files.items()
        }
        return kept | {f"lfs/{oid}": data for oid, data in self.objects.items()}

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

    def used_here(self, monkeypatch) -> None:
        """Lets this process take the server for the Hub in uploads; failed requests are repeated without a pause."""
        template = f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", self.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)


def commit_id(files: dict[str, bytes]) -> str:
    digest = hashlib.sha1()
    for path, content in sorted(files.items()):
        digest.update(path.encode() + content)
    return digest.hexdigest()


def object_id(path: str, content: bytes) -> str:
    """The id by which the client recognises a file that has not changed."""
    if path.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        self.server.requests.append(f"{self.command} {self.path}")

    def reply(self, status: int, body: bytes | dict | list = b"", **headers: str):
        if isinstance(body, dict | list):
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

    def plain_path(self) -> str:
        """The path of the request; a Space me/a is the repository me/a:space here."""
        return re.sub(r"^/api/spaces/([^/]+/[^/]+)", r"/api/models/\1:space", unquote(urlsplit(self.path).path))

    def faulty(self) -> bool:
        """Whether a fault has taken the place of the answer."""
        request = f"{self.command} {self.path}"
        fault = next((one for one in self.server.faults if one.times and re.search(one.pattern, request)), None)
        if fault is None:
            return False
        fault.times -= 1
        if fault.status:
            self.body()
            self.reply(fault.status, {"error": fault.message} if fault.message else b"")
            return True
        self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
        self.log_message()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def do_PUT(self):  # where the LFS batch below sends the client; no token, as on the Hub
        if self.faulty():
            return
        data = self.body()
        self.server.objects[hashlib.sha256(data).hexdigest()] = data
        self.reply(200)

    def do_POST(self):
        if self.faulty():
            return
        data, path = self.body(), self.plain_path()
        if path == "/api/validate-yaml":  # sent without a token
            return self.reply(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            wanted = json.loads(data)
            name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            space = wanted.get("type") == "space"
            place, name = (f"spaces/{name}", f"{name}:space") if space else (name, name)
            status = 409 if name in self.server.repositories else 200
            self.server.repositories.setdefault(name, {})
            self.server.private.setdefault(name, wanted.get("visibility") == "private" or wanted.get("private") is True)
            return self.reply(status, {"url": f"{self.server.url}/{place}", "name": name})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|tag|preupload|commit)/(.+)", path):
            return getattr(self, match.group(2))(match.group(1), match.group(3), data)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.lfs_batch(json.loads(data))
        self.reply(404, {"error": self.path})

    def branch(self, name: str, branch: str, data: bytes):
        if branch == "main" or (name, branch) in self.server.branches:
            return self.reply(409, {"error": "Reference already exists"})
        self.server.branches[name, branch] = dict(self.server.repositories[name])
        self.reply(200)

    def tag(self, name: str, revision: str, data: bytes):
        self.server.tags[name, json.loads(data)["tag"]] = commit_id(self.server.files(name, revision))
        self.reply(200)

    def preupload(self, name: str, revision: str, data: bytes):
        present, answer = self.server.files(name, revision), []
        if present is None:
            return self.reply(404, X_Error_Code="RevisionNotFound")
        for file in json.loads(data)["files"]:
            path, mode = file["path"], "lfs" if file["path"].endswith(".safetensors") else "regular"
            known = {"oid": object_id(path, present[path])} if path in present else {}
            answer.append({"path": path, "shouldIgnore": False, "uploadMode": mode, **known})
        self.reply(200, {"files": answer})

    def lfs_batch(self, wanted: dict):
        """Where to send the objects that are not there yet."""
        upload, present = {"actions": {"upload": {"href": f"{self.server.url}/lfs"}}}, self.server.objects
        objects = [
            {"oid": item["oid"], "size": item["size"], **({} if item["oid"] in present else upload)}
            for item in wanted["objects"]
        ]
        self.reply(200, {"transfer": "basic", "objects": objects})

    def commit(self, name: str, revision: str, data: bytes):
        answer, files = {}, self.server.files(name, revision)
        if parse_qs(urlsplit(self.path).query).get("create_pr"):
            number = 1 + sum(branch.startswith("refs/pr/") for owner, branch in self.server.branches if owner == name)
            files = self.server.branches[name, f"refs/pr/{number}"] = dict(files)
            answer["pullRequestUrl"] = f"{self.server.url}/{name}/discussions/{number}"
        for line in data.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.server.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commit = commit_id(files)
        place = f"spaces/{name.removesuffix(':space')}" if name.endswith(":space") else name
        url = f"{self.server.url}/{place}/commit/{commit}"
        self.reply(200, {"commitUrl": url, "commitOid": commit, "hookOutput": "", **answer})

    def do_GET(self):
        if self.faulty():
            return
        path = self.plain_path()
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            name, revision = match.groups()
            files = self.server.files(name, revision)
            if files is None:  # a folder within the revision
                revision, _, folder = revision.rpartition("/")
                if self.server.files(name, revision) is None:
                    return self.reply(404, X_Error_Code="RepoNotFound")
                inside = self.server.files(name, revision)
                files = {path: data for path, data in inside.items() if path.startswith(f"{folder}/")}
                if not files:
                    return self.reply(404, X_Error_Code="EntryNotFound")
            rows = [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files.items()]
            return self.reply(200, rows)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/refs", path):
            name = match.group(1)
            tags = [
                {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
                for (owner, tag), commit in self.server.tags.items()
                if owner == name
            ]
            return self.reply(200, {"branches": [], "converts": [], "tags": tags})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/(.+))?", path):
            name, revision = match.group(1), match.group(2) or "main"
            files = self.server.files(name, revision)
            if files is None:
                return self.reply(404, X_Error_Code="RepoNotFound")
            facts = {
                "siblings": [{"rfilename": path} for path in files],
                "private": self.server.private.get(name, False),
            }
            return self.reply(200, {"id": name, "sha": commit_id(files), "tags": [], **facts})
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            name, revision, path = match.groups()
            files = self.server.files(name, revision)
            if files is None:
                return self.reply(404, X_Error_Code="RepoNotFound")
            content = files.get(path)
            if content is None:
                return self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit_id(files))
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.reply(200, content, ETag=etag, X_Repo_Commit=commit_id(files))
        self.reply(404, {"error": self.path})

    do_HEAD = do_GET


if __name__ == "__main__":
    hub = Hub()
    print(hub.url, flush=True)
    hub.serve_forever()
