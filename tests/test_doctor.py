"""`vlm doctor`: what it finds, in words and as JSON, and which exit code that comes to."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import av.codec
import PIL.features
import pytest
import terminal
import torch
from conftest import Run, model
from hub_server import Hub
from huggingface_hub import constants

from vlmcli import __version__, device, hub
from vlmcli.diagnosis import formats
from vlmcli.formats import FORMATS
from vlmcli.models.catalog import RECOMMENDED

Report = Callable[..., dict[str, Any]]

SECRET = "hf_ThisIsNobodysToken"


@pytest.fixture
def report(run: Run) -> Report:
    """What `vlm doctor --json` says; "err" is what stands on stderr beside it."""

    def doctor(*flags: str) -> dict[str, Any]:
        code, out, err = run("doctor", "--json", *flags)
        assert out.count("\n") == 1
        found: dict[str, Any] = json.loads(out)
        assert found["exit_code"] == code and found["works"] is (code == 0)
        assert bool(err) is (code != 0) and err.count("\n") <= 1
        return found | {"err": err}

    return doctor


def accounts(server: Hub) -> set[str]:
    """The tokens that the Hub takes from now on; it says who owns one, as the real one does."""
    tokens: set[str] = set()
    plain: Any = server.server.RequestHandlerClass

    class WithAccounts(plain):  # type: ignore[misc]
        def do_GET(self) -> None:  # noqa: N802
            if self.path != "/api/whoami-v2":
                return super().do_GET()
            self.hub.requests.append("GET /api/whoami-v2")
            if self.headers.get("Authorization") in [f"Bearer {token}" for token in tokens]:
                return self.send_json({"name": "ann"})
            return self.refuse(401)

    server.server.RequestHandlerClass = WithAccounts
    return tokens


def cached_model(server: Hub, tmp_path: Path, kind: str = "llava", name: str = "owner/eye") -> None:
    """Fetch a model of that kind into the cache."""
    folder = tmp_path / name.replace("/", "-")
    server.add(name, model(folder, config__json=json.dumps({"model_type": kind})))
    hub.resolve(name)
    server.requests.clear()


# the facts


def test_every_fact_has_its_place_and_a_state(cache: Path, report: Report) -> None:
    found = report()
    named = {
        "software": "vlm python platform torch transformers huggingface_hub pillow av torchvision",
        "device": "accelerator dtype int8 memory cpu_cores",
        "formats": "pictures video",
        "extras": " ".join(
            extra for extra in metadata.metadata("vlmcli").get_all("Provides-Extra", [])
        ).replace("test", ""),
        "settings": "config",
        "hub": "endpoint token",
        "models": "cache free_space features cached built_in default ready",
        "terminal": "stdout term unicode colours pictures",
    }
    for group, keys in named.items():
        assert set(found[group]) == set(keys.split())
        for fact in found[group].values():
            assert fact["value"] and fact["state"] in ("ok", "note", "warning", "problem")
    assert found["version"] == __version__


def test_versions_are_those_that_are_installed(cache: Path, report: Report) -> None:
    software = report()["software"]
    assert software["torch"]["value"] == metadata.version("torch")
    for library in ("transformers", "huggingface_hub", "av", "pillow"):
        assert software[library]["value"] == metadata.version(library)


def test_the_device_is_the_one_that_answers_would_come_from(cache: Path, report: Report) -> None:
    chosen, found = device.choose(), report()["device"]
    assert found["accelerator"]["device"] == chosen.name
    assert chosen.name_why in found["accelerator"]["value"]
    assert found["dtype"]["value"] == f"{chosen.dtype_name}: {chosen.dtype_why}"
    assert 0 < found["memory"]["free_bytes"] <= found["memory"]["total_bytes"]
    assert 0 < found["cpu_cores"]["usable"] <= found["cpu_cores"]["present"]


def test_flags_choose_the_device_and_the_dtype(cache: Path, report: Report) -> None:
    found = report("--device", "cpu", "--dtype", "fp16")["device"]
    assert found["accelerator"]["value"] == "cpu: as asked"
    assert found["dtype"]["value"] == "float16: as asked"


@pytest.mark.parametrize(
    ("flags", "code", "name"),
    [(("--device", "cuda:99"), 5, "accelerator"), (("--dtype", "int1"), 2, "dtype")],
)
def test_a_device_or_dtype_that_is_not_here_is_a_problem(
    cache: Path, report: Report, flags: tuple[str, str], code: int, name: str
) -> None:
    found = report(*flags)
    assert found["exit_code"] == code
    assert found["device"][name]["state"] == "problem" and flags[1] in found["err"]


def test_a_device_that_cannot_compute_is_a_problem(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nlong story")

    monkeypatch.setattr(torch, "ones", refuse)
    found = report()
    assert found["exit_code"] == 5
    assert "no kernel image is available" in found["device"]["accelerator"]["value"]


def test_a_gpu_that_torch_cannot_use_is_told(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "version").touch()
    monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    found = report()["device"]["accelerator"]
    assert found["state"] == "warning" and "not built for the NVIDIA GPU" in found["value"]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "built for 13.0" in report()["device"]["accelerator"]["value"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES hides" in report()["device"]["accelerator"]["value"]
    assert report("--device", "cpu")["device"]["accelerator"]["state"] == "ok"


def test_every_format_of_pictures_is_looked_for(cache: Path, report: Report) -> None:
    assert [*formats.PILLOW, *formats.EXTRAS] == FORMATS.replace(" and ", ", ").split(", ")
    found = report()["formats"]["pictures"]
    assert set(found["readable"]) | set(found["missing"]) == {*formats.PILLOW, *formats.EXTRAS}


def test_formats_that_are_missing_are_told(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIL.features, "check", lambda library: library != "avif")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    found = report()["formats"]["pictures"]
    assert found["missing"] == ["AVIF", "HEIC"] and "JPEG" in found["readable"]
    assert found["state"] == "warning" and "pillow" in found["hint"]


def test_video_codecs_are_asked_of_the_decoders_that_are_there(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"h264", "hevc", "vp9", "av1", "mpeg4"} <= set(report()["formats"]["video"]["readable"])
    codec = av.codec.Codec

    def without_dav1d(name: str, mode: str) -> Any:
        return codec("no-such-codec" if name == "libdav1d" else name, mode)

    monkeypatch.setattr(av.codec, "Codec", without_dav1d)
    found = report()["formats"]["video"]
    assert (found["missing"], found["state"]) == (["av1"], "warning")


def test_a_missing_extra_comes_with_the_line_that_installs_it(
    cache: Path, run: Run, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version

    def without_heif(package: str) -> str:
        if package == "pillow-heif":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without_heif)
    extras = report()["extras"]
    assert extras["heif"]["state"] == "note" and extras["heif"]["missing"] == ["pillow-heif"]
    assert extras["heif"]["hint"] == "pip install 'vlmcli[heif]'"
    assert extras["pdf"]["state"] == "ok" and "test" not in extras
    assert "pip install 'vlmcli[heif]'" in run("doctor")[1]


def test_a_program_that_was_never_installed_has_no_extras_to_tell(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(package: str) -> None:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "metadata", unknown)
    assert "extras" not in report()


# the Hub and the token


def test_a_hub_that_answers_is_enough(cache: Path, server: Hub, report: Report) -> None:
    found = report()
    assert found["exit_code"] == 0 and found["hub"]["endpoint"]["reachable"] is True
    assert found["models"]["ready"]["download"] is True
    assert RECOMMENDED.name in found["models"]["ready"]["value"]
    assert found["hub"]["token"]["set"] is False
    assert len(server.requests) == 1


@pytest.mark.parametrize("flags", [("--offline",), ()])
def test_offline_costs_no_request_and_is_told(
    cache: Path,
    server: Hub,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    if not flags:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = report(*flags)
    assert found["exit_code"] == 4 and server.requests == []
    assert found["hub"]["endpoint"]["reachable"] is None
    assert (flags or ("HF_HUB_OFFLINE",))[0] in found["hub"]["endpoint"]["value"]
    assert found["models"]["ready"]["state"] == "problem" and "no model is here" in found["err"]


def test_a_hub_that_never_answers_costs_three_seconds(
    cache: Path, server: Hub, report: Report
) -> None:
    server.silent_after = 0
    report("--offline")  # what is imported once is imported now
    start_s = time.monotonic()
    found = report()
    assert time.monotonic() - start_s < 5
    assert found["exit_code"] == 4 and found["hub"]["endpoint"]["reachable"] is False
    assert "in time" in found["hub"]["endpoint"]["value"]


def test_a_hub_in_trouble_and_a_page_that_is_no_hub_are_out_of_reach(
    cache: Path, server: Hub, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 503
    assert "503" in report()["hub"]["endpoint"]["value"]
    server.status = 404  # without the code that a Hub gives
    assert "not answer as a Hub" in report()["hub"]["endpoint"]["value"]
    monkeypatch.setattr(constants, "ENDPOINT", "http://user:pa55@127.0.0.1:1")
    found = report()
    assert found["hub"]["endpoint"]["reachable"] is False and "pa55" not in json.dumps(found)


def test_the_token_is_asked_after_and_never_shown(
    cache: Path, server: Hub, run: Run, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    taken = accounts(server)
    taken.add(SECRET)
    found = report()["hub"]["token"]
    assert (found["from"], found["accepted"], found["state"]) == ("HF_TOKEN", True, "ok")
    taken.clear()
    found = report()
    assert found["hub"]["token"]["accepted"] is False
    assert found["hub"]["token"]["state"] == "warning"
    # The real Hub refuses public models as well with a token that it does not know.
    assert found["exit_code"] == 4 and "refuses the token" in found["err"]
    assert SECRET[3:] not in json.dumps(found) + "".join(run("doctor")[1:])


def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(
    cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}→")
    _, out, err = run("doctor")
    assert "a character that none can" in out and SECRET not in out + err


def test_a_token_in_a_file_is_told_by_its_file(
    cache: Path, server: Hub, report: Report, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(SECRET)
    server.silent_after = 1
    found = report()
    assert found["hub"]["token"]["from"] == str(tmp_path / "token")
    assert found["hub"]["token"]["accepted"] is None and found["exit_code"] == 0


# models


def test_a_cached_model_that_sees_is_enough_without_a_hub(
    cache: Path, server: Hub, report: Report, tmp_path: Path
) -> None:
    cached_model(server, tmp_path)
    cached_model(server, tmp_path, "bert", "owner/words")
    found = report("--offline")
    assert found["exit_code"] == 0
    assert found["models"]["cached"]["ready"] == ["owner/eye"]
    assert found["models"]["cached"]["others"] == 1


def test_a_look_is_no_use_of_a_model(
    cache: Path, server: Hub, report: Report, tmp_path: Path
) -> None:
    cached_model(server, tmp_path)
    files = [file.resolve() for file in hub.resolve("owner/eye").folder.iterdir()]
    for file in files:
        os.utime(file, (1e9, 1e9))
    report("--offline")
    assert {file.stat().st_atime for file in files} == {1e9}


def test_many_cached_models_are_counted_and_a_few_are_named(
    cache: Path, server: Hub, report: Report, tmp_path: Path
) -> None:
    for number in range(6):
        cached_model(server, tmp_path, name=f"owner/eye-{number}")
    found = report("--offline")["models"]["cached"]
    assert len(found["ready"]) == 6
    assert found["value"].startswith("6: owner/eye-0, ") and found["value"].endswith("…")


def test_a_cached_model_that_sees_nothing_is_not_enough(
    cache: Path, server: Hub, report: Report, tmp_path: Path
) -> None:
    cached_model(server, tmp_path, "bert", "owner/words")
    assert report("--offline")["exit_code"] == 4


def test_the_built_in_model_is_enough(cache: Path, report: Report, tmp_path: Path) -> None:
    model(tmp_path / "builtin", config__json='{"model_type": "llava"}')
    found = report("--offline")
    assert found["exit_code"] == 0 and found["models"]["built_in"]["ships"] is True


def test_the_default_model_is_told_with_its_origin(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert report()["models"]["default"]["value"] == "auto (default)"
    monkeypatch.setenv("VLM_MODEL", "owner/unseen")
    found = report()["models"]["default"]
    assert (found["from"], found["state"]) == ("VLM_MODEL", "note")
    found = report("--offline")["models"]["default"]
    assert found["state"] == "warning" and "not in the cache" in found["value"]
    mine = model(tmp_path / "mine", config__json='{"model_type": "llava"}')
    monkeypatch.setenv("VLM_MODEL", str(mine))
    assert report("--offline")["exit_code"] == 0


def test_a_cache_that_cannot_be_written_is_no_place_for_a_download(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file/cache"))
    found = report()
    assert found["exit_code"] == 4 and "the cache cannot be written" in found["err"]
    assert found["models"]["cache"]["writable"] is False
    assert found["models"]["cache"]["path"] == str(tmp_path / "file/cache")


def test_the_cache_may_still_have_to_be_made_and_is_not_by_looking(
    cache: Path, report: Report
) -> None:
    found = report()["models"]["cache"]
    assert (found["exists"], found["writable"]) == (False, True) and not cache.exists()


def test_a_full_disk_is_no_place_for_a_download(
    cache: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage("/")._replace(free=RECOMMENDED.weight_bytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    found = report()
    assert found["exit_code"] == 4 and "too full" in found["err"]
    assert found["models"]["free_space"]["state"] == "warning"


# what is broken


def test_a_configuration_that_is_not_toml_is_one_finding_among_others(
    cache: Path, server: Hub, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(os.environ["VLM_CONFIG"]).write_text("model = ")
    monkeypatch.setenv("VLM_OFFLINE", "1")
    found = report()
    assert found["exit_code"] == 2 and "not TOML" in found["settings"]["config"]["value"]
    assert found["settings"]["config"]["state"] == "problem"
    assert found["software"]["torch"]["state"] == "ok"
    assert server.requests == []


def test_a_variable_that_says_nonsense_is_a_finding_and_asks_no_hub(
    cache: Path, server: Hub, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_TEMPERATURE", "warm")
    found = report()
    assert found["exit_code"] == 2 and "VLM_TEMPERATURE" in found["settings"]["config"]["value"]
    assert "because of the broken settings" in found["hub"]["endpoint"]["value"]
    assert server.requests == []


def test_a_flag_that_says_nonsense_is_a_usage_error(run: Run) -> None:
    code, out, err = run("doctor", "--device", " ")
    assert (code, out) == (2, "") and "--device" in err


def test_only_the_options_that_matter_are_there(run: Run) -> None:
    _, out, _ = run("doctor", "--help")
    assert all(flag in out for flag in ("--json", "--offline", "--device", "--dtype"))
    assert "--temperature" not in out and "--model" not in out
    assert run("doctor", "--temperature", "1")[0] == 2


def elsewhere(tmp_path: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`vlm doctor` as a process of its own, which imports from `tmp_path` first."""
    return subprocess.run(
        [sys.executable, "-m", "vlmcli", "doctor", *flags],
        env={**os.environ, "PYTHONPATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def broken(tmp_path: Path, library: str, error: str) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text(f"raise {error}")


@pytest.mark.slow
def test_a_broken_torchvision_is_told_and_does_no_harm(tmp_path: Path) -> None:
    broken(tmp_path, "torchvision", "RuntimeError('operator torchvision::nms does not exist')")
    done = elsewhere(tmp_path, "--json", "--offline")
    found = json.loads(done.stdout)["software"]
    assert found["torchvision"]["state"] == "warning"
    assert "nms does not exist" in found["torchvision"]["value"]
    assert found["transformers"]["state"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "error", "code"),
    [
        ("torch", "OSError('libcudart.so.13: cannot open shared object file')", 5),
        ("transformers", "ImportError('tokenizers>=99 is required')", 4),
        ("huggingface_hub", "ImportError('half an upgrade')", 4),
        ("PIL", "ImportError('libjpeg.so.8: cannot open')", 3),
    ],
)
def test_a_broken_library_is_the_finding_and_not_the_end(
    tmp_path: Path, library: str, error: str, code: int
) -> None:
    broken(tmp_path, library, error)
    done = elsewhere(tmp_path, "--json", "--offline")
    found = json.loads(done.stdout)
    states = {name: fact["state"] for name, fact in found["software"].items()}
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    name = {"PIL": "pillow"}.get(library, library)
    assert [name for name, state in states.items() if state == "problem"] == [name]
    assert error.split("'")[1] in found["software"][name]["value"]
    assert found["formats"]["video"] and found["terminal"]


@pytest.mark.slow
def test_a_home_that_is_not_there_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gone = str(tmp_path / "file/home")
    done = elsewhere(tmp_path, "--offline", HOME=gone, HF_HOME=f"{gone}/hf", VLM_CONFIG="")
    assert (done.returncode, done.stderr) == (0, "")  # what ships inside answers
    assert f"{gone}/hf/hub: cannot be written" in done.stdout


# the screen


def test_a_pipe_gets_one_line_a_finding_and_no_escapes(cache: Path, run: Run) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "") and "\x1b" not in out
    lines = out.splitlines()
    groups = [line for line in lines if line and not line.startswith(" ")]
    assert groups[:2] == ["software", "device"] and groups[-1] == "terminal"
    assert all(line[2:9].strip() in ("ok", "note", "warning") for line in lines if line[:1] == " ")
    (stdout,) = [line for line in lines if "  stdout " in line]
    assert stdout.endswith("not a terminal")


