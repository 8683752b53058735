"""`cxr seeds`, through DVC, in a clone on a tiny sample."""

from collections.abc import Iterator

import pandas as pd
import pytest

from cxr import sweep
from tests.clone import Clone


@pytest.fixture(scope="module")
def swept(clone: Clone) -> Iterator[tuple[str, pd.DataFrame]]:
    """Run two seeds of one system; return what was said, and its rows of sources/seeds.csv."""
    settings = clone.root / "params.yaml"
    before = settings.read_text()
    # An experiment runs in a copy, where the untracked tiny.zip is not.
    settings.write_text(before.replace("source: tiny.zip", f"source: {clone.root}/tiny.zip"))
    said = clone.cxr("seeds", "0,1", "evaluate@cnn")
    yield said, of_cnn(clone)
    settings.write_text(before)
    clone.call("git", "checkout", "--quiet", "sources/seeds.csv")
    clone.call("dvc", "exp", "remove", "--quiet", "seed-0", "seed-1")


def of_cnn(clone: Clone) -> pd.DataFrame:
    table = sweep.read(clone.root / "sources/seeds.csv")
    return table[table["system"] == "cnn"].reset_index(drop=True)


def test_each_seed_is_an_experiment_with_a_row(clone, swept):
    _, table = swept
    assert list(table["seed"]) == [0, 1]
    assert {"seed-0", "seed-1"} <= set(clone.call("dvc", "exp", "list", "--name-only").split())
    head = clone.call("git", "rev-parse", "HEAD").strip()
    assert set(table["commit"]) <= {head, clone.call("git", "rev-parse", "HEAD~1").strip()}


def test_the_summary_says_which_spread_is_larger(swept):
    said, table = swept
    (row,) = sweep.summary(table).to_dict("records")
    assert row["seeds"] == 2
    line = next(line for line in said.splitlines() if line.startswith("cnn"))
    assert line.split()[-1] == row["larger"]
    assert f"{row['mean']:.4f}" in line


def test_a_system_that_was_not_run_with_the_seed_has_no_row_for_it(clone, swept):
    """Its outputs, of seed 0, stand in the experiment all the same."""
    table = sweep.read(clone.root / "sources/seeds.csv")
    assert set(table.loc[table["system"] == "vgg16_transfer", "seed"]) <= {0}


def test_without_seeds_the_table_is_made_of_the_experiments_there_are(clone, swept):
    """Also where the workspace has no outputs, as in a clone that has run experiments alone."""
    _, table = swept
    origin = clone.root / "raw/source.json"
    content = origin.read_bytes()
    origin.unlink()
    clone.cxr("seeds")
    origin.write_bytes(content)
    pd.testing.assert_frame_equal(of_cnn(clone), table)


def test_a_seed_that_is_no_number_is_refused(clone):
    assert "invalid" in clone.cxr("seeds", "0,x", fails=True)
