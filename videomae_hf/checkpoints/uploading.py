# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Uploads folders to the Hub, each in one commit; a failure is one line that says what to do.

An upload that was cut is repeated by the same call: files that arrived are not sent again, and a commit that was made
is not made twice.
"""

import fnmatch
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # of httpx, or of httpx2 in later releases
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)


# Files that transformers reads before or together with those of a bundle. Those of an earlier upload must go.
_READ_FIRST = (
    "*.safetensors", "*.safetensors.index.json", "pytorch_model*", "adapter_config.json", "adapter_model.*",
    "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip
_KEPT = ".gitattributes"  # of the Hub
_FULL = ("storage", "quota", "limit")  # words in the Hub's refusal of files for which there is no room


class UploadError(OSError):
    """The Hub refused an upload, or could not be reached."""


@dataclass(frozen=True)
class Destination:
    """Where an upload goes.

    Args:
        repo_id: the repository.
        revision: a branch, created if it does not exist; None is main.
        create_pr: open a pull request instead.
        private: make a new repository private; an existing public one is refused.
        token: None is that of `hf auth login` or HF_TOKEN.
        repo_type: `"model"`, or `"space"` for a page in gradio.
    """

    repo_id: str
    revision: str | None = None
    create_pr: bool = False
    private: bool | None = None
    token: str | None = None
    repo_type: str = "model"


def prepare_repository(destination: Destination) -> Destination:
    """Creates the repository and the branch, if they do not exist; returns the destination with the full id.

    Raises:
        UploadError: the Hub refuses, or cannot be reached.
        ValueError: a private repository was requested, but it exists and is public.
    """
    api, kind = HfApi(token=destination.token), {"repo_type": destination.repo_type}
    sdk = {"space_sdk": "gradio"} if destination.repo_type == "space" else {}
    with upload_errors(destination.repo_id):
        repo_id = api.create_repo(
            destination.repo_id, private=destination.private, exist_ok=True, **kind, **sdk
        ).repo_id
        public = destination.private and api.repo_info(repo_id, **kind).private is False
        if not public and destination.revision and not destination.revision.startswith("refs/"):
            api.create_branch(repo_id, branch=destination.revision, exist_ok=True, **kind)
    if public:
        raise ValueError(
            f"{repo_id} exists and is public; make it private in its settings on the Hub, or choose another name."
        )
    return replace(destination, repo_id=repo_id)


def upload(
    folder: Path, destination: Destination, message: str, *, place: str | None = None, mirror: bool = False
) -> CommitInfo:
    """Uploads all files of a folder to a repository that exists.

    Args:
        folder: the folder.
        destination: the result of `prepare_repository`.
        message: the message of the commit.
        place: folder in the repository; None is its root. There, files of earlier uploads that would be read instead
            of the new ones, such as shards of weights, are deleted.
        mirror: delete all other files of the branch.

    Raises:
        UploadError: the Hub refuses, or cannot be reached.
    """
    api, repo_id = HfApi(token=destination.token), destination.repo_id
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with upload_errors(repo_id):
        operations = [
            CommitOperationAdd(path_in_repo=f"{place}/{name}" if place else name, path_or_fileobj=path)
            for name, path in paths.items()
        ]
        if place is None:
            kind = destination.repo_type
            present = api.list_repo_files(repo_id, revision=destination.revision, repo_type=kind)
            patterns = ("*",) if mirror else _READ_FIRST
            stale = [name for name in present if name not in paths and name != _KEPT and _matches(name, patterns)]
            operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
        return api.create_commit(
            repo_id=repo_id,
            operations=operations,
            commit_message=message,
            repo_type=destination.repo_type,
            revision=destination.revision,
            create_pr=destination.create_pr,
        )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file at the root, or any file for "*", matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns if pattern == "*" or "/" not in name)


def add_tag(destination: Destination, tag: str, commit: CommitInfo) -> None:
    """Tags a commit.

    Raises:
        ValueError: the tag exists and marks another commit.
        UploadError: the Hub refuses, or cannot be reached.
    """
    api, repo_id = HfApi(token=destination.token), destination.repo_id
    with upload_errors(repo_id):
        marked = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags}
        if tag not in marked:
            api.create_tag(repo_id, tag=tag, revision=commit.oid)
    if marked.get(tag, commit.oid) != commit.oid:
        raise ValueError(
            f"--tag {tag} exists in {repo_id} and marks another commit, {marked[tag]}; the upload, {commit.oid}, is "
            f"complete. Choose another tag."
        )


@contextmanager
def upload_errors(repo_id: str) -> Iterator[None]:
    """Context of requests to the Hub, whose failures become an `UploadError` of one line."""
    try:
        yield
    except (HTTPError, OSError, RuntimeError) as error:
        # A failed transfer of a large file is a RuntimeError with the response as its cause.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
        if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ConnectionError):
            raise  # of a local file
        raise UploadError(_explained(cause, repo_id)) from error


def _explained(error: BaseException, repo_id: str) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return f"{repo_id} cannot be reached, because HF_HUB_OFFLINE is set; unset it to upload."
    if isinstance(error, LocalTokenNotFoundError):
        return f"There is no token for {repo_id}: run `hf auth login`, or set HF_TOKEN."
    if not isinstance(error, HfHubHTTPError):
        reason = (str(error).splitlines() or [""])[0][:150] or type(error).__name__
        return (
            f"The connection to the Hub was lost while uploading to {repo_id} ({reason}). Repeat the command: what has "
            f"arrived is not sent again."
        )
    status = error.response.status_code
    said = " ".join((error.server_message or "").split())[:200]
    answer = f"{status}: {said}" if said else str(status)
    if status in (403, 413, 507) and (status != 403 or any(word in said.lower() for word in _FULL)):
        return f"The Hub has no room for {repo_id} ({answer}). Free storage or extend it, then repeat the command."
    return f"The Hub refused the upload to {repo_id} ({answer}). {_remedy(status)}"


def _remedy(status: int) -> str:
    if status == 401:
        return "Run `hf auth login`, or set HF_TOKEN to a valid token with write access."
    if status == 403:
        return "Use a token with write access to this repository, or the name of one of your own."
    if status == 404:
        return "The repository or the branch does not exist, or the token may not see it."
    if status in (409, 412):
        return "Someone else changed the repository meanwhile; repeat the command."
    if status == 429:
        return "There were too many requests; repeat the command in some minutes."
    if status >= 500:
        return "The Hub has a fault; repeat the command later. What has arrived is not sent again."
    return "Its answer says why."
