"""Taking data in: what is accepted, and what is said where it is not. No test leaves 127.0.0.1."""

import hashlib
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from cxr.data import archive
from cxr.data import source as sources
from cxr.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FIELDS = "name, url, filename, bytes, sha256, licence, doi, citation"


@pytest.fixture(autouse=True)
def straight_and_once(monkeypatch: pytest.MonkeyPatch):
    """No proxy of this machine between a test and 127.0.0.1, and no waiting between retries."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sources, "RETRIES", 0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the zip should go: a folder that does not exist yet, as on a fresh clone."""
    return tmp_path / "raw" / "xrays.zip"


@pytest.fixture
def both_classes(make_archive, jpeg) -> Path:
    """A sound archive with one image of each class."""
    return make_archive(
        "both.zip", {"NORMAL/IM-0001-0001.jpeg": jpeg(), "PNEUMONIA/person1_virus_1.jpeg": jpeg(7)}
    )


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., str]:
    """Write a descriptor of sound fields, but for what is given; None leaves a field out."""

    def write(**changes: object) -> str:
        fields = {
            "name": "two films",
            "url": "http://127.0.0.1:9/films.zip",
            "filename": "films.zip",
            "bytes": 1234,
            "sha256": "a" * 64,
            "licence": "CC BY 4.0",
            "doi": "10.1/x",
            "citation": "Somebody (2020).",
        } | changes
        path = tmp_path / "films.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in fields.items() if v is not None}))
        return str(path)

    return write


