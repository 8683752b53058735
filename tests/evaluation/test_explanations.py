"""Explanations: the share of the maps in the centre, randomised networks, and the files."""

import functools

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import files
from cxr.evaluation import explanations
from cxr.evaluation.grad_cam import GradCam
from cxr.models import network
from tests.evaluation.spot import IMAGES, INDEX, TEST
from tests.small import head, system, xrays

LAST = ("block1_conv1", "block2_conv1")


@pytest.fixture
def build(tiny):
    """Build the tiny network with random weights, or another head."""

    def make(**changes) -> keras.Model:
        keras.utils.set_random_seed(1)
        return network.build(system(**changes))

    return make


def predicted(index: pd.DataFrame, probabilities) -> pd.DataFrame:
    return index[["id", "split", "label", "patient"]].assign(probability=probabilities)


SURE = np.where(INDEX["label"] == 1, 0.9, 0.1)  # no mistakes, so two cells are empty


def write(model, folder, images=IMAGES, index=INDEX, probabilities=SURE, threshold=0.5):
    table = predicted(index, probabilities)
    return explanations.write(model, images, table, threshold, 8, 0, folder)


class TestCentreShares:
    @pytest.mark.parametrize("shape", [(1, 1), (4, 4), (7, 7), (14, 5), (224, 224)])
    def test_an_even_map_has_the_centres_share_of_the_area(self, shape):
        np.testing.assert_allclose(explanations.centre_shares(np.full((2, *shape), 3.0)), 0.64)

    def test_a_cell_on_the_edge_counts_in_part(self):
        # The margin is a tenth of the side, so seven tenths of each of seven border cells.
        maps = np.zeros((3, 7, 7))
        maps[0, 0, 0] = maps[1, 0, 3] = maps[2, 3, 3] = 5
        found = explanations.centre_shares(maps)
        np.testing.assert_allclose(found, [0.3 * 0.3, 0.3, 1], atol=1e-12)

    def test_a_map_that_is_zero_everywhere_or_nan_has_none(self):
        maps = np.stack([np.zeros((4, 4)), np.full((4, 4), np.nan), np.ones((4, 4))])
        np.testing.assert_array_equal(
            np.isnan(explanations.centre_shares(maps)), [True, True, False]
        )


class TestCentre:
    def test_the_mean_and_quartiles_leave_out_maps_that_are_zero(self):
        maps = np.zeros((6, 10, 10))  # the border is outside of the centre
        for place, share in enumerate((0.0, 0.2, 0.4, 0.6, 1.0)):
            maps[place, 0, 0], maps[place, 5, 5] = 1 - share, share
        found = explanations.centre(maps, np.array([False, False, False, True, True, True]))
        assert (found["images"], found["zero_maps"], found["centre"]) == (6, 1, 0.8)
        named = ("centre_share", "centre_share_25", "centre_share_50", "centre_share_75")
        np.testing.assert_allclose([found[name] for name in named], [0.44, 0.2, 0.4, 0.6])
        np.testing.assert_allclose(found["centre_share_predicted"], 0.8)
        assert found["centre_share_even"] == 0.64

    @pytest.mark.parametrize("count", [0, 3])
    def test_without_a_map_above_zero_shares_are_undefined(self, count):
        found = explanations.centre(np.zeros((count, 4, 4)), np.ones(count, bool))
        assert (found["images"], found["zero_maps"]) == (count, count)
        for name in ("centre_share", "centre_share_25", "centre_share_predicted"):
            assert found[name] is None


