"""How processes divide work: which of them they are, what each does, and what is left of a killed one."""

import pytest

from videomae_hf.data.shared_work import ProcessShare, SharedWork


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, ProcessShare()),
        ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, ProcessShare(1, 4, 1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, ProcessShare()),
        (
            {
                "SLURM_PROCID": "3",
                "SLURM_STEP_NUM_TASKS": "8",
                "SLURM_LOCALID": "1",
                "SLURM_JOB_ID": "7",
                "SLURM_STEP_ID": "0",
            },
            ProcessShare(3, 8, 1, 1, "7.0"),
        ),
        ({"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a1"}, ProcessShare(1, 2, run="a1")),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, ProcessShare()),  # a batch script, which is one process
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, ProcessShare(1, 2)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, ProcessShare(1, 2)),
        # srun starts a torchrun on each of two machines, and these know of each other
        (
            {"RANK": "5", "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"},
            ProcessShare(5, 8, run="."),
        ),
    ],
)
def test_which_process_this_is(environment, share):
    assert ProcessShare.of_environment(environment) == share


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK=, WORLD_SIZE=2 in the environment do not say which process this is"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "they need 0 <= rank < size"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
        (
            {"RANK": "0", "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "1", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"},
            "srun started 4 tasks, but 1 know of each other",
        ),
    ],
)
def test_contradictions_are_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        ProcessShare.of_environment(environment)


def test_shares_are_everything_once():
    items = list("abcdefg")
    assert [ProcessShare(rank, 3).of(items) for rank in range(3)] == [["a", "d", "g"], ["b", "e"], ["c", "f"]]


def values(work: SharedWork) -> dict[str, int]:
    return {path: record["value"] for path, record in work.read().items()}


def test_the_last_process_has_all_results(tmp_path):
    first, second = (SharedWork(tmp_path / "work", ProcessShare(rank, 2)) for rank in range(2))
    for work, path in ((first, "a"), (second, "b")):
        work.start()
        work.add({"path": path, "value": 1})
    assert not first.finish() and second.finish()
    assert values(second) == {"a": 1, "b": 1}
    first.start()  # again, as in a second run
    assert not second.finish()
    first.add({"path": "b", "value": 2})  # the latest result counts, whoever has it
    assert first.finish() and values(first) == {"a": 1, "b": 2}
    assert len(first.parts()) == 2
    first.remove()
    assert list(tmp_path.iterdir()) == []


def test_siblings_are_those_of_the_same_run(tmp_path):
    """The first process was done when the second one was killed; both start again, and the second is faster."""
    before, killed = (SharedWork(tmp_path / "work", ProcessShare(rank, 2, run="one")) for rank in range(2))
    before.start(), killed.start()
    assert not before.finish()
    slow, fast = (SharedWork(tmp_path / "work", ProcessShare(rank, 2, run="two")) for rank in range(2))
    fast.start()
    assert not fast.finish()
    slow.start()
    assert slow.finish()


def test_the_torn_line_of_a_killed_process_does_not_count(tmp_path):
    work = SharedWork(tmp_path / "work", ProcessShare())
    work.start()
    work.add({"path": "a\udcff", "value": 1})  # a name that is not UTF-8
    with work.path.open("ab") as file:
        file.write(b'{"path": "b", "val')
    assert values(work) == {"a\udcff": 1}
    work.start()
    work.add({"path": "c", "value": 3})
    assert values(work) == {"a\udcff": 1, "c": 3} and work.finish()


def test_other_content_is_refused(tmp_path):
    (tmp_path / "work-00001-of-00001.jsonl").write_text('{"path": "a"}\n')
    with pytest.raises(ValueError, match=r"work-00001-of-00001.jsonl, line 1: expected an object with path and at"):
        SharedWork(tmp_path / "work", ProcessShare()).read()
