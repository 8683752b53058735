"""Hostile YAML: params.yaml and descriptors are read as plain data, or refused in one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr import files, params, seeding
from cxr.data import source
from cxr.errors import InputError
from tests.hostile import tried
from tests.paths import ROOT

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")
# Two systems, which are faster to read, and no ensemble of others.
SHORT = PARAMS[: PARAMS.index("\n  vgg16_scratch:")] + "\nensembles: {}\n"
DESCRIPTOR = (ROOT / "sources" / "kermany.yaml").read_text(encoding="utf-8")
READERS: dict[str, Callable[[Path], object]] = {
    "params": params.load,
    "descriptor": source.read_descriptor,
}


def refusal(text: str | bytes, out: Path, read: Callable[[Path], object] = params.load) -> str:
    tried.count("YAML files")
    path = out / "given.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError) as stop:
        read(path)
    tried.assert_one_line(stop.value)
    return str(stop.value)


def laughs(levels: int, width: int = 10) -> str:
    """Return a text in which every level is ``width`` times the one before."""
    lines = ["a0: &a0 ha"]
    for level in range(1, levels + 1):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines)


def merges(levels: int) -> str:
    """Return a text that merges a mapping into itself again and again."""
    lines = ["a0: &a0 {k: 1}"]
    for level in range(1, levels + 1):
        lines.append(f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}")
    return "\n".join(lines)


HOSTILE = {
    "a call": ('seed: !!python/object/apply:os.system ["touch planted"]', "the tag .*os.system"),
    "a module": ("seed: !!python/name:os.system", "the tag .*python/name:os.system is not allowed"),
    "an own tag": ("seed: !x 1", "the tag !x is not allowed"),
    "binary": ("source: !!binary aGVsbG8=", "the tag .*binary is not allowed"),
    "a set": ("source: !!set {a, b}", "the tag .*set is not allowed"),
    "aliases": (laughs(6), "line 7: at most 1,000,000 characters are allowed"),
    "merges": (merges(6), "line [67]: at most 1,000,000 characters are allowed"),
    "a long text again and again": (
        f"a: &a {'x' * 20_000}\nb: [{', '.join(['*a'] * 60)}]", "line 2: at most 1,000,000"
    ),
    "a list of a long text again and again": (
        f"a: &a [{'x' * 20_000}]\nb: [{', '.join(['*a'] * 60)}]",
        "line 2: at most 1,000,000",
    ),
    "itself in a list": ("seed: &a [*a]", r"the alias \*a does not follow its anchor"),
    "itself in a mapping": ("seed: &a {b: *a}", r"the alias \*a does not follow its anchor"),
    "itself under a name used before": ("a: &a 1\nb: &a [*a]", r"the alias \*a does not follow"),
    "no anchor": ("seed: *nowhere", r"the alias \*nowhere does not follow its anchor"),
    "brackets": ("[" * 5000, "line 1: at most .* and at most 50 levels"),
    "braces": ("{a: " * 5000, "line 1: at most .* and at most 50 levels"),
    "dashes": ("- " * 5000, "line 1: at most .* and at most 50 levels"),
    "question marks": ("? " * 5000, "line 1: at most .* and at most 50 levels"),
    "a large file": ("# " + "x" * 2_000_000, "it has more than 1,000,000 characters"),
    "a key twice": ("seed: 1\nseed: 2", 'line 2: found duplicate key "seed"'),
    "a key twice in a mapping below": ("a: {b: 1, b: 2}", 'found duplicate key "b"'),
    "an integer of 5,000 digits": ("seed: 1" + "0" * 5000, "limit .* for integer string"),
    "a hexadecimal one": ("seed: 0x" + "f" * 5000, "limit .* for integer string"),
    "an impossible date": ("seed: 2001-99-99", "month must be in"),
    "a date": ("seed: 2001-01-01", "seed is '2001-01-01': "),
    "a control character": ("source: a\x07b", "it has a control character"),
    "a line end that YAML does not know": ('source: "a\x85b"', "it has a control character"),
    "an escaped one": ('source: "a\\x1b[2Jb"', "line 1: .* has a control character"),
    "a zero byte": ('source: "a\\0b"', "line 1: .* has a control character"),
    "half a surrogate pair": ('source: "\\ud800"', "line 1: .* has a control character"),
    "a character that is none": ('source: "\\U00110000"', "chr"),
    "a control character in a key": ('"a\\x1bb": 1', "line 1: .* has a control character"),
    "UTF-16": ("seed: 1".encode("utf-16"), "is not YAML: 'utf-8' codec"),
    "Latin-1": ("source: Zoë".encode("latin-1"), "is not YAML: 'utf-8' codec"),
    "two documents": ("seed: 1\n---\nseed: 2", "found another document"),
    "another version": ("%YAML 9.9\n---\nseed: 1", "incompatible YAML document"),
    "a list as a key": ("{[1]: 2}", "is not text"),
    "a mapping as a key": ("{{a: 1}: 2}", "unhashable|is not YAML|found"),
}  # fmt: skip


class TestYaml:
    @pytest.mark.parametrize("reader", READERS)
    @pytest.mark.parametrize("name", HOSTILE)
    def test_that_is_hostile_is_refused_with_the_reason(self, name, reader, out):
        text, said = HOSTILE[name]
        message = refusal(text, out, READERS[reader])
        if reader == "params":
            assert re.search(said, message), message
        assert not (Path.cwd() / "planted").exists()

    @pytest.mark.parametrize("reader", READERS)
    def test_of_bombs_takes_no_more_memory_than_python_does(self, reader, out):
        """About 130 MB, most of it pandas and pydantic."""
        code = (
            "from cxr import params\nfrom cxr.data import source\n"
            "for name in sys.argv[2:]:\n"
            "    try:\n        {'params': params.load, 'descriptor': source.read_descriptor}"
            "[sys.argv[1]](Path(name))\n"
            "    except InputError as error:\n        print('refused')"
        )
        bombs = ("aliases", "merges", "brackets", "dashes", "a large file", "itself in a list")
        for number, name in enumerate(bombs):
            (out / f"{number}.yaml").write_text(str(HOSTILE[name][0]))
        paths = [out / f"{number}.yaml" for number in range(len(bombs))]
        said, memory = tried.peak(code, reader, *paths)
        assert said.split() == ["refused"] * len(bombs) and memory < 200

    def test_with_honest_anchors_is_read(self, out):
        tried.count("YAML files")
        text = DESCRIPTOR.replace("licence: ", "licence: &l ").replace("doi: 10", "doi: *l #")
        (out / "given.yaml").write_text(text)
        found = source.read_descriptor(out / "given.yaml")
        assert found.doi == found.licence == "CC BY 4.0"

    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=20,
    ))  # fmt: skip
    def test_of_any_plain_data_is_read_as_it_is_or_refused(self, out, value):
        """JSON is YAML."""
        tried.count("YAML files")
        text = json.dumps(value, ensure_ascii=False)
        (out / "given.yaml").write_text(text, encoding="utf-8")
        try:
            found = files.read_yaml(out / "given.yaml")
        except InputError as error:
            tried.assert_one_line(error)
            assert not files.is_plain(text) or "\\" in text
        else:
            assert found == value


class TestDamaged:
    @pytest.mark.parametrize("reader", READERS)
    def test_any_bytes_give_settings_or_a_reason(self, reader, out):
        text = {"params": SHORT, "descriptor": DESCRIPTOR}[reader]
        path, refused = out / "given.yaml", 0
        rounds = {"params": 250, "descriptor": 600}[reader]
        for data in tried.damaged("YAML files", text.encode(), rounds):
            path.write_bytes(data)
            try:
                READERS[reader](path)
            except InputError as error:
                tried.assert_one_line(error)
                refused += 1
        assert refused > rounds / 5

    def test_cut_at_every_tenth_byte_is_refused(self, out):
        for end in range(0, DESCRIPTOR.index("citation:"), 10):
            refusal(DESCRIPTOR.encode()[:end], out, source.read_descriptor)


class TestValues:
    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("seed: 0", "seed: .nan", "seed is "),
            ("seed: 0", "seed: .inf", "seed is "),
            ("seed: 0", "seed: 1e400", "seed is "),
            ("threshold: youden", "threshold: .nan", "evaluate.threshold is "),
            ("learning_rate: 0.0001", "learning_rate: .inf", "learning_rate is "),
            ("224\n    batch_size: 62", f"{10**21}\n    batch_size: 62", "image_size is "),
            ("freeze_blocks: 4", f"freeze_blocks: [{'4, ' * 5000}]", "freeze_blocks is .*, ..."),
            ("vgg16_transfer:", '"../../etc":', "a name that is also a file or folder"),
            ("vgg16_transfer:", '"vgg16\\n":', "a name that is also a file or folder"),
        ],
    )  # fmt: skip
    def test_that_are_no_settings_are_refused_by_their_key(self, out, key, value, said):
        assert SHORT.count(key) == 1
        message = refusal(SHORT.replace(key, value), out)
        assert re.search(said, message), message
        assert len(message) < 1000

    @pytest.mark.parametrize("seed", [2**31, 2**64, 10**1000])
    def test_a_seed_may_be_of_any_size(self, out, seed):
        tried.count("YAML files")
        (out / "given.yaml").write_text(SHORT.replace("seed: 0", f"seed: {seed}"))
        found = params.load(out / "given.yaml").seed
        assert found == seed and 0 <= seeding.derive(found, "x") < 2**31

    def test_a_source_of_two_lines_is_refused_in_one(self, out):
        tried.count("YAML files")
        text = SHORT.replace("source: sources/kermany.yaml", 'source: "a\\nb"')
        (out / "given.yaml").write_text(text)
        with pytest.raises(InputError) as stop:
            source.to_zip(params.load(out / "given.yaml").source, out / "raw" / "xrays.zip")
        tried.assert_one_line(stop.value)
        assert "source a b does not exist" in str(stop.value)
