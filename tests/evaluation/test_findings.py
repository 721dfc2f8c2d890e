"""The numbers of a report and what follows from them, on predictions made up here."""

import numpy as np
import pytest

from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.evaluation.conclusions import conclusions
from videomae_hf.evaluation.findings import Context, Predicted, error_sizes, find
from videomae_hf.evaluation.perturbations import PLAIN
from videomae_hf.evaluation.report import Extras, summary_line, write_report
from videomae_hf.evaluation.report_charts import line_chart
from videomae_hf.evaluation.shortcuts import ShortcutResult


NAMES = ["run", "jump"]


def logits_of(classes, confidence: float = 0.9) -> np.ndarray:
    """Logits (N, 2) that predict these classes."""
    return np.log(np.where(np.eye(2)[np.asarray(classes)] == 1, confidence, 1 - confidence))


def predicted(labels, guesses, groups=None, **changed) -> Predicted:
    """Predictions of one label per video; `changed` are the classes predicted after changes."""
    records = [VideoRecord(f"{place}.mp4", int(label)) for place, label in enumerate(labels)]
    logits = {name: logits_of(some) for name, some in {PLAIN: guesses, **changed}.items()}
    return Predicted(records, NAMES, None, logits, np.asarray(labels), groups)


def sentences(found: dict) -> str:
    return "\n".join(conclusions(found))


HALVES = np.arange(200) % 2
FOLLOWED = np.where(np.arange(200) < 180, HALVES, 1 - HALVES)  # right for 180 of 200
MIXED = np.arange(200) // 2 % 2  # right for 100 of 200, independent of the labels


def with_shortcut(model, shortcut, **changed) -> dict:
    result = ShortcutResult("file metadata alone", np.asarray(shortcut), 100)
    return find(predicted(HALVES, model, **changed), Context(shortcuts={"metadata": result}))


def test_a_model_that_follows_a_shortcut():
    found = with_shortcut(FOLLOWED, FOLLOWED, shuffled=FOLLOWED, first_frame=FOLLOWED, reversed=FOLLOWED)
    shortcut = found["shortcuts"]["metadata"]
    assert (found["score"]["value"], shortcut["value"], shortcut["ahead"]) == (0.9, 0.9, 0.0)
    assert shortcut["where_wrong"] == {"videos": 20, "value": 0.0, "interval": pytest.approx((0.0, 0.1684), abs=1e-4)}
    said = sentences(found)
    assert "It is better than always answering 'run' (50.0 %): 40.0 points [3" in said
    assert (
        "File metadata alone reach 90.0 %, the model 90.0 %: no better (difference 0.0 points [-1.8 to 1.8])." in said
    )
    assert "It may have learned this shortcut and not the question." in said
    assert "Of the 20 videos that the shortcut gets wrong, the model gets 0.0 % right (0.0 to 16.8 %)" in said
    assert "Shuffling the frames changes nothing (0.0 points [-1.8 to 1.8]): it does not use the order" in said
    assert "Repeating the first frame changes nothing" in said and "it does not use motion" in said
    assert "the direction of time plays no part" in said


def test_its_honest_twin():
    found = with_shortcut(FOLLOWED, MIXED, shuffled=MIXED, first_frame=MIXED, reversed=1 - FOLLOWED)
    said = sentences(found)
    assert found["shortcuts"]["metadata"]["value"] == 0.5 and found["perturbed"]["shuffled"]["loss"] == 0.4
    assert "not the question" not in said and "changes nothing" not in said
    assert "Shuffling the frames costs 40.0 points" in said and "it uses their order" in said
    assert "Reversing the frames costs 80.0 points" in said


def test_a_model_that_is_better_than_a_real_shortcut():
    shortcut = np.where(np.arange(200) < 140, HALVES, 1 - HALVES)  # 70 %
    said = sentences(with_shortcut(FOLLOWED, shortcut))
    assert "reach 70.0 %, the model 90.0 %: there is a shortcut, but the model is better than it by 20.0 points" in said
    assert "Of the 60 videos that the shortcut gets wrong, the model gets 66.7 % right" in said


def test_a_model_that_is_as_good_as_a_shortcut_but_does_not_follow_it():
    shortcut = np.where(np.arange(200) >= 20, HALVES, 1 - HALVES)  # 90 %, wrong on other videos than the model
    said = sentences(with_shortcut(FOLLOWED, shortcut))
    assert (
        "But it does not follow it. Of the 20 videos that the shortcut gets wrong, the model gets 100.0 % right" in said
    )
    assert "not the question" not in said


