"""Hostile weights files: no code is run, no other file is opened, memory and time are bounded."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from cxr.errors import InputError
from cxr.models import backbones, weights, weights_file
from tests.hostile import tried
from tests.small import TINY, system, tiny_model, weights_of


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone's weights as Keras 3 writes them."""
    path = tmp_path_factory.mktemp("weights") / "sound.weights.h5"
    tiny_model().save_weights(path)
    return path


@pytest.fixture
def given(out: Path) -> Path:
    """Where a test puts its weights file: in the folder that it may write to."""
    return out / "given.weights.h5"


def legacy(file: h5py.Group, layers: dict[str, np.ndarray]) -> None:
    """Write the layout of Keras 2."""
    file.attrs["layer_names"] = [name.encode() for name in layers]
    for name, array in layers.items():
        group = file.create_group(name)
        group.attrs["weight_names"] = [b"kernel:0"]
        group["kernel:0"] = array


def refusal(given: Path) -> str:
    """Resolve a file that must be refused; nothing is left behind."""
    tried.count("weights files")
    folder = given.parent / "weights" / "tiny"
    with pytest.raises(InputError) as stop:
        weights.resolve(system(weights=str(given)), folder)
    tried.assert_one_line(stop.value)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    return str(stop.value)


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.path), "w")


class TestCode:
    def test_in_a_pickle_is_not_run(self, given):
        planted = given.parent / "planted"
        given.write_bytes(pickle.dumps(Payload(planted)))
        assert "cannot be read as .weights.h5, .h5 or .keras" in refusal(given)
        assert not planted.exists()
        pickle.loads(given.read_bytes()).close()  # the payload works
        assert planted.exists()

    @pytest.mark.parametrize("name", ["model.weights.h5", "archive/data.pkl"])
    def test_in_a_pickle_inside_a_zip_is_not_run(self, given, name):
        """As in a PyTorch file, or in place of the weights in a .keras archive."""
        planted = given.parent / "planted"
        with zipfile.ZipFile(given, "w") as archive:
            archive.writestr(name, pickle.dumps(Payload(planted)))
        assert "cannot be read as" in refusal(given)
        assert not planted.exists()

    def test_in_a_numpy_archive_of_objects_is_not_run(self, given):
        planted = given.parent / "planted"
        np.save(given.with_suffix(".npy"), np.array([Payload(planted)], dtype=object))
        given.with_suffix(".npy").rename(given)
        assert "cannot be read as" in refusal(given)
        assert not planted.exists()

    def test_in_a_lambda_layer_of_a_whole_model_is_not_run(self, given):
        """The weights of such a model are used; its architecture is never read."""
        tried.count("weights files")
        planted = given.parent / "planted"
        model = tiny_model()
        expected = weights_of(model)
        code = keras.layers.Lambda(lambda x, p=str(planted): (Path(p).touch(), x)[1], name="evil")
        whole = given.with_suffix(".keras")
        keras.Model(model.input, code(model.output)).save(whole)
        planted.unlink()
        with zipfile.ZipFile(whole) as archive:
            assert "Lambda" in archive.read("config.json").decode()
        weights.resolve(system(weights=str(whole)), given.parent / "tiny")
        initial = weights.initial(given.parent / "tiny")
        assert not planted.exists()
        assert initial.keys() == expected.keys()
        for name, arrays in initial.items():
            for one, other in zip(arrays, expected[name], strict=True):
                np.testing.assert_array_equal(one, other)

    def test_in_the_attributes_of_an_old_whole_model_is_not_run(self, given):
        """Keras 2 kept the marshalled code of a Lambda in an attribute; the weights are used."""
        tried.count("weights files")
        layers = {name: held[0] for name, held in weights_of(tiny_model()).items()}
        with h5py.File(given, "w") as file:
            file.attrs["model_config"] = json.dumps({"class_name": "Lambda", "config": {}})
            legacy(file.create_group("model_weights"), layers)
        assert weights_file.probe(given) is None
        assert weights.read(given).keys() == layers.keys()


