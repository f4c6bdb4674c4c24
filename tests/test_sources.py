"""sources: what an argument names, and the bytes of it."""

import base64
import functools
import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageGrab

from vlmcli import __version__, sources
from vlmcli.errors import InputError, shown
from vlmcli.sources import Source

PNG = pictures.plain()
MAIN = Path(sources.__file__).parent.parent
SLOW_S = 0.5  # a deadline that a test waits for


def names(argument: object, *, recursive: bool = False) -> list[str]:
    return [source.name for source in sources.find(str(argument), recursive=recursive)]


def read(argument: object, *, max_bytes: int = 10**6, timeout_s: float = 20) -> bytes:
    (source,) = sources.find(str(argument))
    return sources.read(source, max_bytes=max_bytes, timeout_s=timeout_s)


def error_of(work: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        work()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def find_error(argument: object, *, recursive: bool = False) -> str:
    return error_of(lambda: names(argument, recursive=recursive))


def read_error(argument: object, **limits: float) -> str:
    return error_of(lambda: read(argument, **limits))


def make(folder: Path, *files: str, content: bytes = PNG) -> None:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# Paths


def test_a_file_is_named_as_it_was_typed_and_read_whole(tmp_path):
    make(tmp_path, "a.png")
    assert names(tmp_path / "a.png") == [str(tmp_path / "a.png")]
    assert read(tmp_path / "a.png") == PNG


@pytest.mark.parametrize(
    "name",
    [
        "[1].png",
        "a*b?.png",
        "a#page=2",
        "https:",
        "ftp:x.png",
        "data:,x",
        "clip:",
        "ü 猫.png",
        "~x",
    ],
)
def test_an_existing_path_wins_over_every_other_meaning(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, name)
    (source,) = sources.find(name)
    assert (source.name, source.kind, source.page) == (name, "path", None)
    assert sources.read(source, max_bytes=1, timeout_s=1) == PNG


def test_a_tilde_is_the_home_folder_unless_it_is_a_name(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    make(home, "a.png", "b.png")
    make(here, "~/a.png", content=PNG + b"here")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert read("~/a.png") == PNG + b"here"
    assert read("~/b.png") == PNG
    assert names("~/*.png") == [str(home / "a.png"), str(home / "b.png")]
    assert "no such file" in find_error("~nobody-of-that-name/a.png")


def test_a_missing_file_is_named_with_its_nearest_neighbour(tmp_path):
    make(tmp_path, "holiday.jpg", "other.txt")
    message = find_error(tmp_path / "holidya.jpg")
    assert f"{tmp_path / 'holidya.jpg'}: no such file" in message
    assert f"did you mean {tmp_path / 'holiday.jpg'}?" in message


def test_a_missing_file_without_neighbours_is_named_with_where_we_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_error("nowhere.jpg") == f"nowhere.jpg: no such file; you are in {tmp_path}"
    assert find_error(tmp_path / "x.jpg") == f"{tmp_path / 'x.jpg'}: no such file; is it right?"
    assert find_error("no/where.jpg") == "no/where.jpg: no such file; there is no folder no"
    assert "no such file" in find_error("a\0b/c.jpg")
    assert "no such file" in find_error("x" * 5000)


def test_an_empty_argument_is_refused():
    assert "empty" in find_error("")


def test_a_dangling_link_says_that_nothing_is_there(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    assert "no such file" in read_error(tmp_path / "link.png")


def test_an_empty_file_is_called_empty(tmp_path):
    make(tmp_path, "a.png", content=b"")
    assert f"{tmp_path / 'a.png'} is empty" in read_error(tmp_path / "a.png")


def test_a_folder_is_not_read_as_a_file(tmp_path):
    source = Source(str(tmp_path), "path", str(tmp_path))
    assert "is a directory" in error_of(lambda: sources.read(source, max_bytes=1, timeout_s=1))


@contextmanager
def without_privileges() -> Iterator[None]:
    """As root, who may read everything, become nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder():
    """A folder that everyone may enter, which pytest's own are not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_may_not_be_read_says_so(public_folder):
    make(public_folder, "closed/a.png", "b.png")
    (public_folder / "closed").chmod(0)
    (public_folder / "b.png").chmod(0)
    with without_privileges():
        assert "b.png: permission denied" in read_error(public_folder / "b.png")
        assert "closed/a.png: permission denied" in find_error(public_folder / "closed/a.png")
        assert "closed: permission denied" in find_error(public_folder / "closed")
        found = [
            str(getattr(x, "name", x)) for x in sources.find(str(public_folder), recursive=True)
        ]
        assert found == [
            str(public_folder / "b.png"),
            f"{public_folder / 'closed'}: permission denied",
        ]
    (public_folder / "closed").chmod(0o700)


def test_a_folder_passes_over_files_of_unknown_suffix_that_may_not_be_read(public_folder):
    make(public_folder, "a.png", "secret")
    assert len(names(public_folder)) == 2
    (public_folder / "secret").chmod(0)
    with without_privileges():
        assert names(public_folder) == [str(public_folder / "a.png")]


def test_a_pipe_is_read_like_a_file():
    code = "import sys; from vlmcli import sources\n" + (
        "for argument in sys.argv[1:]:\n"
        "    (source,) = sources.find(argument)\n"
        "    print(len(sources.read(source, max_bytes=10**6, timeout_s=1)))"
    )
    encoded = base64.b64encode(PNG).decode()
    shell = f'"{sys.executable}" -c "$CODE" <(echo {encoded} | base64 -d) /dev/stdin'
    done = subprocess.run(
        ["bash", "-c", shell],
        input=PNG * 2,
        stdout=subprocess.PIPE,
        env={**os.environ, "CODE": code, "PYTHONPATH": str(MAIN)},
        check=True,
    )
    assert done.stdout.split() == [b"%d" % len(PNG), b"%d" % (2 * len(PNG))]


def test_a_pipe_is_capped(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(PNG * 100,))
    writer.start()
    message = read_error(tmp_path / "pipe", max_bytes=len(PNG))
    writer.join()
    assert f"larger than {len(PNG)} bytes" in message and "--max-download-bytes" in message


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_an_endless_file_is_turned_away_at_once(device):
    assert "not a picture" in read_error(device)


@pytest.mark.parametrize(
    ("content", "seems"),
    [
        (b"Dear diary,\n", "text"),
        (("é" * 600).encode()[:-1], "text"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><p>", "a web page"),
        (b"<html><body>", "a web page"),
        (b"<svg xmlns=''/>", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<svg/>", "an SVG drawing"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video"),
        (b"\x1aE\xdf\xa3\x01\0", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"PK\x03\x04\x14\0", "a zip archive"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"BMW builds cars", "text"),
    ],
)
def test_a_file_that_is_no_picture_says_what_it_seems_to_be(tmp_path, content, seems):
    make(tmp_path, "x.jpg", content=content)
    message = read_error(tmp_path / "x.jpg")
    assert "x.jpg: not a picture" in message and f"it seems to be {seems}" in message
    assert ("vlm video" if seems == "a video" else "JPEG, PNG") in message


@pytest.mark.parametrize("content", [b"\0" * 30, b"\x80\x81\x82", b"\0\0\1\0\0\0"])
def test_bytes_that_seem_to_be_nothing_are_not_given_a_name(tmp_path, content):
    make(tmp_path, "x.jpg", content=content)
    message = read_error(tmp_path / "x.jpg")
    assert "not a picture" in message and "seems" not in message


@pytest.mark.parametrize("kind", pictures.every_format())
def test_every_format_is_recognized_by_its_content(tmp_path, kind):
    make(tmp_path, "x.txt", content=pictures.every_format()[kind])
    assert read(tmp_path / "x.txt") == pictures.every_format()[kind]


def test_a_file_on_disk_is_not_capped(tmp_path):
    make(tmp_path, "a.png", content=PNG + bytes(3_000_000))
    assert len(read(tmp_path / "a.png", max_bytes=10)) == len(PNG) + 3_000_000


def test_a_file_larger_than_the_memory_is_an_input_error(tmp_path):
    make(tmp_path, "huge.png")
    os.truncate(tmp_path / "huge.png", 1 << 40)  # sparse: takes no place on the disk
    code = (
        "import resource, sys; from vlmcli import errors, sources\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
        "(source,) = sources.find(sys.argv[1])\n"
        "try:\n"
        "    sources.read(source, max_bytes=1, timeout_s=1)\n"
        "except errors.InputError as error:\n"
        "    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "huge.png")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(MAIN)},
        check=True,
    )
    assert b"huge.png: too large for this machine's memory" in done.stdout


# Pages


def test_a_page_of_a_pdf_is_named_with_the_file(tmp_path):
    make(tmp_path, "doc.pdf")
    typed = f"{tmp_path}/doc.pdf#page=12"
    assert list(sources.find(typed)) == [Source(typed, "path", f"{tmp_path}/doc.pdf", 12)]
    assert read(typed) == PNG


def test_a_page_can_be_asked_of_a_url_and_of_stdin():
    (url,) = sources.find("https://example.org/a.pdf#page=2")
    assert (url.kind, url.location, url.page) == ("url", "https://example.org/a.pdf", 2)
    (stdin,) = sources.find("-#page=3")
    assert (stdin.kind, stdin.page, stdin.name) == ("stdin", 3, "-#page=3")


@pytest.mark.parametrize("page", ["0", "-1", "two", "", "1.5", "9" * 5000])
def test_a_bad_page_number_is_refused(tmp_path, page):
    make(tmp_path, "doc.pdf")
    assert "is not a page" in find_error(f"{tmp_path}/doc.pdf#page={page}")


def test_a_page_of_a_missing_file_names_the_file(tmp_path):
    assert f"{tmp_path}/doc.pdf: no such file" in find_error(f"{tmp_path}/doc.pdf#page=1")


# Globs


def test_a_glob_gives_its_files_sorted_and_no_folders(tmp_path):
    make(tmp_path, "b.png", "a.png", "c.txt", "d.png/inside.png", ".hidden.png")
    assert names(f"{tmp_path}/*.png") == [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]


def test_two_stars_reach_into_sub_folders(tmp_path):
    make(tmp_path, "a.png", "x/b.png", "x/y/c.png")
    found = names(f"{tmp_path}/**/*.png")
    assert found == [f"{tmp_path}/a.png", f"{tmp_path}/x/b.png", f"{tmp_path}/x/y/c.png"]


def test_a_glob_that_matches_nothing_is_refused(tmp_path):
    make(tmp_path, "a.png", "folder.jpg/a.png")
    assert f"{tmp_path}/*.jpg: no file matches" in find_error(f"{tmp_path}/*.jpg")


# Folders


def test_a_folder_gives_its_pictures_by_suffix_or_content_sorted(tmp_path):
    make(tmp_path, "b.JPG", "a.png", "camera-dump", "misnamed.txt", ".hidden.png", "sub/c.png")
    make(tmp_path, "broken.jpg", "notes.txt", "archive", content=b"no picture")
    expected = ["a.png", "b.JPG", "broken.jpg", "camera-dump", "misnamed.txt"]
    assert names(tmp_path) == [f"{tmp_path}/{name}" for name in expected]


def test_a_folder_is_walked_in_order_when_recursive(tmp_path):
    make(tmp_path, "b/z.png", "a.png", "c.png", "b/a/x.png", ".git/d.png")
    expected = ["a.png", "b/a/x.png", "b/z.png", "c.png"]
    assert names(tmp_path, recursive=True) == [f"{tmp_path}/{name}" for name in expected]


def test_links_are_followed_but_never_round_in_a_circle(tmp_path):
    make(tmp_path, "in/a.png", "elsewhere/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/dangling.png").symlink_to(tmp_path / "gone")
    found = names(tmp_path / "in", recursive=True)
    assert found == [f"{tmp_path}/in/a.png", f"{tmp_path}/in/more/b.png"]


def test_a_folder_is_listed_lazily(tmp_path):
    make(tmp_path, "a.png", "b/c.png")
    finding = sources.find(str(tmp_path), recursive=True)
    assert next(finding).name == f"{tmp_path}/a.png"
    make(tmp_path, "b/b.png")  # not looked at yet
    assert [source.name for source in finding] == [f"{tmp_path}/b/b.png", f"{tmp_path}/b/c.png"]


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path):
    make(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == [f"{tmp_path}/a.png"]


def test_a_folder_without_pictures_is_refused_and_r_is_suggested_where_it_may_help(tmp_path):
    make(tmp_path, "notes.txt", ".hidden/a.png", content=b"text")
    assert f"{tmp_path}: no pictures" in find_error(tmp_path)
    assert "sub-folders" not in find_error(tmp_path)
    make(tmp_path, "sub/notes.txt", content=b"text")
    assert "-r looks into its sub-folders" in find_error(tmp_path)
    assert "sub-folders" not in find_error(tmp_path, recursive=True)


# Protocols


@pytest.mark.parametrize("url", ["ftp://x/y.jpg", "file:///x", "s3://bucket/a", "GOPHER://x"])
def test_an_unknown_protocol_is_named_with_what_is_accepted(url):
    message = find_error(url)
    assert f"does not read {url.split(':')[0].lower()}://" in message
    assert "http(s)://" in message and "data:" in message and "clip:" in message


def test_a_colon_alone_makes_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such file" in find_error("clip:board.png")
    assert "no such file" in find_error("photo:1.png")


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "DATA:;Base64," + base64.b64encode(PNG).decode().replace("=", "%3D") + "\n",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG),
    ],
)
def test_a_data_uri_is_decoded(uri):
    assert read(uri) == PNG


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("data:image/png;base64,@@@@", "not valid base64"),
        ("data:image/png;base64,iVBOR", "not valid base64"),
        ("data:image/png;base64,é", "not valid base64"),
        ("data:image/png", "not a data: URI"),
        ("data:,hello", "not a picture"),
        ("data:,", "is empty"),
    ],
)
def test_a_bad_data_uri_is_refused(uri, says):
    assert says in read_error(uri)


