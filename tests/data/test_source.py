"""The source: accepted and refused ones, with messages. No test leaves 127.0.0.1."""

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cxr.data import source as sources
from cxr.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FIELDS = "name, url, filename, bytes, sha256, licence, doi, citation"


@pytest.fixture(autouse=True)
def download_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cached downloads; failed downloads are not tried again."""
    monkeypatch.setattr(sources, "RETRIES", 0)
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path / "downloads"))
    return tmp_path / "downloads"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The zip to write, in a folder that does not exist yet, as on a fresh clone."""
    return tmp_path / "raw" / "xrays.zip"


@pytest.fixture
def both_classes(make_archive, jpeg) -> Path:
    """A sound archive with one image of each class."""
    return make_archive(
        "both.zip", {"NORMAL/IM-0001-0001.jpeg": jpeg(), "PNEUMONIA/person1_virus_1.jpeg": jpeg(7)}
    )


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., str]:
    """Write a descriptor with valid fields except for those given; None leaves a field out."""

    def write(**changes: object) -> str:
        fields = {
            "name": "two X-rays",
            "url": "http://127.0.0.1:9/xrays.zip",
            "filename": "xrays.zip",
            "bytes": 1234,
            "sha256": "a" * 64,
            "licence": "CC BY 4.0",
            "doi": "10.1/x",
            "citation": "Somebody (2020).",
        } | changes
        path = tmp_path / "xrays.yaml"
        path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
        return str(path)

    return write