def test_what_few_videos_cannot_tell():
    labels = np.arange(12) % 2
    guesses = np.where(np.arange(12) < 11, labels, 1 - labels)
    found = find(predicted(labels, guesses, shuffled=guesses), Context())
    # Not one of twelve changes: up to 26 % may
    assert found["perturbed"]["shuffled"]["loss_interval"] == pytest.approx((-0.2646, 0.2646), abs=1e-4)
    assert "Shuffling the frames: these videos cannot tell whether it costs anything" in sentences(found)


def test_chance_and_the_majority():
    said = sentences(find(predicted(HALVES, MIXED, shuffled=MIXED), Context()))
    assert "The interval includes chance (50.0 %): nothing shows that the model has learned anything." in said
    assert "It is not shown to be better than always answering 'run' (50.0 %): the difference is 0.0" in said
    assert "the scores on changed clips say nothing" in said and "does not use" not in said
    labels = (np.arange(200) < 40).astype(int)  # 80 % "run"
    said = sentences(find(predicted(labels, np.zeros(200, dtype=int)), Context()))
    assert "It is no better than always answering 'run' (80.0 %): the difference is 0.0 points [-1.8 to 1.8]." in said
    labels = (np.arange(1000) < 200).astype(int)  # the same, and the model is right for 82 %
    said = sentences(find(predicted(labels, np.where(np.arange(1000) < 180, 0, labels)), Context()))
    assert "It is hardly better than always answering 'run' (80.0 %): 2.0 points" in said
    assert "The score is below chance (50.0 %)" in sentences(find(predicted(HALVES, 1 - FOLLOWED), Context()))


def test_groups_widen_the_interval_and_explain_a_score():
    """Twenty groups of ten videos, each of one class but for one video; the model knows the group alone."""
    of_group = np.arange(20).repeat(10) % 2
    labels = np.where(np.arange(200) % 10 == 0, 1 - of_group, of_group)
    groups = [f"g{place}" for place in np.arange(20).repeat(10)]
    one = predicted(labels, of_group, groups)
    found = find(one, Context())
    assert (found["interval_by"], found["units"], found["score"]["value"]) == ("group", 20, 0.9)
    assert found["baselines"]["group"]["value"] == 0.9 and found["baselines"]["group"]["ahead"] == 0.0
    assert found["per_group"][0] == {"group": "g0", "videos": 10, "value": 0.9, "majority": 0.9,
                                     "interval": found["per_group"][0]["interval"]}  # fmt: skip
    said = sentences(found)
    assert "reaches 90.0 %; the model is not better than that" in said and "tell the groups apart" in said
    assert "--group_column" not in said  # they are named
    few = find(predicted(labels, of_group, [f"g{place % 4}" for place in range(200)]), Context())
    assert "There are only 4 groups: the intervals are rough" in sentences(few)
    none = find(predicted(labels, of_group, ["g"] * 200), Context())
    assert none["score"]["interval"] is None
    assert "No interval can be given for the score (there is only one group)" in sentences(none)


def test_tables_of_classes_and_unreadable_videos():
    labels = np.array([0, 0, 0, 1, -100])
    records = [VideoRecord(f"{place}.mp4", int(max(label, 0))) for place, label in enumerate(labels)]
    one = Predicted(records, NAMES, None, {PLAIN: logits_of([0, 0, 1, 1, 0])}, labels)
    result = ShortcutResult("file metadata alone", np.array([0, -1, 1, 1, 0]), 50)
    found = find(one, Context(shortcuts={"metadata": result}))
    assert (found["videos"], found["unreadable"]) == (4, 1)
    assert found["confusion_matrix"] == [[2, 1], [0, 1]]
    rows = [[row[key] for key in ("class", "videos", "value", "predicted", "precision")] for row in found["per_class"]]
    assert rows == [["run", 3, pytest.approx(2 / 3), 2, 1.0], ["jump", 1, 1.0, 2, 0.5]]
    assert (found["shortcuts"]["metadata"]["videos"], found["shortcuts"]["metadata"]["value"]) == (
        3,
        pytest.approx(2 / 3),
    )
    none = Predicted(records, NAMES, None, {PLAIN: logits_of([0] * 5)}, np.full(5, -100))
    with pytest.raises(ValueError, match="None of the evaluation videos can be read"):
        find(none, Context())