def test_a_data_uri_is_never_shown_whole():
    uri = "data:image/png;base64," + "A" * 100_000
    (source,) = sources.find(uri)
    assert len(source.name) == len(shown(uri)) == 60
    assert len(read_error(uri)) < 200


def test_a_name_is_shown_on_one_line_and_not_at_any_length():
    assert shown("a\nb\x1b[31m.png") == "a�b�[31m.png"
    assert shown("a" * 150 + ".png") == "a" * 150 + ".png"
    assert len(shown("https://x/" + "a" * 9000 + ".png")) == 200
    assert shown("https://x/" + "a" * 9000 + ".png").endswith("aaa.png")


# stdin


def run_with_stdin(
    stdin: object, *arguments: str, max_bytes: int = 10**6, **options: object
) -> str:
    """What reading `arguments` prints in a process of its own: lengths, or the error."""
    code = (
        "import sys; from vlmcli import errors, sources\n"
        "try:\n"
        "    for argument in sys.argv[2:]:\n"
        "        for source in sources.find(argument):\n"
        "            size = int(sys.argv[1])\n"
        "            print(len(sources.read(source, max_bytes=size, timeout_s=1)))\n"
        "except errors.InputError as error:\n"
        "    print(error)"
    )
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    done = subprocess.run(
        [sys.executable, "-c", code, str(max_bytes), *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(MAIN)},
        check=True,
        **given,
        **options,
    )
    return done.stdout.decode()


