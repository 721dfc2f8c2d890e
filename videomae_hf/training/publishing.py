# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Uploads the checkpoints and the final model of a run with `push_to_hub`: the folder that `videomae push` builds."""

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from huggingface_hub import CommitInfo

from ..checkpoints.bundle import build_bundle, copy_to_resume, read_checkpoint, verify_bundle
from ..checkpoints.model_card import Checkpoint, Publication
from ..checkpoints.uploading import Destination, UploadError, prepare_repository, upload
from ..settings.training_arguments import VideoMAETrainingArguments
from .monitoring import random_state_kept


logger = logging.getLogger(__name__)

SCRATCH = "hub_upload"  # folder in output_dir for what is being uploaded


class HubUploads:
    """The uploads of a run, in the background until the last one; only the main process has them.

    `hub_strategy` decides what is uploaded when a checkpoint is saved: `end` nothing, `every_save` the model,
    `checkpoint` also the files to resume from, as `last-checkpoint`, and `all_checkpoints` these of each checkpoint. A
    failure then is a warning, and the run continues.

    Args:
        args: arguments of the run.
        token, private: override `hub_token` and `hub_private_repo`.

    Raises:
        UploadError: the Hub refuses to create the repository, or cannot be reached.
        ValueError: a private repository was requested, but it exists and is public.
    """

    def __init__(
        self, args: VideoMAETrainingArguments, *, token: str | None = None, private: bool | None = None
    ) -> None:
        self.args = args
        wanted = Destination(
            repo_id=args.hub_model_id or Path(args.output_dir).absolute().name,
            revision=args.hub_revision,
            private=args.hub_private_repo if private is None else private,
            token=token or args.hub_token,
        )
        self.destination = prepare_repository(wanted)
        self._scratch = Path(args.output_dir, SCRATCH)
        shutil.rmtree(self._scratch, ignore_errors=True)  # of a run that was killed
        self._strategy = str(getattr(args.hub_strategy, "value", args.hub_strategy))
        self._thread = ThreadPoolExecutor(1)  # one, so that commits keep their order
        self._current: Future | None = None

    def add_checkpoint(self, checkpoint: Path, step: int) -> None:
        """Uploads a complete checkpoint, unless the previous upload still runs and `hub_always_push` is not set."""
        if self._strategy == "end":
            return
        if self._current is not None and not self._current.done() and not self.args.hub_always_push:
            return
        place = {"checkpoint": "last-checkpoint", "all_checkpoints": checkpoint.name}.get(self._strategy)
        average = checkpoint / "ema"
        model = average if self.args.evaluate_ema and average.is_dir() else checkpoint
        folder = self._scratch / checkpoint.name
        try:
            self._build(model, folder)
            if place is not None:
                copy_to_resume(checkpoint, folder / place)
        except (ValueError, OSError) as error:
            logger.warning("%s is not uploaded: %s", checkpoint, error)
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._current = self._thread.submit(self._upload_or_warn, folder, f"Training in progress, step {step}")

    def finish(
        self, output_dir: str, message: str | None, revision: str | None = None, *, blocking: bool = True
    ) -> CommitInfo | Future[CommitInfo]:
        """Waits for the previous upload, and uploads the final model, after the check that `videomae push` makes.

        Raises:
            UploadError: the folder cannot be built, the Hub refuses, or it cannot be reached; the message has the
                command to repeat it.
        """
        self.wait()
        folder, destination = self._scratch / "model", self.destination
        shutil.rmtree(folder, ignore_errors=True)
        try:
            verify_bundle(self._build(Path(output_dir), folder), folder)
            if revision is not None:
                destination = prepare_repository(replace(destination, revision=revision))
            self._current = self._thread.submit(self._upload, folder, message or "End of training", destination)
            return self._current.result() if blocking else self._current
        except (OSError, ValueError) as error:
            command = f"videomae push {output_dir} {destination.repo_id}"
            if destination.revision:
                command += f" --revision {destination.revision}"
            raise UploadError(f"{error} The trained model is complete in {output_dir}: {command}") from error

    def wait(self) -> None:
        """Waits for the current upload."""
        if self._current is not None and not self._current.done():
            logger.info("Waiting for the upload of a checkpoint.")
            self._current.exception()

    def _build(self, source: Path, folder: Path) -> Checkpoint:
        with random_state_kept(self.args.device):  # reading a model must not change the run
            checkpoint = read_checkpoint(str(source))
        build_bundle(checkpoint, Publication(self.destination.repo_id), folder)
        return checkpoint

    def _upload(self, folder: Path, message: str, destination: Destination) -> CommitInfo:
        try:
            return upload(folder, destination, message)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if not any(self._scratch.iterdir()):
                self._scratch.rmdir()

    def _upload_or_warn(self, folder: Path, message: str) -> None:
        try:
            self._upload(folder, message, self.destination)
        except UploadError as error:
            logger.warning("%s The run continues.", error)
