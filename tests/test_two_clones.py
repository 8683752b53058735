"""Two clones on one machine, with one seed: every output has the same hash in dvc.lock.

The second clone differs in whatever must not matter. docs/REPRODUCING.md says what another machine
may change; no test on one machine can check that.
"""

import pytest

from tests.clone import EVERY_STAGE, Clone, trained

# The outputs that differ between runs; no stage but compare and ensemble depends on them.
DIFFER = {
    "provenance.json": "when, where, for how long, and by which commit a stage ran",
    "index.html": "the report shows how long the trainings took",
    "model_card.json": "it names the commit of each model",
}


@pytest.fixture(scope="module")
def second(tmp_path_factory, cnn_weights) -> Clone:
    """Run everything in a clone with other circumstances, and with caches of its own."""
    top = tmp_path_factory.mktemp("second")
    home = top / "home"
    home.mkdir()
    own = {
        "HOME": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "TZ": "NZST-12NZDT",
        # ASCII alone, as in a cron job: without the last two Python would turn to UTF-8 by itself.
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONHASHSEED": "1",
    }
    root = top / "a folder" / "deep" / "below"
    root.mkdir(parents=True)
    return trained(Clone(root, own, umask=0o077), cnn_weights)


def outputs(clone: Clone) -> dict[str, str]:
    """Return the hash of each output after the clone's first run, by its path."""
    return {out["path"]: out["md5"] for stage in clone.first.values() for out in stage["outs"]}


def test_every_output_has_the_same_hash(clone, second):
    ours, theirs = outputs(clone), outputs(second)
    assert set(clone.first) == EVERY_STAGE
    assert set(ours) == set(theirs)
    other = {path.rpartition("/")[2] for path in ours if ours[path] != theirs[path]}
    assert other == set(DIFFER)