def test_a_dash_reads_stdin():
    assert run_with_stdin(PNG, "-") == f"{len(PNG)}\n"


def test_stdin_named_twice_is_refused():
    first, second = run_with_stdin(PNG, "-", "-").splitlines()
    assert first == f"{len(PNG)}" and "stdin is empty" in second and "only once" in second


def test_stdin_is_capped():
    message = run_with_stdin(PNG * 100, "-", max_bytes=len(PNG))
    assert f"stdin: larger than {len(PNG)} bytes" in message
    assert "--max-download-bytes" in message


def test_endless_stdin_is_turned_away():
    with Path("/dev/zero").open("rb") as zeros:
        assert "stdin: not a picture" in run_with_stdin(zeros, "-", max_bytes=2**62)


def test_a_terminal_as_stdin_is_refused_instead_of_waited_for():
    controller, terminal = os.openpty()
    try:
        assert "stdin is a terminal; pipe something in" in run_with_stdin(terminal, "-")
    finally:
        os.close(controller)
        os.close(terminal)


def test_a_closed_stdin_is_refused():
    message = run_with_stdin(None, "-", preexec_fn=functools.partial(os.close, 0))
    assert "stdin is closed" in message


# The clipboard


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Makes a program the only one on PATH; returns a function (name, shell script) -> None."""
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def add(name: str, script: str) -> None:
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return add


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="wl-paste and xclip are Linux tools")


@on_linux
@pytest.mark.parametrize("tool", ["wl-paste", "xclip"])
def test_the_clipboard_is_read_through_the_tools_of_linux(tmp_path, tools, tool):
    exif = pictures.Image.Exif()
    exif[0x0112] = 6
    copied = tmp_path / "copied.jpg"
    copied.write_bytes(pictures.encoded(pictures.four_corners(), "JPEG", exif=exif))
    tools(tool, f"exec /bin/cat {copied}")
    with pictures.Image.open(pictures.BytesIO(read("clip:"))) as image:
        assert (image.format, image.size) == ("PNG", (32, 32))
        assert image.getexif()[0x0112] == 6  # still to be turned upright


@on_linux
def test_without_the_tools_the_clipboard_says_what_to_install(tools):
    message = read_error("clip:")
    assert "the clipboard cannot be read" in message
    assert "wl-paste or xclip must be installed" in message


@on_linux
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'Nothing is copied' >&2; exit 1", "holds no picture"),
        ("echo 'no\ndisplay' >&2; exit 1", "no�display"),
        ("echo text", "cannot be read"),
    ],
)
def test_a_clipboard_without_a_picture_is_refused(tools, script, says):
    tools("wl-paste", script)
    message = read_error("clip:")
    assert message.startswith("the clipboard") and says in message


def test_of_copied_files_the_first_is_read(tmp_path, monkeypatch):
    make(tmp_path, "a.png")
    monkeypatch.setattr(ImageGrab, "grabclipboard", lambda: [str(tmp_path / "a.png"), "b.png"])
    assert read("clip:") == PNG
    monkeypatch.setattr(ImageGrab, "grabclipboard", list)
    assert "the clipboard is empty" in read_error("clip:")


# URLs


class Server(ThreadingHTTPServer):
    """Answers on loopback as `routes` says: path -> a function that is given the request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.routes: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("User-Agent", "")))
        self.server.routes[self.path](self)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    for variable in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def answer(
    content: bytes = PNG, status: int = 200, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return send


def redirect(location: str, status: int = 302) -> Callable[[BaseHTTPRequestHandler], None]:
    return answer(b"", status, Location=location, Content_Length="0")


def drip(before: bytes, piece: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(before)
        for _ in range(200):
            request.wfile.write(piece)
            time.sleep(0.02)

    return send


def test_a_url_is_fetched_under_the_name_of_vlm(server):
    server.routes["/cat.png?size=1"] = answer()
    assert read(f"{server.url}/cat.png?size=1") == PNG
    assert server.requests == [("/cat.png?size=1", f"vlm/{__version__}")]


def test_the_fragment_of_a_url_is_not_sent(server):
    server.routes["/doc.pdf"] = answer()
    assert read(f"{server.url}/doc.pdf#page=2") == PNG


def test_compressed_answers_are_unpacked_and_capped_unpacked(server):
    server.routes["/a"] = answer(gzip.compress(PNG + bytes(500_000)), Content_Encoding="gzip")
    assert read(f"{server.url}/a")[: len(PNG)] == PNG
    assert "larger than 100000" in read_error(f"{server.url}/a", max_bytes=100_000)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, status):
    server.routes["/a"] = redirect("/b", status)
    server.routes["/b"] = redirect(f"{server.url}/c", status)
    server.routes["/c"] = answer()
    assert read(f"{server.url}/a") == PNG


def test_five_redirects_are_followed_and_no_more(server):
    for hop in range(6):
        server.routes[f"/{hop}"] = redirect(f"/{hop + 1}")
    server.routes["/6"] = answer()
    assert read(f"{server.url}/1") == PNG
    server.requests.clear()
    assert "more than 5 redirects" in read_error(f"{server.url}/0")
    assert len(server.requests) == 6


def test_a_circle_of_redirects_ends(server):
    server.routes["/a"] = redirect("/a")
    assert "redirects" in read_error(f"{server.url}/a")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_away_from_the_web_is_refused(server, target):
    server.routes["/a"] = redirect(target)
    message = read_error(f"{server.url}/a")
    assert f"refused, it redirects to {target.split(':')[0]}:" in message


def test_a_redirect_from_the_internet_into_this_network_is_refused(server, monkeypatch):
    # The server plays a proxy, so that a public address is asked for without leaving loopback.
    monkeypatch.setenv("HTTP_PROXY", server.url)
    public = "http://93.184.215.14"
    for inside in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "localhost", "0x7f.1"):
        server.routes[f"{public}/a"] = redirect(f"http://{inside}/secret")
        message = read_error(f"{public}/a")
        assert f"refused, it redirects to {inside.strip('[]')}" in message
    assert {path for path, _ in server.requests} == {f"{public}/a"}