def test_several_labels_and_regression():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.4).astype(np.float64)
    records = [VideoRecord(f"{n}.mp4", tuple(np.flatnonzero(row).tolist())) for n, row in enumerate(labels)]
    logits = {PLAIN: 4 * labels - 2, "shuffled": rng.normal(size=labels.shape)}
    found = find(Predicted(records, ["a", "b", "c"], "multi_label_classification", logits, labels), Context())
    assert (found["metric"], found["score"]["value"]) == ("mean_average_precision", 1.0)
    assert found["baselines"]["constant"]["value"] == pytest.approx(labels.mean(axis=0).mean())  # the prevalence
    said = sentences(found)
    assert "It is better than the same scores for every video" in said and "it uses their order" in said

    targets = np.arange(40.0)[:, None]
    records = [VideoRecord(f"{n}.mp4", targets=(float(n),)) for n in range(40)]
    logits = {PLAIN: targets + np.where(np.arange(40) % 2, 1, -1)[:, None], "shuffled": np.full((40, 1), 19.5)}
    found = find(Predicted(records, ["age"], "regression", logits, targets), Context())
    assert (found["metric"], found["score"]["value"]) == ("mae", 1.0)
    assert found["baselines"]["constant"]["value"] == found["perturbed"]["shuffled"]["value"] == 10.0
    assert found["perturbed"]["shuffled"]["loss"] == 9.0
    assert "Shuffling the frames costs 9 [" in sentences(found) and "%" not in sentences(found)


def test_examples_are_the_most_confident_errors():
    one = predicted([0, 0, 1, 1], [0, 1, 1, 0])
    one.logits[PLAIN][3] = np.log([0.99, 0.01])
    assert error_sizes(one) == pytest.approx([-0.9, 0.9, -0.9, 0.99])


def test_the_page_shows_the_numbers_and_escapes_texts_from_data(tmp_path):
    names = ["<svg onload=alert(1)>", "a & b"]
    records = [VideoRecord(f"<b>{place}.mp4", place % 2) for place in range(30)]
    guesses = np.where(np.arange(30) < 24, np.arange(30) % 2, 0)
    one = Predicted(records, names, None, {PLAIN: logits_of(guesses), "shuffled": logits_of(guesses)},
                    np.arange(30) % 2, ["<i>x"] * 15 + ["y"] * 15)  # fmt: skip
    context = Context("run", remarks=["Chosen by these videos."], left_out=["Mean colour: too few."])
    extras = Extras(curves=[line_chart("loss", {"<u>": [(1, 2.0), (2, 1.0)]})])
    found = write_report(tmp_path / "new" / "page.html", one, context, extras)
    page = (tmp_path / "new" / "page.html").read_text()
    for text in ("<svg onload", "<b>0.mp4", "<i>x", "<u>"):
        assert text not in page
    assert "&lt;svg onload" in page and "a &amp; b" in page
    assert "Chosen by these videos." in page and "Mean colour: too few." in page
    assert "Top-1 accuracy <b>90.0 %</b>" in page and "on 30 videos" in page and "<script" not in page
    assert page.count('<svg class="chart"') == 2  # curves and reliability
    assert found["score"]["value"] == 0.9 and (tmp_path / "new" / "page.json").is_file()
    assert "picture" not in found["examples"]["The most confident errors"][0]
    line = "Top-1 accuracy 90.0 % on 30 held-out videos; 90.0 % with their frames shuffled (chance 50.0 %)"
    assert summary_line(found) == line


def test_probabilities_that_are_too_high_are_said_if_the_interval_shows_it():
    one = predicted(HALVES, FOLLOWED)  # right for 90 %
    one.logits[PLAIN] = logits_of(FOLLOWED, 0.99)
    found = find(one, Context())
    assert found["calibration"]["gap_interval"] == pytest.approx((0.05, 0.135), abs=0.01)
    assert "Its probabilities are too high (mean 0.99, accuracy 0.90, calibration error 0.09)" in sentences(found)
    one.logits[PLAIN] = logits_of(FOLLOWED, 0.6)
    assert "Its probabilities are too low (mean 0.60, accuracy 0.90" in sentences(find(one, Context()))
    few = predicted(HALVES[:12], HALVES[:12])
    few.logits[PLAIN] = logits_of(HALVES[:12], 0.9)
    assert find(few, Context())["calibration"]["ece"] == pytest.approx(0.1)
    assert "probabilities" not in sentences(find(few, Context()))


def test_groups_that_say_nothing_are_no_baseline():
    groups = [f"g{place // 2}" for place in range(200)]  # one video of each class
    assert "group" not in find(predicted(HALVES, FOLLOWED, groups), Context())["baselines"]