class TestRandomised:
    def compared(self, model, images=IMAGES, seed=0):
        explainer = GradCam(model, 8)
        maps = explainer.maps(images, TEST)
        return explanations.randomised(model, explainer, images, TEST, maps, seed)

    def test_maps_change_and_do_so_equally_for_an_equal_seed(self, build):
        found = self.compared(build())
        assert found["randomised_images"] == len(TEST)
        assert 0 <= found["randomised_correlation"] < 0.9
        assert self.compared(build()) == found
        assert self.compared(build(), seed=1) != found

    def test_maps_that_do_not_change_have_a_correlation_of_one(self, build, monkeypatch):
        model = build()
        monkeypatch.setattr(keras.models, "model_from_json", lambda text: model)
        assert self.compared(model)["randomised_correlation"] == pytest.approx(1)

    def test_it_is_spearmans_over_images_and_draws(self, build, monkeypatch):
        monkeypatch.setattr(explanations, "DRAWS", 1)

        class Explainer:
            def maps(self, images, rows):
                return np.array([[[1.0, 2.0, 3.0]], [[5.0, 5.0, 5.0]], [[1.0, 3.0, 2.0]]])

        maps = np.array([[[9.0, 4.0, 1.0]], [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]])
        found = explanations.randomised(build(), Explainer(), IMAGES, TEST[:3], maps, 0)
        # -1 by hand; none, because a map is constant; 1 - 6 x 2 / (3 x 8).
        assert found["randomised_correlation"] == pytest.approx((1 + 0.5) / 2)

    def test_every_layer_gets_other_weights(self, build):
        model = build()
        before = {v.path: keras.ops.convert_to_numpy(v) for v in model.weights}
        self.compared(model)
        for variable in model.weights:
            if "kernel" in variable.path:  # biases begin as zeros
                after = keras.ops.convert_to_numpy(variable)
                assert np.all(after != before[variable.path]), variable.path

    def test_constant_maps_have_no_correlation(self, build):
        explainer, constant = GradCam(model := build(), 8), np.zeros((len(TEST), 4, 4))
        found = explanations.randomised(model, explainer, IMAGES, TEST, constant, 0)
        assert found["randomised_correlation"] is None


class TestEvenly:
    def test_places_are_spaced_evenly_in_the_order_of_the_ids(self):
        ids = np.array([f"x{number:02d}" for number in range(9)])[::-1]
        assert ids[explanations.evenly(ids, 3)].tolist() == ["x00", "x04", "x08"]

    def test_all_are_taken_of_a_few(self):
        assert sorted(explanations.evenly(np.array(["b", "a", "c"]), 32)) == [0, 1, 2]
        assert len(explanations.evenly(np.array([], dtype=str))) == 0


class TestWrite:
    def test_figures_are_those_of_the_test_set(self, build, tmp_path):
        model = build()  # with evidence of PNEUMONIA in every image
        model.set_weights([np.abs(weights) for weights in model.get_weights()])
        maps = np.maximum(GradCam(model, 8).maps(IMAGES, TEST), 0)
        found = write(model, tmp_path)
        shares = explanations.centre_shares(maps)
        assert found["layer"] == "block2_conv1"
        assert (found["images"], found["zero_maps"]) == (len(TEST), 0)
        assert found["centre_share"] == pytest.approx(shares.mean())
        right = shares[INDEX["label"].to_numpy()[TEST] == 1]
        assert found["centre_share_predicted"] == pytest.approx(right.mean())
        assert found["randomised_images"] == len(TEST)

    def test_files_and_figures_are_equal_the_second_time(self, build, tmp_path):
        one = write(build(), tmp_path / "one")
        keras.utils.set_random_seed(99)
        other = write(build(), tmp_path / "other")
        assert one == other
        for name in ("gallery.png", "gallery.csv"):
            ours, theirs = (tmp_path / folder / name for folder in ("one", "other"))
            assert ours.read_bytes() == theirs.read_bytes()

    def test_the_gallery_has_test_images_alone(self, build, tmp_path):
        write(build(), tmp_path)
        table = files.read_csv(tmp_path / "gallery.csv")
        assert set(table["id"]) <= set(INDEX["id"].iloc[TEST])
        assert table["cell"].tolist() == ["TP"] * 3 + ["TN"] * 3

    @pytest.mark.parametrize("counts", [(0, 3), (2, 0), (1, 1), (0, 0)])
    def test_one_class_few_images_or_none(self, build, tmp_path, counts):
        images, index = xrays({"train": (1, 1), "test": counts})
        found = write(build(), tmp_path, images, index, np.full(len(index), 0.5))
        assert found["images"] == sum(counts)
        cells = files.read_csv(tmp_path / "gallery.csv")["cell"].tolist()
        assert cells == ["TP"] * counts[1] + ["FP"] * counts[0]

    @pytest.mark.parametrize("value", [0, 255])
    def test_images_that_are_one_grey(self, build, tmp_path, value):
        found = write(build(), tmp_path, np.full_like(IMAGES, value))
        assert found["images"] == len(TEST)

    def test_a_network_that_gives_nan(self, build, tmp_path):
        model = build()
        model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
        found = write(model, tmp_path, probabilities=np.full(len(INDEX), np.nan))
        assert found["zero_maps"] == len(TEST)
        assert found["centre_share"] is found["randomised_correlation"] is None

    def test_a_linear_probe_on_several_layers(self, build, tmp_path):
        probe = functools.partial(build, head=head(layers=LAST))
        assert write(probe(), tmp_path)["layer"] == "block2_conv1"