def test_a_redirect_from_the_internet_to_the_internet_is_followed(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.routes["http://93.184.215.14/a"] = redirect("http://93.184.215.15/b")
    server.routes["http://93.184.215.15/b"] = redirect("http://no-such-host.invalid/c")
    server.routes["http://no-such-host.invalid/c"] = answer()  # a name that only the proxy knows
    assert read("http://93.184.215.14/a") == PNG


@pytest.mark.parametrize("status", [404, 403, 500, 204, 304])
def test_any_answer_but_200_is_refused_with_its_status(server, status):
    server.routes["/a"] = answer(b"", status)
    assert f"the server answers {status}" in read_error(f"{server.url}/a")


def test_a_web_page_is_not_a_picture(server):
    server.routes["/a.jpg"] = answer(
        b"<!doctype html><title>Log in</title>", Content_Type="image/jpeg"
    )
    message = read_error(f"{server.url}/a.jpg")
    assert "a.jpg: not a picture: the URL gives a web page" in message


def test_a_picture_counts_whatever_its_content_type(server):
    server.routes["/a"] = answer(PNG, Content_Type="text/html")
    assert read(f"{server.url}/a") == PNG


def test_an_empty_answer_is_refused(server):
    server.routes["/a"] = answer(b"")
    assert "/a is empty" in read_error(f"{server.url}/a")


def test_an_announced_size_over_the_cap_is_refused_before_the_body_is_sent(server):
    released = threading.Event()

    def announce(request: BaseHTTPRequestHandler) -> None:
        answer(b"", Content_Length="5000000")(request)
        released.wait(10)

    server.routes["/a"] = announce
    message = read_error(f"{server.url}/a", max_bytes=4_999_999, timeout_s=5)
    released.set()
    assert "larger than 4999999 bytes; --max-download-bytes" in message


def test_a_body_over_the_cap_is_refused_while_it_is_read(server):
    server.routes["/a"] = drip(b"HTTP/1.1 200 OK\r\n\r\n" + PNG, PNG * 1000)
    message = read_error(f"{server.url}/a", max_bytes=200_000)
    assert "larger than 200000 bytes; --max-download-bytes" in message


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + PNG, b"x"),  # the body
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),  # the headers
        (b"", b""),  # nothing at all
    ],
)
def test_a_slow_drip_is_stopped_at_the_deadline(server, before, piece):
    server.routes["/a"] = drip(before, piece)
    start_s = time.monotonic()
    message = read_error(f"{server.url}/a", timeout_s=SLOW_S)
    assert SLOW_S * 0.9 < time.monotonic() - start_s < SLOW_S + 1
    assert f"not here within {SLOW_S} s" in message and "--url-timeout" in message