def on_terminal(columns: int, **environment: str) -> tuple[str, list[str]]:
    """All that is written, and what is then seen."""
    command = [sys.executable, "-m", "vlmcli", "doctor", "--offline"]
    shell = terminal.spawn(command, columns=columns, env=environment)
    shell.wait(60)
    return shell.text, shell.screen()


@pytest.mark.slow
def test_a_terminal_shows_marks_and_colours_and_says_what_it_can() -> None:
    text, screen = on_terminal(
        80, KITTY_WINDOW_ID="1", TERM_PROGRAM="", TMUX="", VLM_MODEL="owner/name"
    )
    seen = "\n".join(screen)
    assert "\x1b[32m  ✓" in text and "  ! default" in seen and "→ " in seen
    assert "a terminal, 80 x 24" in seen and "256" in seen


@pytest.mark.slow
def test_without_colours_nothing_is_coloured() -> None:
    text, screen = on_terminal(80, NO_COLOR="1")
    assert "\x1b[3" not in text.replace("\x1b[?25", "")
    assert any("none: NO_COLOR is set" in line for line in screen)


@pytest.mark.slow
def test_a_narrow_terminal_breaks_lines_and_cuts_nothing() -> None:
    _, screen = on_terminal(40)
    assert max(map(len, screen)) <= 40
    seen = " ".join(" ".join(screen).split())
    assert "yes: the built-in model answers" in seen


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"TERM": "xterm-kitty"}, "kitty graphics"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iTerm2 pictures"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color"}, "half blocks"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"}, "half blocks"),
    ],
)
def test_the_environment_tells_how_a_terminal_shows_pictures(
    environment: dict[str, str], shown: str
) -> None:
    kept = ("TERM", "TERM_PROGRAM", "TMUX", "LC_TERMINAL", "KITTY_WINDOW_ID", "KONSOLE_VERSION")
    clean = {name: value for name, value in os.environ.items() if name not in kept}
    script = "from vlmcli import output; print(output.abilities().pictures)"
    wrapped = ["env", "-i", *(f"{k}={v}" for k, v in {**clean, **environment}.items())]
    shell = terminal.spawn([*wrapped, sys.executable, "-c", script])
    shell.wait(30)
    assert shell.screen() == [shown]
