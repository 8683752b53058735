"""freeze_blocks: the blocks that `above_freeze_blocks` stands for."""

import pytest

from cxr import params
from cxr.errors import InputError
from cxr.models import freezing


@pytest.mark.parametrize(
    ("frozen", "trained"),
    [(0, (1, 2, 3, 4, 5)), (1, (2, 3, 4, 5)), (4, (5,)), (5, ())],
)
def test_the_blocks_above_the_frozen_ones_are_trained(settings, frozen, trained):
    before = settings.system("vgg16_transfer")
    after = freezing.resolve(before, frozen)
    assert after.phases["train"].trainable == params.Blocks(blocks=trained)
    assert after.model_copy(update={"phases": before.phases}) == before
    assert before.phases["train"].trainable == "above_freeze_blocks"


def test_other_phases_stay_as_they_are(settings):
    system = settings.system("vgg16_transfer")
    head = system.phases["train"].model_copy(update={"trainable": "head"})
    both = system.model_copy(update={"phases": {"warm": head, **system.phases}})
    phases = freezing.resolve(both, 3).phases
    assert list(phases) == ["warm", "train"] and phases["warm"] == head
    assert phases["train"].trainable == params.Blocks(blocks=(4, 5))


def test_a_system_without_such_a_phase_stays_as_it_is(settings):
    scratch = settings.system("vgg16_scratch")
    assert freezing.resolve(scratch, None) == scratch


@pytest.mark.parametrize(
    ("system", "frozen", "message"),
    [
        pytest.param(
            "vgg16_transfer",
            -1,
            r"freeze_blocks is -1; backbone vgg16 has 5 blocks.*from 0 \(train all\) to 5",
            id="less than none",
        ),
        pytest.param(
            "vgg16_transfer", 6, "freeze_blocks is 6; backbone vgg16 has 5", id="more than all"
        ),
        pytest.param(
            "vgg16_transfer",
            None,
            r"phase train trains above_freeze_blocks, but --freeze-blocks is missing.*dvc.yaml",
            id="missing",
        ),
        pytest.param(
            "vgg16_scratch", 2, "--freeze-blocks 2 would change nothing.*dvc.yaml", id="unused"
        ),
    ],
)
def test_refused(settings, system, frozen, message):
    with pytest.raises(InputError, match=message):
        freezing.resolve(settings.system(system), frozen)