def test_a_broken_transfer_is_refused(server):
    server.routes["/a"] = answer(PNG, Content_Length="5000")
    assert "/a: the transfer broke off" in read_error(f"{server.url}/a")


def test_a_server_that_is_not_there_is_named_in_plain_words(server):
    with Server() as gone:
        pass
    assert "the server refuses the connection" in read_error(f"{gone.url}/a")
    assert "there is no such host" in read_error("http://no-such-host.invalid/a.jpg")
    assert "no secure connection" in read_error(f"https{server.url[4:]}/a")


@pytest.mark.parametrize(
    "url",
    ["http://[::1/x", "http:///x.jpg", f"http://{'a' * 80}.com/", "http://x:port/", "http://"],
)
def test_a_malformed_url_is_refused(url):
    assert "not a valid URL" in read_error(url)


# Anything


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.text(max_size=30)
    | st.builds(str.__add__, st.sampled_from(["data:", "clip:", "x://", "~"]), st.text(max_size=20))
)
def test_no_argument_ends_in_anything_but_sources_or_an_input_error(argument):
    try:
        for source in sources.find(argument):
            if source.kind == "data":
                sources.read(source, max_bytes=1000, timeout_s=1)
    except InputError as error:
        assert "\n" not in str(error)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=60))
def test_no_first_bytes_end_in_anything_but_bytes_or_an_input_error(head):
    uri = "data:;base64," + base64.b64encode(head).decode()
    try:
        assert read(uri) == head
    except InputError as error:
        assert "picture" in str(error) or "empty" in str(error)