class Server:
    """A local server whose one file is ``content``; it counts the requests.

    With ``announced`` it promises that many bytes and then closes the connection early.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.announced: int | None = None
        self.requests = 0
        self.url = ""


@pytest.fixture
def server(both_classes: Path) -> Iterator[Server]:
    """A server that gives ``both_classes``."""
    state = Server(both_classes.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests += 1
            found = self.path == "/xrays.zip"
            self.send_response(200 if found else 404)
            if found:
                self.send_header("Content-Length", str(state.announced or len(state.content)))
            self.end_headers()
            self.wfile.write(state.content if found else b"")

        def log_message(self, *_: object):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{running.server_port}/xrays.zip"
        yield state
        running.shutdown()


@pytest.fixture
def descriptor(server: Server, describe: Callable[..., str]) -> str:
    """A descriptor of the server's file."""
    content = server.content
    return describe(url=server.url, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(source: object, target: Path) -> str:
    """Return the message about a bad source, after checking that no file is left behind."""
    with pytest.raises(InputError) as stop:
        sources.to_zip(str(source), target)
    assert not target.parent.exists() or not list(target.parent.iterdir())
    return str(stop.value)


class TestDownload:
    def test_writes_the_file_and_returns_where_it_came_from(
        self, server, descriptor, both_classes, target
    ):
        about = sources.to_zip(descriptor, target)
        assert target.read_bytes() == both_classes.read_bytes()
        assert list(target.parent.iterdir()) == [target]
        assert about == {
            "origin": server.url,
            "licence": "CC BY 4.0",
            "doi": "10.1/x",
            "citation": "Somebody (2020).",
            "sha256": sha256(both_classes),
            "bytes": both_classes.stat().st_size,
            "counts": {"NORMAL": 1, "PNEUMONIA": 1},
        }

    def test_has_the_permissions_of_a_copied_zip(self, descriptor, both_classes, target, tmp_path):
        sources.to_zip(descriptor, target)
        sources.to_zip(str(both_classes), tmp_path / "copied.zip")
        assert target.stat().st_mode == (tmp_path / "copied.zip").stat().st_mode

    def test_refuses_another_hash(self, server, describe, download_cache, target):
        message = refusal(describe(url=server.url, sha256="a" * 64), target)
        assert f"sha256 {hashlib.sha256(server.content).hexdigest()}, not {'a' * 64}" in message
        assert server.url in message and "-S source=/absolute/path/xrays.zip" in message
        assert list(download_cache.iterdir()) == []

    def test_refuses_another_size_than_described(self, server, describe, both_classes, target):
        message = refusal(describe(url=server.url, bytes=7, sha256=sha256(both_classes)), target)
        assert f"gave {both_classes.stat().st_size:,} bytes" in message
        assert "descriptor has 7" in message

    def test_without_a_network_gives_the_url_and_instructions(self, unreachable, describe, target):
        url = f"{unreachable}/xrays.zip"
        message = refusal(describe(url=url), target)
        assert f"cannot download {url} (ConnectionError)" in message
        assert "download xrays.zip yourself (1,234 bytes, sha256 aaaaaaaaaaaa...)" in message
        assert "-S source=/absolute/path/xrays.zip" in message

    @pytest.mark.parametrize(
        ("path", "kind"),
        [("gone.zip", "HTTPError"), (None, "MissingSchema")],
        ids=["404", "no url"],
    )
    def test_names_the_kind_of_failure(self, server, describe, target, path, kind):
        url = server.url.replace("xrays.zip", path) if path else "xrays.zip"
        assert f"cannot download {url} ({kind})" in refusal(describe(url=url), target)

    def test_refuses_a_file_that_is_no_zip(self, server, describe, target):
        server.content = b"not a zip, but with the hash of the descriptor"
        digest = hashlib.sha256(server.content).hexdigest()
        source = describe(url=server.url, bytes=len(server.content), sha256=digest)
        assert "is not a whole zip" in refusal(source, target)


class TestDownloadCache:
    @pytest.fixture
    def cached(self, server: Server, descriptor: str, download_cache: Path, target: Path) -> Path:
        """The cached file after a first download, whose output DVC has removed since."""
        sources.to_zip(descriptor, target)
        target.unlink()
        assert server.requests == 1
        return download_cache / f"{hashlib.sha256(server.content).hexdigest()}.zip"

    def test_a_rerun_asks_no_server(self, server, descriptor, cached, target):
        about = sources.to_zip(descriptor, target)
        assert about["origin"] == server.url and about["bytes"] == len(server.content)
        assert target.read_bytes() == cached.read_bytes() == server.content
        assert server.requests == 1

    def test_the_output_is_a_copy_that_shares_no_bytes_with_it(self, descriptor, cached, target):
        """DVC makes its outputs read-only, and a user may write into one."""
        sources.to_zip(descriptor, target)
        before = cached.read_bytes(), cached.stat().st_mode
        target.chmod(0o444)
        target.chmod(0o644)
        with target.open("r+b") as output:
            output.write(b"overwritten")
        assert (cached.read_bytes(), cached.stat().st_mode) == before
        assert not cached.samefile(target)

    @pytest.mark.parametrize("damage", [b"", b"other bytes"], ids=["empty", "other bytes"])
    def test_a_damaged_file_is_downloaded_again(self, server, descriptor, cached, target, damage):
        cached.write_bytes(damage)
        sources.to_zip(descriptor, target)
        assert target.read_bytes() == cached.read_bytes() == server.content
        assert server.requests == 2

    def test_an_interrupted_download_leaves_nothing(
        self, server, descriptor, download_cache, target
    ):
        server.announced = len(server.content) + 1000
        assert f"cannot download {server.url} (" in refusal(descriptor, target)
        assert list(download_cache.iterdir()) == []
        server.announced = None
        assert sources.to_zip(descriptor, target)["bytes"] == len(server.content)

    def test_a_killed_download_is_not_used(self, server, descriptor, download_cache, target):
        """SIGKILL leaves pooch's temporary file."""
        download_cache.mkdir()
        (download_cache / "tmpab12cd").write_bytes(server.content[:100])
        sources.to_zip(descriptor, target)
        assert target.read_bytes() == server.content

    def test_two_sources_with_one_file_name_do_not_replace_each_other(
        self, server, describe, descriptor, cached, jpeg, make_archive, target
    ):
        first = server.content
        other = make_archive("o.zip", {"NORMAL/a.jpeg": jpeg(3), "PNEUMONIA/b.jpeg": jpeg(4)})
        server.content = other.read_bytes()
        source = describe(url=server.url, bytes=len(server.content), sha256=sha256(other))
        sources.to_zip(source, target)
        assert target.read_bytes() == other.read_bytes() and cached.read_bytes() == first

    def test_a_folder_that_cannot_be_made_is_named_with_its_variable(
        self, descriptor, download_cache, target
    ):
        download_cache.write_text("a file in its place")
        message = refusal(descriptor, target)
        assert f"cannot use the download cache {download_cache} (" in message
        assert "environment variable CXR_CACHE" in message
        assert "-S source=/absolute/path/xrays.zip" in message

    def test_is_in_the_users_cache_folder_by_default(self, descriptor, target, monkeypatch):
        monkeypatch.delenv(sources.CACHE_VARIABLE)
        monkeypatch.setattr(sources.pooch, "os_cache", lambda name: target.parent.parent / name)
        sources.to_zip(descriptor, target)
        assert [path.suffix for path in (target.parent.parent / "cxr").iterdir()] == [".zip"]


class TestDescriptor:
    def test_of_kermany_has_the_hash_that_four_public_repositories_agree_on(self):
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
    def test_with_a_bad_field_is_refused_with_its_name_and_all_fields(
        self, describe, target, changes, said
    ):
        message = refusal(describe(**changes), target)
        assert f"xrays.yaml: {said}" in message and FIELDS in message

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
    def test_that_is_no_mapping_in_yaml_is_refused(self, tmp_path, target, content, said):
        source = tmp_path / "xrays.yml"
        source.write_bytes(content)
        message = refusal(source, target)
        assert f"source {source}" in message and said in message


class TestZip:
    def test_is_copied_byte_for_byte(self, tiny_archive, target):
        about = sources.to_zip(str(tiny_archive), target)
        assert target.read_bytes() == tiny_archive.read_bytes()
        assert about["counts"] == {"NORMAL": 11, "PNEUMONIA": 29}
        assert about["sha256"] == sha256(tiny_archive)
        assert about["bytes"] == tiny_archive.stat().st_size
        assert about["licence"] is None

    def test_origin_is_its_name_without_the_folders_of_this_machine(self, tiny_archive, target):
        about = sources.to_zip(str(tiny_archive.resolve()), target)
        assert about["origin"] == "phantoms.zip"
        assert str(tiny_archive.parent) not in repr(about)

    @pytest.mark.parametrize("part", [0.0, 0.5, 0.999], ids=["empty", "half", "without its end"])
    def test_truncated_is_refused(self, tiny_archive, tmp_path, target, part):
        whole = tiny_archive.read_bytes()
        cut = tmp_path / "cut.zip"
        cut.write_bytes(whole[: int(part * len(whole))])
        message = refusal(cut, target)
        assert f"source {cut} is not a whole zip" in message and "truncated" in message

    def test_of_another_format_is_refused(self, jpeg, tmp_path, target):
        source = tmp_path / "xray.jpeg"
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
    def test_with_a_path_that_leads_outside_is_refused(self, make_archive, jpeg, target, name):
        sound = {"NORMAL/1.jpeg": jpeg(), "PNEUMONIA/1.jpeg": jpeg()}
        message = refusal(make_archive("bad.zip", sound | {name: jpeg()}), target)
        assert f"contains a path that leads outside of it: {name!r}" in message
        assert "do not use" in message

    @pytest.mark.parametrize(
        "name", ["NORMAL/a..b.jpeg", "NORMAL/..hidden.jpeg", "NORMAL/1:2.jpeg"]
    )
    def test_with_harmless_dots_and_colons_is_accepted(self, make_archive, jpeg, target, name):
        files = {"NORMAL/1.jpeg": jpeg(), "PNEUMONIA/1.jpeg": jpeg(), name: jpeg()}
        assert sources.to_zip(str(make_archive("odd.zip", files)), target)

    @pytest.mark.parametrize(
        ("names", "missing", "found"),
        [
            (["xrays/1.jpeg", "xrays/2.jpeg"], "NORMAL", "xrays (2)"),
            (["1.jpeg"], "NORMAL", "none"),
            ([], "NORMAL", "none"),
            (["a/NORMAL/1.jpeg"], "PNEUMONIA", "NORMAL (1)"),
            (["NORMAL/1.jpeg", "PNEUMONIA/"], "PNEUMONIA", "NORMAL (1)"),
            (["NORMAL/1.jpeg", "PNEUMONIA/.DS_Store"], "PNEUMONIA", "NORMAL (1)"),
            (["NORMAL/a/1.jpeg", "PNEUMONIA/1.jpeg"], "NORMAL", "PNEUMONIA (1), a (1)"),
        ],
        ids=[
            "no class folder",
            "no folders at all",
            "nothing at all",
            "one class folder",
            "an empty class",
            "a class of hidden files",
            "files a folder too deep",
        ],
    )
    def test_without_a_class_is_refused(self, make_archive, jpeg, target, names, missing, found):
        message = refusal(make_archive("bad.zip", dict.fromkeys(names, jpeg())), target)
        assert f"has no image in a folder {missing}: images must be in folders NORMAL" in message
        assert message.endswith(f"folders with files: {found}")

    def test_refused_leaves_the_earlier_archive(self, both_classes, tmp_path, target):
        sources.to_zip(str(both_classes), target)
        bad = tmp_path / "bad.zip"
        bad.write_bytes(b"PK")
        with pytest.raises(InputError):
            sources.to_zip(str(bad), target)
        assert target.read_bytes() == both_classes.read_bytes()
        assert list(target.parent.iterdir()) == [target]


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path, jpeg) -> Path:
        """X-rays in class folders, and a file outside of them."""
        files = {
            "test/NORMAL/IM-0001-0001.jpeg": jpeg(1),
            "train/PNEUMONIA/person1_virus_1.jpeg": jpeg(2),
            "train/NORMAL/IM-0002-0001.jpeg": jpeg(3),
            "README.txt": b"about",
        }
        for name, data in files.items():
            path = tmp_path / "xrays" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "xrays"

    def test_becomes_a_stored_zip_of_its_class_folders(self, folder, target):
        about = sources.to_zip(str(folder), target)
        assert about["origin"] == "xrays"
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

    def test_gives_the_same_bytes_whatever_its_place_dates_and_permissions(
        self, folder, tmp_path, target
    ):
        first = sources.to_zip(str(folder), target)
        moved = tmp_path / "elsewhere" / "xrays"
        for path in sorted(folder.rglob("*.jpeg"), reverse=True):
            copy = moved / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o600)
            os.utime(copy, (10**9, 10**9))
        assert sources.to_zip(str(moved), tmp_path / "again.zip") == first
        assert (tmp_path / "again.zip").read_bytes() == target.read_bytes()

    def test_given_as_a_dot_has_its_name_as_origin(self, folder, target, monkeypatch):
        monkeypatch.chdir(folder)
        assert sources.to_zip(".", target)["origin"] == "xrays"

    def test_with_an_empty_class_is_refused(self, folder, target):
        (folder / "train/PNEUMONIA/person1_virus_1.jpeg").unlink()
        message = refusal(folder, target)
        assert "has no image in a folder PNEUMONIA" in message and "NORMAL (2)" in message


class TestToZip:
    def test_refuses_a_missing_source_and_says_what_a_source_can_be(self, tmp_path, target):
        message = refusal(tmp_path / "nowhere.zip", target)
        assert f"source {tmp_path / 'nowhere.zip'} does not exist" in message
        assert "descriptor (.yaml), a .zip, or a folder" in message
        assert "-S source=/absolute/path" in message

    def test_names_the_folder_that_it_cannot_write_to(self, both_classes, tmp_path):
        (tmp_path / "raw").write_text("in the way")
        with pytest.raises(InputError, match=r"cannot write .*raw/xrays.zip.*Make .*raw writable"):
            sources.to_zip(str(both_classes), tmp_path / "raw" / "xrays.zip")
        assert (tmp_path / "raw").read_text() == "in the way"

    def test_accepts_its_own_target_as_source(self, both_classes):
        before = both_classes.read_bytes()
        sources.to_zip(str(both_classes), both_classes)
        assert both_classes.read_bytes() == before