@pytest.fixture
def server(both_classes: Path) -> Iterator[str]:
    """The URL of a local server that gives ``both_classes``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/films.zip"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(both_classes.read_bytes() if found else b"")

        def log_message(self, *_: object):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/films.zip"
        running.shutdown()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(source: object, target: Path) -> str:
    """Take a bad source; return what is said, once nothing is found to be left behind."""
    with pytest.raises(InputError) as stop:
        sources.take(str(source), target)
    assert not target.parent.exists() or not list(target.parent.iterdir())
    return str(stop.value)


class TestDownload:
    def test_takes_what_a_server_gives(self, server, describe, both_classes, target):
        source = describe(
            url=server, bytes=both_classes.stat().st_size, sha256=sha256(both_classes)
        )
        about = sources.take(source, target)
        assert target.read_bytes() == both_classes.read_bytes()
        assert list(target.parent.iterdir()) == [target]
        assert about == {
            "origin": server,
            "licence": "CC BY 4.0",
            "doi": "10.1/x",
            "citation": "Somebody (2020).",
            "sha256": sha256(both_classes),
            "bytes": both_classes.stat().st_size,
            "counts": {"NORMAL": 1, "PNEUMONIA": 1},
        }

    def test_gives_a_file_that_others_may_read_as_a_copied_one(
        self, server, describe, both_classes, target, tmp_path
    ):
        size = both_classes.stat().st_size
        sources.take(describe(url=server, bytes=size, sha256=sha256(both_classes)), target)
        sources.take(str(both_classes), tmp_path / "copied.zip")
        assert target.stat().st_mode == (tmp_path / "copied.zip").stat().st_mode

    def test_refuses_another_hash_and_names_both(self, server, describe, both_classes, target):
        said = refusal(describe(url=server, sha256="a" * 64), target)
        assert f"sha256 {sha256(both_classes)}, expected is {'a' * 64}" in said
        assert server in said and "-S source=/absolute/path/films.zip" in said

    def test_refuses_another_size_than_described(self, server, describe, both_classes, target):
        said = refusal(describe(url=server, bytes=7, sha256=sha256(both_classes)), target)
        assert f"gave {both_classes.stat().st_size:,} bytes" in said
        assert "descriptor says 7" in said

    def test_without_a_network_says_what_to_fetch_and_how_to_give_it(self, describe, target):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/films.zip"
        said = refusal(describe(url=url), target)
        assert f"cannot download {url} (ConnectionError)" in said
        assert "fetch films.zip by hand (1,234 bytes, sha256 aaaaaaaaaaaa...)" in said
        assert "-S source=/absolute/path/films.zip" in said

    @pytest.mark.parametrize(
        ("path", "kind"),
        [("gone.zip", "HTTPError"), (None, "MissingSchema")],
        ids=["404", "no url"],
    )
    def test_names_what_went_wrong_at_the_other_end(self, server, describe, target, path, kind):
        url = server.replace("films.zip", path) if path else "films.zip"
        assert f"cannot download {url} ({kind})" in refusal(describe(url=url), target)

    def test_a_download_that_is_no_sound_archive_is_not_kept(
        self, server, describe, both_classes, target
    ):
        both_classes.write_bytes(b"not a zip, but what the descriptor says")
        size = both_classes.stat().st_size
        source = describe(url=server, bytes=size, sha256=sha256(both_classes))
        assert "is not a whole zip" in refusal(source, target)


class TestDescriptor:
    def test_kermanys_is_the_file_that_four_public_repositories_agree_on(self):
        found = sources.read_descriptor(ROOT / "sources" / "kermany.yaml")
        assert found.bytes == 1_235_512_464
        assert found.sha256 == "13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36"
        assert found.licence == "CC BY 4.0" and found.doi == "10.17632/rscbjbr9sj"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"md5": "abc"}, "md5: Extra inputs"),
            ({"licence": None}, "licence: Field required"),
            ({"bytes": "many"}, "bytes: Input should be a valid integer"),
            ({"bytes": 0}, "bytes: Input should be greater than or equal to 1"),
            ({"sha256": "A" * 64}, "sha256: String should match"),
        ],
        ids=["unknown field", "missing field", "wrong type", "no bytes", "a hash in capitals"],
    )
    def test_says_which_field_is_wrong_and_which_there_are(self, describe, target, changes, said):
        found = refusal(describe(**changes), target)
        assert f"films.yaml: {said}" in found and FIELDS in found

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"name: [", "is not YAML"),
            (b"", "the file"),
            (b"- url", "the file"),
            ("name: Müller".encode("latin-1"), "is not YAML"),
        ],
        ids=["broken", "empty", "a list", "not UTF-8"],
    )
    def test_says_what_else_a_file_is(self, tmp_path, target, content, said):
        source = tmp_path / "films.yml"
        source.write_bytes(content)
        found = refusal(source, target)
        assert f"source {source}" in found and said in found


class TestZip:
    def test_a_sound_one_is_copied_as_it_is(self, tiny_archive, target):
        about = sources.take(str(tiny_archive), target)
        assert target.read_bytes() == tiny_archive.read_bytes()
        assert about["counts"] == {"NORMAL": 11, "PNEUMONIA": 29}
        assert about["sha256"] == sha256(tiny_archive)
        assert about["bytes"] == tiny_archive.stat().st_size
        assert about["licence"] is None

    def test_its_origin_is_a_name_and_tells_nothing_of_this_machine(self, tiny_archive, target):
        about = sources.take(str(tiny_archive.resolve()), target)
        assert about["origin"] == "phantoms.zip"
        assert str(tiny_archive.parent) not in repr(about)

    @pytest.mark.parametrize("part", [0.0, 0.5, 0.999], ids=["empty", "half", "without its end"])
    def test_refuses_a_truncated_one(self, tiny_archive, tmp_path, target, part):
        whole = tiny_archive.read_bytes()
        cut = tmp_path / "cut.zip"
        cut.write_bytes(whole[: int(part * len(whole))])
        said = refusal(cut, target)
        assert f"source {cut} is not a whole zip" in said and "truncated" in said

    def test_refuses_a_file_that_is_no_zip(self, jpeg, tmp_path, target):
        source = tmp_path / "film.jpeg"
        source.write_bytes(jpeg())
        assert f"source {source} is not a whole zip (file is not a zip" in refusal(source, target)

    @pytest.mark.parametrize(
        "name",
        [
            "/etc/NORMAL/1.jpeg",
            "../NORMAL/1.jpeg",
            "a/../../NORMAL/1.jpeg",
            "NORMAL/..",
            r"\windows\NORMAL\1.jpeg",
            r"a\..\..\NORMAL\1.jpeg",
            "C:/NORMAL/1.jpeg",
            r"c:\NORMAL\1.jpeg",
            r"\\server\share\1.jpeg",
        ],
    )
    def test_refuses_a_name_that_leads_outside(self, make_archive, jpeg, target, name):
        sound = {"NORMAL/1.jpeg": jpeg(), "PNEUMONIA/1.jpeg": jpeg()}
        said = refusal(make_archive("bad.zip", sound | {name: jpeg()}), target)
        assert f"names a file outside of itself: {name!r}" in said and "do not use" in said

    @pytest.mark.parametrize(
        "name", ["NORMAL/a..b.jpeg", "NORMAL/..hidden.jpeg", "NORMAL/1:2.jpeg"]
    )
    def test_takes_dots_and_colons_that_lead_nowhere(self, make_archive, jpeg, target, name):
        files = {"NORMAL/1.jpeg": jpeg(), "PNEUMONIA/1.jpeg": jpeg(), name: jpeg()}
        assert sources.take(str(make_archive("odd.zip", files)), target)

    @pytest.mark.parametrize(
        ("names", "missing", "there"),
        [
            (["films/1.jpeg", "films/2.jpeg"], "NORMAL", "films (2)"),
            (["1.jpeg"], "NORMAL", "none"),
            ([], "NORMAL", "none"),
            (["a/NORMAL/1.jpeg"], "PNEUMONIA", "NORMAL (1)"),
            (["normal/1.jpeg", "PNEUMONIA/1.jpeg"], "NORMAL", "PNEUMONIA (1), normal (1)"),
            (["NORMAL/1.jpeg", "PNEUMONIA/"], "PNEUMONIA", "NORMAL (1)"),
            (["NORMAL/1.jpeg", "PNEUMONIA/.DS_Store"], "PNEUMONIA", "NORMAL (1)"),
            (["NORMAL/a/1.jpeg", "PNEUMONIA/1.jpeg"], "NORMAL", "PNEUMONIA (1), a (1)"),
        ],
        ids=[
            "no class folder",
            "no folders at all",
            "nothing at all",
            "one class folder",
            "small letters",
            "an empty class",
            "a class of hidden files",
            "files a folder too deep",
        ],
    )
    def test_refuses_one_that_lacks_a_class(
        self, make_archive, jpeg, target, names, missing, there
    ):
        said = refusal(make_archive("bad.zip", dict.fromkeys(names, jpeg())), target)
        assert f"has no image in a folder {missing}: wanted are images in folders NORMAL" in said
        assert said.endswith(f"folders with files: {there}")

    def test_a_bad_one_leaves_the_archive_of_before(self, both_classes, tmp_path, target):
        sources.take(str(both_classes), target)
        bad = tmp_path / "bad.zip"
        bad.write_bytes(b"PK")
        with pytest.raises(InputError):
            sources.take(str(bad), target)
        assert target.read_bytes() == both_classes.read_bytes()
        assert list(target.parent.iterdir()) == [target]


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path, jpeg) -> Path:
        """Films in class folders, one of them deeper, and files that are none."""
        files = {
            "test/NORMAL/IM-0001-0001.jpeg": jpeg(1),
            "train/PNEUMONIA/person1_virus_1.jpeg": jpeg(2),
            "train/NORMAL/IM-0002-0001.jpeg": jpeg(3),
            "README.txt": b"about",
        }
        for name, data in files.items():
            path = tmp_path / "films" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "films"

    def test_becomes_a_stored_zip_of_its_class_folders(self, folder, target):
        about = sources.take(str(folder), target)
        assert about["origin"] == "films"
        assert about["counts"] == {"NORMAL": 2, "PNEUMONIA": 1}
        with zipfile.ZipFile(target) as opened:
            assert opened.namelist() == [
                "test/NORMAL/IM-0001-0001.jpeg",
                "train/NORMAL/IM-0002-0001.jpeg",
                "train/PNEUMONIA/person1_virus_1.jpeg",
            ]
            for entry in opened.infolist():
                assert opened.read(entry) == (folder / entry.filename).read_bytes()
                assert entry.compress_type == zipfile.ZIP_STORED

    def test_gives_the_same_bytes_wherever_and_whenever_it_lies(self, folder, tmp_path, target):
        first = sources.take(str(folder), target)
        moved = tmp_path / "elsewhere" / "films"
        for path in sorted(folder.rglob("*.jpeg"), reverse=True):
            copy = moved / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o600)
            os.utime(copy, (10**9, 10**9))
        assert sources.take(str(moved), tmp_path / "again.zip") == first
        assert (tmp_path / "again.zip").read_bytes() == target.read_bytes()

    def test_a_dot_keeps_its_name(self, folder, target, monkeypatch):
        monkeypatch.chdir(folder)
        assert sources.take(".", target)["origin"] == "films"

    def test_says_which_class_is_empty(self, folder, target):
        (folder / "train/PNEUMONIA/person1_virus_1.jpeg").unlink()
        said = refusal(folder, target)
        assert "has no image in a folder PNEUMONIA" in said and "NORMAL (2)" in said


class TestTake:
    def test_says_what_a_source_may_be_where_it_is_missing(self, tmp_path, target):
        said = refusal(tmp_path / "nowhere.zip", target)
        assert f"source {tmp_path / 'nowhere.zip'} does not exist" in said
        assert "descriptor (.yaml), a .zip, or a folder" in said
        assert "-S source=/absolute/path" in said

    def test_says_where_it_cannot_write(self, both_classes, tmp_path):
        (tmp_path / "raw").write_text("in the way")
        with pytest.raises(InputError, match=r"cannot write .*raw/xrays.zip.*Make .*raw writable"):
            sources.take(str(both_classes), tmp_path / "raw" / "xrays.zip")
        assert (tmp_path / "raw").read_text() == "in the way"

    def test_may_take_its_own_target(self, both_classes):
        before = both_classes.read_bytes()
        sources.take(str(both_classes), both_classes)
        assert both_classes.read_bytes() == before


class TestEntries:
    def test_are_the_files_in_order_with_folder_and_official_part(self, make_archive):
        names = [
            "chest_xray/val/NORMAL/c.jpeg",
            "chest_xray/test/PNEUMONIA/b.jpeg",
            "NORMAL/a.jpeg",
            "other/NORMAL/d.jpeg",
            "e.jpeg",
            "chest_xray/test/",
        ]
        with zipfile.ZipFile(make_archive("a.zip", dict.fromkeys(names, b""))) as opened:
            found = [(e.path, e.folder, e.official_split) for e in archive.entries(opened)]
        assert found == [
            ("NORMAL/a.jpeg", "NORMAL", ""),
            ("chest_xray/test/PNEUMONIA/b.jpeg", "PNEUMONIA", "test"),
            ("chest_xray/val/NORMAL/c.jpeg", "NORMAL", "val"),
            ("e.jpeg", "", ""),
            ("other/NORMAL/d.jpeg", "NORMAL", ""),
        ]

    @pytest.mark.parametrize(
        "name",
        ["__MACOSX/NORMAL/._1.jpeg", "a/__MACOSX/NORMAL/1.jpeg", "NORMAL/.DS_Store", ".x/NORMAL/1"],
    )
    def test_pass_over_what_systems_leave(self, make_archive, name):
        made = make_archive("a.zip", {"NORMAL/1.jpeg": b"", name: b""})
        with zipfile.ZipFile(made) as opened:
            assert [entry.path for entry in archive.entries(opened)] == ["NORMAL/1.jpeg"]

    def test_take_one_of_the_two_copies_in_kaggles_zip(self, make_archive, jpeg, target, caplog):
        films = {
            "chest_xray/test/NORMAL/1.jpeg": jpeg(1),
            "chest_xray/train/NORMAL/1.jpeg": jpeg(1),
            "chest_xray/train/PNEUMONIA/1.jpeg": jpeg(1),
            "chest_xray/train/PNEUMONIA/2.jpeg": jpeg(1),
        }
        nested = {f"chest_xray/{name}": data for name, data in films.items()}
        made = make_archive("kaggle.zip", films | nested)
        assert sources.take(str(made), target)["counts"] == {"NORMAL": 2, "PNEUMONIA": 2}
        assert "4 files are in the archive twice" in caplog.text

    def test_keep_files_of_one_name_and_other_content(self, make_archive, jpeg):
        made = make_archive("a.zip", {"x/NORMAL/1.jpeg": jpeg(1), "y/NORMAL/1.jpeg": jpeg(2)})
        with zipfile.ZipFile(made) as opened:
            assert len(archive.entries(opened)) == 2


def test_a_missing_archive_says_which_stage_makes_it(tmp_path):
    with pytest.raises(InputError, match=r"xrays.zip is missing: run `dvc repro download`"):
        archive.open_zip(tmp_path / "xrays.zip")