class TestOtherFiles:
    @pytest.fixture
    def secret(self, out: Path, sound: Path) -> Path:
        """A file of arrays outside of the weights file."""
        with h5py.File(out / "secret.h5", "w") as file:
            file["numbers"] = np.ones((3, 3, 3, 4), "f4")
        return out / "secret.h5"

    def test_behind_an_external_link_are_not_opened(self, given, secret):
        with h5py.File(given, "w") as file:
            group = file.create_group("layers/conv/vars")
            group.attrs["name"] = "block1_conv1"
            group["0"] = h5py.ExternalLink(secret.name, "/numbers")
        assert "'0' is a link to somewhere else" in refusal(given)

    @pytest.mark.parametrize("link", [h5py.ExternalLink("secret.h5", "/"), h5py.SoftLink("/a")])
    def test_behind_a_link_in_an_old_layout_are_not_opened(self, given, secret, link):
        with h5py.File(given, "w") as file:
            legacy(file, {"block1_conv1": np.ones(3)})
            del file["block1_conv1"]
            file["block1_conv1"] = link
        assert "'block1_conv1' is a link to somewhere else" in refusal(given)

    def test_in_place_of_the_whole_model_are_not_opened(self, given, secret):
        with h5py.File(given, "w") as file:
            file["model_weights"] = h5py.ExternalLink(secret.name, "/")
        assert "'model_weights' is a link to somewhere else" in refusal(given)

    def test_of_a_virtual_dataset_are_not_opened(self, given, secret):
        layout = h5py.VirtualLayout((3, 3, 3, 4), "f4")
        layout[:] = h5py.VirtualSource(secret, "numbers", (3, 3, 3, 4))
        with h5py.File(given, "w") as file:
            group = file.create_group("layers/conv/vars")
            group.attrs["name"] = "block1_conv1"
            group.create_virtual_dataset("0", layout)
        assert "lies in another file" in refusal(given)

    def test_of_external_storage_are_not_opened(self, given):
        with h5py.File(given, "w") as file:
            group = file.create_group("layers/conv/vars")
            group.attrs["name"] = "block1_conv1"
            place = [(str(given.parent.parent / "etc/passwd"), 0, 8)]
            group.create_dataset("0", (8,), "u1", external=place)
        assert "lies in another file" in refusal(given)

    @pytest.mark.parametrize("kind", ["S10", h5py.string_dtype(), [("a", "f4")], h5py.ref_dtype])
    def test_and_arrays_of_no_numbers_are_refused(self, given, kind):
        with h5py.File(given, "w") as file:
            group = file.create_group("layers/conv/vars")
            group.attrs["name"] = "block1_conv1"
            group.create_dataset("0", (2,), kind)
        assert "is not an array of numbers" in refusal(given)


def arrays(file: h5py.File, **how: object) -> None:
    group = file.create_group("layers/conv/vars")
    group.attrs["name"] = "block1_conv1"
    group.create_dataset("0", **how)


BOMBS = {
    "8 TB declared, none stored": {"shape": (10**6, 10**6), "dtype": "f8", "chunks": (1, 1000)},
    "more than an integer": {"shape": (2**40, 2**20), "dtype": "f8", "chunks": (1, 1)},
    "compressed zeros": {"data": np.zeros((3000, 10_000), "f4"), "compression": "gzip"},
}


