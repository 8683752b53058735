"""A system that fails: the others are reported, and its row says that it was not evaluated."""

import pandas as pd

from tests.clone import Clone, ran
from tests.faults.test_dvc_lock import assert_documented


def test_the_report_of_the_others_can_be_made(clone: Clone) -> None:
    settings = clone.root / "params.yaml"
    before = settings.read_text()
    given = f"weights: {clone.root}/cnn.weights.h5"
    assert before.count(given) == 1
    settings.write_text(before.replace(given, "weights: missing.weights.h5"))
    try:
        said = clone.call("dvc", "repro", "--keep-going", fails=True)
        assert ran(said) == {"weights@cnn"}
        assert "error: weights missing.weights.h5 is not a file" in said
        assert "'compare'" in said
        assert "`dvc repro --single-item compare`" in assert_documented(said)
        # DVC leaves the model and the evaluation that earlier weights led to.
        assert (clone.root / "evaluations/cnn/metrics.json").is_file()
        assert clone.stages("repro", "--single-item", "compare") == {"compare"}
        table = pd.read_csv(clone.root / "reports/comparison.csv")
        assert table["system"].tolist() == ["vgg16_transfer"]
        text = (clone.root / "reports/comparison.txt").read_text(encoding="utf-8")
        assert "cnn is not evaluated: no model with these settings" in text
    finally:
        clone.call("git", "checkout", "--quiet", "params.yaml", "dvc.lock")
        clone.call("dvc", "checkout", "--quiet", "--force")
