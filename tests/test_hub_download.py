"""Downloads that break, meet one another, and run out of room: processes against a loopback Hub."""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DATA
from hub_server import MAIN, Hub
from terminal import spawn

WEIGHTS = bytes(range(256)) * 8_000  # 2 MB


@pytest.fixture
def served(server: Hub, tmp_path: Path) -> Path:
    """The folder that the Hub serves as owner/name."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("[]")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    server.add("owner/name", folder)
    return folder


DRIVER = """
import sys
from vlmcli import errors, hub
try:
    ref = hub.resolve(sys.argv[1])
except errors.VlmError as error:
    sys.exit(f"error: {error}")
except KeyboardInterrupt:
    sys.exit(130)
print(ref.revision, ref.folder)
"""


def launch(
    name: str, home: Path, url: str, *, before: Callable[[], None] | None = None, **environment: str
) -> subprocess.Popen[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, name],
        env={**kept, "HF_HOME": str(home), "HF_ENDPOINT": url, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )


def test_the_environment_names_the_hub_the_cache_and_the_token(served, server, tmp_path):
    home = tmp_path / "home"
    out, err = launch("owner/name", home, server.url + "/", HF_TOKEN="hf_secret").communicate()
    assert out.split() == [MAIN, str(home / f"hub/models--owner--name/snapshots/{MAIN}")]
    assert err == ""  # no progress bar off a terminal
    assert all(seen["authorization"] == "Bearer hf_secret" for seen in server.headers)
    assert not [line for line in server.requests if "agent-harnesses" in line]
    server.requests.clear()
    out, err = launch("owner/name", home, server.url, HF_HUB_OFFLINE="1").communicate()
    assert MAIN in out and err == "" and server.requests == []
    out, err = launch("owner/x", home, server.url, HF_HUB_OFFLINE="1").communicate()
    assert (out, err.count("\n")) == ("", 1) and "not in the cache" in err
    assert server.requests == []


def test_ctrl_c_ends_a_slow_download_and_leaves_no_litter(served, server, tmp_path):
    (served / "model.safetensors").write_bytes(bytes(5_000_000))
    server.bytes_per_s = 1_000_000
    running = launch("owner/name", tmp_path / "home", server.url)
    while "model.safetensors" not in server.fetched():
        time.sleep(0.02)
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, err = running.communicate(timeout=10)
    assert time.monotonic() - sent < 2.5
    assert (running.returncode, out, err) == (130, "", "")
    (part,) = (tmp_path / "home").rglob("*.incomplete")  # from where the next one goes on
    assert 0 < part.stat().st_size < (served / "model.safetensors").stat().st_size


def finished(process: subprocess.Popen[str]) -> str:
    """What the process says went wrong, on its one line; empty if nothing did."""
    _, err = process.communicate(timeout=60)
    assert err.count("\n") <= 1
    return err


def under_way(server: Hub) -> None:
    """Wait until the weights are being sent, and some of them are there."""
    deadline = time.monotonic() + 30
    while "model.safetensors" not in server.fetched():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.6)


def weights(home: Path) -> Path:
    return home / f"hub/models--owner--name/snapshots/{MAIN}/model.safetensors"


def starts(server: Hub) -> list[int]:
    """From which byte each request for the weights wanted them."""
    asked = zip(server.requests, server.headers, strict=True)
    fetches = [sent for line, sent in asked if re.fullmatch("GET .*/model.safetensors", line)]
    ranges = [{k.lower(): v for k, v in sent.items()}.get("range", "bytes=0-") for sent in fetches]
    return [int(one.removeprefix("bytes=").rstrip("-")) for one in ranges]


def test_a_line_that_is_cut_is_taken_up_where_it_broke(served, server, tmp_path):
    server.cut_after, server.cuts = 700_000, 2
    assert finished(launch("owner/name", tmp_path, server.url)) == ""
    assert weights(tmp_path).read_bytes() == WEIGHTS
    first, second, third = starts(server)
    assert first == 0 and 600_000 < second <= 700_000 < third


def test_what_a_broken_download_has_got_is_kept_for_the_next(served, server, tmp_path):
    server.cut_after = 300_000
    server.bytes_per_s = 0
    dead = launch("owner/name", tmp_path, server.url)
    under_way(server)
    server.fail_with(503)  # it comes back, and then it does not
    assert "answers 503" in finished(dead)
    assert not weights(tmp_path).exists()
    server.fail_with(0)
    server.cut_after = 0
    seen = len(starts(server))
    assert finished(launch("owner/name", tmp_path, server.url)) == ""
    assert weights(tmp_path).read_bytes() == WEIGHTS
    assert starts(server)[seen:][0] > 200_000


def test_a_killed_download_goes_on_and_leaves_no_litter(served, server, tmp_path):
    server.bytes_per_s = 1_000_000
    running = launch("owner/name", tmp_path, server.url)
    under_way(server)
    running.kill()
    running.communicate()
    assert not weights(tmp_path).exists()
    (part,) = tmp_path.rglob("*.incomplete")
    server.bytes_per_s = 0
    got = part.stat().st_size
    assert 0 < got < len(WEIGHTS)
    assert finished(launch("owner/name", tmp_path, server.url)) == ""
    assert weights(tmp_path).read_bytes() == WEIGHTS
    assert starts(server) == [0, got]
    assert not list(tmp_path.rglob("*.incomplete"))
    files = {file.name for file in (tmp_path / "hub/models--owner--name/blobs").iterdir()}
    assert len(files) == 3 and not [name for name in files if "." in name]


def test_two_downloads_of_one_model_fetch_it_once(served, server, tmp_path):
    server.bytes_per_s = 1_000_000
    both = [launch("owner/name", tmp_path, server.url) for _ in range(2)]
    assert [finished(one) for one in both] == ["", ""]
    assert weights(tmp_path).read_bytes() == WEIGHTS
    assert server.fetched().count("model.safetensors") == 1


def test_bytes_that_arrive_damaged_are_thrown_away(served, server, tmp_path):
    server.spoilt = True
    assert "model.safetensors arrived damaged" in finished(
        launch("owner/name", tmp_path, server.url)
    )
    assert not weights(tmp_path).exists() and not list(tmp_path.rglob("*.incomplete"))
    server.spoilt = False
    assert finished(launch("owner/name", tmp_path, server.url)) == ""
    assert weights(tmp_path).read_bytes() == WEIGHTS


def test_a_file_of_another_size_than_announced_is_not_taken(served, server, tmp_path):
    server.short = 1000
    said = finished(launch("owner/name", tmp_path, server.url))
    assert "owner/name: model.safetensors is not of the size that the Hub tells; run it" in said
    assert not weights(tmp_path).exists() and not list(tmp_path.rglob("*.incomplete"))
    server.short = 0
    assert finished(launch("owner/name", tmp_path, server.url)) == ""


def test_a_file_whose_etag_is_another_is_taken_under_that(served, server, tmp_path):
    (served / "tokenizer.json").unlink()
    server.etag = "c0ffee"
    assert finished(launch("owner/name", tmp_path, server.url)) == ""
    assert weights(tmp_path).resolve().name == "c0ffee"


def test_room_is_looked_for_before_anything_is_fetched(served, server, tmp_path):
    server.announced = shutil.disk_usage(tmp_path).free
    said = finished(launch("owner/name", tmp_path, server.url))
    assert "owner/name takes" in said and "free" in said
    assert server.fetched() == []


def test_a_disk_that_fills_up_is_told_and_the_rest_goes_on_later(served, server, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    said = finished(launch("owner/name", tmp_path, server.url, before=limit))
    assert "no space left for owner/name" in said
    assert finished(launch("owner/name", tmp_path, server.url)) == ""
    assert weights(tmp_path).read_bytes() == WEIGHTS
    assert starts(server)[1] > 300_000


def test_a_home_that_cannot_be_written_is_named(served, server):
    said = finished(launch("owner/name", Path("/sys/nowhere"), server.url))
    assert "no access to /sys" in said and "HF_HOME" in said


def test_a_proxy_is_used(served, server, tmp_path):
    proxied = launch("owner/name", tmp_path, "http://hub.invalid", HTTP_PROXY=server.url)
    assert finished(proxied) == ""
    assert weights(tmp_path).read_bytes() == WEIGHTS


def test_a_certificate_is_trusted_only_if_the_user_says_so(served, tmp_path):
    certificate = DATA / "loopback.pem"
    with Hub(certificate) as secure:
        secure.add("owner/name", served)
        said = finished(launch("owner/name", tmp_path, secure.url))
        assert "a certificate that this machine does not trust" in said
        assert "SSL_CERT_FILE" in said
        trusted = launch("owner/name", tmp_path, secure.url, SSL_CERT_FILE=str(certificate))
        assert finished(trusted) == ""
    assert weights(tmp_path).read_bytes() == WEIGHTS


@pytest.mark.parametrize("columns", [80, 44])
def test_a_terminal_shows_bytes_rate_and_time_left_file_by_file(columns, served, server, tmp_path):
    server.bytes_per_s = 500_000
    show = "from vlmcli import hub, output\nwith output.downloads() as watch:\n"
    show += "    hub.resolve('owner/name', watch=watch)\nprint('whole')"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": server.url}
    terminal = spawn([sys.executable, "-c", show], env=environment, columns=columns)
    terminal.read_until("kB/s" if columns > 60 else "00:0", 30)
    terminal.read_until("  model", 10)
    shown = terminal.screen()
    assert shown[0].startswith("owner/name") and shown[1].startswith("  model")
    if columns > 60:
        assert "/2.0 MB" in shown[0] and re.search(r"\d\d:\d\d", shown[0])
    assert max(len(line.rstrip()) for line in shown) <= columns
    assert terminal.wait(30) == 0
    lines = [line.strip() for line in terminal.screen() if line.strip()]
    assert lines == ["whole"]  # the bars are gone


def test_a_cache_that_cannot_be_written_serves_what_it_holds(served, server, tmp_path):
    assert finished(launch("owner/name", tmp_path, server.url)) == ""
    for folder in [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]:
        if folder != served:
            folder.chmod(0o555)
    server.requests.clear()
    reading = launch("owner/name", tmp_path, server.url, before=without_the_powers_of_root)
    other = launch("owner/name@" + "2" * 40, tmp_path, server.url)
    assert finished(reading) == "" and "no revision" in finished(other)
    (served / "added.json").write_text("{}")
    server.add("owner/name", served, revisions={"new": "3" * 40})
    asked = launch("owner/name@new", tmp_path, server.url, before=without_the_powers_of_root)
    said = finished(asked)
    for folder in tmp_path.rglob("*"):
        if folder.is_dir():
            folder.chmod(0o755)
    assert "no access to" in said and "HF_HOME" in said


def without_the_powers_of_root() -> None:
    """Let the modes of files count for root too: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; the process that is run lacks it