class TestBombs:
    @pytest.mark.parametrize("name", BOMBS)
    def test_of_arrays_larger_than_the_file_are_refused_unread(self, given, name):
        with h5py.File(given, "w") as file:
            arrays(file, **BOMBS[name])
        assert "its arrays would take" in refusal(given)

    def test_of_one_array_under_many_names_are_refused_unread(self, given):
        with h5py.File(given, "w") as file:
            arrays(file, data=np.ones(10_000, "f4"))
            for number in range(1, 300):
                file["layers/conv/vars"][str(number)] = file["layers/conv/vars/0"]
        assert "its arrays would take 12,000,000 bytes, but the file has" in refusal(given)

    def test_of_groups_that_contain_themselves_end(self, given):
        with h5py.File(given, "w") as file:
            arrays(file, data=np.ones(4, "f4"))
            for number in range(20):
                file["layers"][f"again{number}"] = file["layers"]
                file["layers/conv"][f"up{number}"] = file["/"]
        assert "do not fit the backbone" in refusal(given)

    def test_of_thousands_of_groups_in_each_other_end(self, given):
        with h5py.File(given, "w", libver="latest") as file:
            group: h5py.Group = file
            for _ in range(3000):
                group = group.create_group("a")
            arrays(group, data=np.ones(4, "f4"))
        assert "do not fit the backbone" in refusal(given)

    def test_in_a_whole_model_are_refused_before_they_inflate(self, given):
        with zipfile.ZipFile(given, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model.weights.h5", bytes(200_000_000))
        assert "200,000,000 bytes of weights are compressed as Keras does not" in refusal(given)

    def test_in_lzma_are_refused_before_they_inflate(self, given):
        with zipfile.ZipFile(given, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("model.weights.h5", b"short")
        assert "are compressed as Keras does not" in refusal(given)

    def test_take_no_more_memory_than_python_does(self, given, out):
        """About 60 MB; :func:`weights_file.read` alone, without the limits of the other process."""
        code = (
            "from cxr.models import weights_file\n"
            "for name in sys.argv[1:]:\n"
            "    try:\n        weights_file.read(Path(name))\n"
            "    except ValueError as error:\n        print(error)"
        )
        paths = [out / f"{number}.h5" for number in range(len(BOMBS))]
        for path, how in zip(paths, BOMBS.values(), strict=True):
            with h5py.File(path, "w") as file:
                arrays(file, **how)
        said, memory = tried.peak(code, *paths)
        assert said.count("its arrays would take") == len(paths) and memory < 100

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_and_numbers_that_are_none_are_refused(self, given, sound, value):
        given.write_bytes(sound.read_bytes())
        with h5py.File(given, "a") as file:
            found: list[h5py.Dataset] = []
            file.visititems(lambda _, node: found.append(node) if node.name.endswith("0") else None)
            found[0][...] = value
        assert "layer block1_conv1 has values that are NaN or infinite" in refusal(given)


def endless(path: Path) -> None:
    """Write a file on which libhdf5 1.14.6 loops for ever: a name in a heap object of size zero."""
    with h5py.File(path, "w") as file:
        arrays(file, data=np.ones(4, "f4"))
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL") + 16  # the first object: index, references, size
    data[at : at + 16] = b"\x05\0\x01\0" + bytes(4) + b"\xf0" + b"\xff" * 7
    path.write_bytes(data)


class TestTheLibrary:
    """What libhdf5 does with a damaged file ends with a reason, whatever it is."""

    def test_that_loops_is_stopped(self, given, monkeypatch):
        monkeypatch.setattr(weights_file, "SECONDS", 1)
        endless(given)
        assert "cannot be read as .weights.h5, .h5 or .keras" in refusal(given)

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("while os.times().user < 20: pass", "reading it takes more than 1 s"),
            ("os.kill(os.getpid(), 11)", "the HDF5 library crashed on it: SIGSEGV"),
            ("bytes(weights_file.MEMORY)", "MemoryError"),
            ("raise ValueError('two\\nlines')", "two lines"),
        ],
        ids=["loops", "crashes", "takes memory", "fails"],
    )
    def test_that_misbehaves_gives_a_reason(self, given, out, monkeypatch, code, said):
        if said == "MemoryError" and sys.platform != "linux":
            pytest.skip("only Linux limits the memory of the process")
        tried.count("weights files")
        given.write_bytes(b"")
        script = Path(weights_file.__file__).read_text()
        script = script.replace("        read(file)\n", f"        {code}\n")
        (out / "script.py").write_text(script.replace("weights_file.MEMORY", "MEMORY"))
        monkeypatch.setattr(weights_file, "__file__", str(out / "script.py"))
        if "1 s" in said:
            monkeypatch.setattr(weights_file, "SECONDS", 1)
        assert weights_file.probe(given) == said


READ_ALL = """
import importlib.util, resource, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("weights_file", sys.argv[1])
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
reader._limit(resource.RLIMIT_CORE, 0)
if sys.platform == "linux":
    reader._limit(resource.RLIMIT_AS, reader.MEMORY)
for path in map(Path, sys.argv[2:]):
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 3
    reader._limit(resource.RLIMIT_CPU, seconds)
    try:
        reader.read(path)
        path.with_suffix(".done").write_text("")
    except Exception as error:
        path.with_suffix(".done").write_text(" ".join(str(error).split()))
"""


class TestDamaged:
    @pytest.mark.parametrize("layout", ["Keras 3", "Keras 2"])
    def test_any_bytes_give_weights_or_a_reason(self, layout, out):
        """In processes with the limits of :func:`weights_file.probe`, many files in each."""
        source = out / "source.h5"
        with h5py.File(source, "w") as file:
            if layout == "Keras 2":
                legacy(file, {"a": np.ones((3, 4), "f4"), "b": np.ones(4, "f4")})
            else:
                arrays(file, data=np.ones((3, 4), "f4"))
        waiting = []
        for number, data in enumerate(tried.damaged("weights files", source.read_bytes(), 400)):
            waiting.append(out / f"{number}.h5")
            waiting[-1].write_bytes(data)
        reasons, ended = [], 0
        while waiting:
            subprocess.run(
                [sys.executable, "-c", READ_ALL, weights_file.__file__, *waiting],
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, check=False, capture_output=True,
            )  # fmt: skip
            left = [path for path in waiting if not path.with_suffix(".done").exists()]
            reasons += [
                path.with_suffix(".done").read_text() for path in waiting if path not in left
            ]
            ended += bool(left)  # the first one left ended its process
            waiting = left[1:]
        assert all(len(reason.splitlines()) <= 1 for reason in reasons)
        assert reasons.count("") > 50 and len(reasons) - reasons.count("") > 50
        assert ended <= 5 * max(1, tried.TIMES)
