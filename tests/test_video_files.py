"""Files as they are found: what `vlm video` sees of each, read off a counter in every frame."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import av
import numpy as np
import pytest
from clips_here import SIZE, add_cover, counter, drawn, make, sound
from conftest import FakeEngine, Run
from PIL import Image

from vlmcli.messages import Video

See = Callable[..., tuple[Video, str]]


@pytest.fixture
def see(run: Run, fake_engine: FakeEngine) -> See:
    """What a model is shown of a clip, and what is said on stderr."""

    def seen(*arguments: object, stdin: bytes = b"") -> tuple[Video, str]:
        code, _, err = run("video", *arguments, stdin=stdin)
        assert code == 0, err
        (video,) = fake_engine.calls[-1][0][-1].videos
        return video, err

    return seen


def numbers(video: Video) -> list[int]:
    return [counter(frame) for frame in video.frames]


def shown_at(video: Video, fps: int = 25) -> list[int]:
    """The frames that a player would show at those times."""
    return [int(time_s * fps + 1e-6) for time_s in video.times_s]


def needs(codec: str) -> Any:
    return pytest.mark.skipif(
        codec not in av.codecs_available, reason=f"this build of PyAV cannot write {codec}"
    )


@pytest.mark.parametrize(
    "codec",
    [
        "libx264",
        pytest.param("libx265", marks=needs("libx265")),
        pytest.param("libvpx-vp9", marks=needs("libvpx-vp9")),
        pytest.param("libsvtav1", marks=needs("libsvtav1")),
        "mpeg4",
        "mjpeg",
    ],
)
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_codecs(see: See, tmp_path: Path, codec: str, suffix: str) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    clip = make(tmp_path / f"clip.{suffix}", codec=codec, pixels=pixels)
    video, err = see(clip, "--max-frames", 5)
    assert (numbers(video), err) == ([5, 15, 25, 35, 45], "")
    assert video.times_s == pytest.approx((0.2, 0.6, 1.0, 1.4, 1.8))
    assert video.duration_s == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("suffix", ["ts", "avi", "mov", "mpg", "flv", "webm", "nut"])
def test_containers(see: See, tmp_path: Path, suffix: str) -> None:
    codec = {"avi": "mpeg4", "mpg": "mpeg2video", "webm": "libvpx-vp9"}.get(suffix, "libx264")
    video, err = see(make(tmp_path / f"clip.{suffix}", codec=codec), "--max-frames", 5)
    assert (len(video.frames), err) == (5, "")
    # FFmpeg guesses some times of the old program streams, and is half a frame off.
    off = 1 if suffix == "mpg" else 0
    pairs = zip(numbers(video), shown_at(video), strict=True)
    assert all(abs(number - at) <= off for number, at in pairs)


@pytest.mark.parametrize("gop", [1, 10, 1000])
def test_every_frame_of_every_gop_is_found_by_its_time(see: See, tmp_path: Path, gop: int) -> None:
    clip = make(tmp_path / "clip.mp4", 200, options={"g": str(gop), "bf": "3"})
    every, _ = see(clip, "--max-frames", 200)
    assert numbers(every) == list(range(200))
    few, _ = see(clip, "--max-frames", 9)
    assert numbers(few) == shown_at(few)


def test_a_varying_frame_rate_is_sampled_by_time(see: See, tmp_path: Path) -> None:
    starts = [0, 1, 2, 25, 26, 100]
    clip = make(tmp_path / "clip.mp4", 6, starts=starts, options={"bf": "0"})
    video, _ = see(clip, "--max-frames", 4)
    expected = [max(i for i, at in enumerate(starts) if at <= t * 25) for t in video.times_s]
    assert numbers(video) == expected == [2, 4]  # each once, though it is shown for seconds


def test_a_still_that_others_follow_is_not_passed_over(see: See, tmp_path: Path) -> None:
    starts = [*range(40), *range(400, 440)]  # fourteen seconds of one frame, on which none builds
    clip = make(tmp_path / "clip.mp4", 80, starts=starts, options={"g": "1000", "bf": "3"})
    video, _ = see(clip, "--start", "10", "--end", "12", "--max-frames", 1)
    assert numbers(video) == [39]


@pytest.mark.parametrize(
    ("turned", "size"), [(90, (160, 288)), (180, (288, 160)), (-90, (160, 288))]
)
def test_a_turned_clip_is_upright(
    see: See, tmp_path: Path, turned: int, size: tuple[int, int]
) -> None:
    clip = make(tmp_path / "clip.mp4", rotation=turned)
    with av.open(str(clip)) as file:
        rotation = next(file.decode(video=0)).rotation
    video, _ = see(clip, "--max-frames", 3)
    assert abs(rotation) == abs(turned) and (video.width, video.height) == size
    assert [counter(f.rotate(-rotation, expand=True)) for f in video.frames] == shown_at(video)


def test_pixels_that_are_not_square_are_made_so(see: See, tmp_path: Path) -> None:
    wide, _ = see(make(tmp_path / "wide.mp4", aspect=Fraction(2, 1)))
    tall, _ = see(make(tmp_path / "tall.mp4", aspect=Fraction(1, 2)))
    assert (wide.width, wide.height) == (576, 160) and numbers(wide) == shown_at(wide)
    assert (tall.width, tall.height) == (288, 320) and numbers(tall) == shown_at(tall)


@needs("libx265")
def test_ten_bits(see: See, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", codec="libx265", pixels="yuv420p10le")
    video, _ = see(clip, "--max-frames", 5)
    assert numbers(video) == [5, 15, 25, 35, 45]
    assert near(video, (90, 60, 30))


def near(video: Video, colour: tuple[int, int, int], within: int = 6) -> bool:
    """Whether the ground of the first frame has this colour."""
    frame = video.frames[0]
    got = frame.getpixel((frame.width // 2, frame.height * 3 // 4))
    return all(abs(a - b) <= within for a, b in zip(got, colour, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.58), (18, 0.75)])
def test_hdr_is_brought_to_what_a_screen_shows(
    see: See, tmp_path: Path, transfer: int, white: float
) -> None:
    """PQ and HLG have paper white at 58 % and 75 % of their signal (ITU-R BT.2408)."""
    path = tmp_path / "clip.mkv"
    steps = {0: 0.0, 1: white / 2, 2: white, 3: 1.0}  # black, grey, paper, the brightest
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        context.color_range = 1
        frame = av.VideoFrame(256, 64, "yuv420p10le")
        luma = np.zeros((64, 256), np.uint16)
        for i, signal in steps.items():
            luma[:, i * 64 : i * 64 + 64] = round(64 + 876 * signal)
        for plane, values in zip(
            frame.planes, (luma, *[np.full((32, 128), 512, np.uint16)] * 2), strict=True
        ):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes())
        for i in range(5):
            frame.pts = i
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    video, _ = see(path, "--max-frames", 1)
    black, grey, paper, brightest = (video.frames[0].getpixel((i * 64 + 32, 32)) for i in range(4))
    assert max(black) < 12 and min(brightest) > 245
    assert 150 < paper[0] < 225 and black[0] < grey[0] < paper[0]  # and not washed out
    for colour in (grey, paper):
        assert max(colour) - min(colour) < 8  # no colour where there was none


def test_the_largest_of_several_streams_is_shown_and_no_cover(see: See, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4")
    with_cover, _ = see(add_cover(clip, tmp_path / "cover.mp4"), "--max-frames", 5)
    assert numbers(with_cover) == [5, 15, 25, 35, 45]

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as file:
        streams = []
        for size in ((96, 64), SIZE):
            stream = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            streams.append((stream, size))
        for i in range(50):
            for stream, size in streams:
                picture = drawn(i if size == SIZE else 0, size)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream, _ in streams:
            file.mux(stream.encode())
    two, _ = see(path, "--max-frames", 5)
    assert numbers(two) == [5, 15, 25, 35, 45]


def test_a_file_that_does_not_say_how_long_it_is(see: See, tmp_path: Path) -> None:
    """A raw stream has no times at all; a live one has no length and no index."""
    raw, _ = see(make(tmp_path / "clip.h264", form="h264"), "--max-frames", 5)
    assert numbers(raw) == [5, 15, 25, 35, 45]

    path = tmp_path / "live.mkv"
    with path.open("wb") as file:
        make(_Unseekable(file), form="matroska")
    with av.open(str(path)) as opened:
        assert opened.duration is None and opened.streams.video[0].duration is None
    video, _ = see(path, "--max-frames", 5)
    assert numbers(video) == [5, 15, 25, 35, 45] and video.duration_s == pytest.approx(2, abs=0.05)


class _Unseekable:
    """A file that can only be written on, as a pipe."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return int(self._file.write(data))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_pictures_that_move(see: See, tmp_path: Path, suffix: str) -> None:
    first, *rest = [Image.fromarray(drawn(i)) for i in range(10)]
    path = tmp_path / f"clip.{suffix}"
    lasting = [100] * 5 + [200] * 5
    first.save(path, save_all=True, append_images=rest, duration=lasting, loop=0)
    video, _ = see(path, "--max-frames", 5)
    assert video.duration_s == pytest.approx(1.5)
    assert numbers(video) == [1, 4, 6, 7, 9]  # at 0.15, 0.45, 0.75, 1.05 and 1.35 s


def test_stdin_and_a_url(see: See, run: Run, tmp_path: Path) -> None:
    data = make(tmp_path / "clip.mp4").read_bytes()
    piped, _ = see("-", "--max-frames", 5, stdin=data)
    assert numbers(piped) == [5, 15, 25, 35, 45]
    with _serving(tmp_path) as url:
        fetched, _ = see(f"{url}/clip.mp4", "--max-frames", 5)
        assert numbers(fetched) == [5, 15, 25, 35, 45]
        code, _, err = run("video", f"{url}/clip.mp4", "--max-download-bytes", 1000)
        assert code == 3 and "larger than 1000 bytes" in err
    code, _, err = run("video", "-", stdin=b"")
    assert code == 3 and "stdin is empty; pipe a clip in" in err


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """A web server of a folder, on loopback."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_clip_that_is_cut_short_is_used_as_far_as_it_goes(
    see: See, tmp_path: Path, suffix: str
) -> None:
    front = {"movflags": "faststart"} if suffix == "mp4" else {}  # the index before the pictures
    whole = make(tmp_path / f"whole.{suffix}", 500, container=front)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: len(data) // 2])
    video, err = see(cut, "--max-frames", 8)
    assert numbers(video) == shown_at(video) and len(video.frames) == 8
    assert 5 < video.times_s[-1] < 12
    assert err.count("\n") == 1 and f"cut.{suffix} is damaged or cut short at 0:" in err


def test_damage_in_the_middle_costs_only_what_is_damaged(see: See, tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "whole.mp4", 500).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    (tmp_path / "bad.mp4").write_bytes(data)
    video, err = see(tmp_path / "bad.mp4", "--max-frames", 20)
    assert len(video.frames) >= 17 and video.times_s[-1] > 19
    assert err.count("\n") == 1 and "damaged" in err
    wrong = [n for n, at in zip(numbers(video), shown_at(video), strict=True) if n != at]
    assert len(wrong) <= 2  # next to the damage an older frame stands in


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("sound", "there is only sound in it"),
        ("text", "not a video; it seems to be text"),
        ("empty", "is empty"),
        ("no moov", "not a readable video"),
        ("playlist", "not a video; it seems to be text"),
    ],
)
def test_what_is_no_clip_is_one_line(run: Run, tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "clip.mp4"
    match content:
        case "sound":
            shutil.move(sound(tmp_path / "s.m4a"), path)
        case "text":
            path.write_text("hello")
        case "empty":
            path.touch()
        case "no moov":
            whole = make(tmp_path / "whole.mp4").read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
        case "playlist":
            path.write_text(f"ffconcat version 1.0\nfile {make(tmp_path / 'secret.mp4')}\n")
    code, out, err = run("video", path)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert says in err


def test_a_playlist_behind_the_magic_of_a_film_opens_nothing(run: Run, tmp_path: Path) -> None:
    secret = make(tmp_path / "secret.mp4")
    path = tmp_path / "list.mp4"
    path.write_bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n\xff" + str(secret).encode())
    code, out, err = run("video", path)
    assert (code, out) == (3, "") and "not a readable video" in err


def test_too_many_pixels_are_refused(run: Run, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4")
    code, _, err = run("video", clip, "--max-pixels", "1000")
    assert code == 3 and "288 x 160 is more than 1000 pixels; --max-pixels" in err


def test_large_frames_are_scaled_while_they_are_decoded(see: See, tmp_path: Path) -> None:
    big = make(tmp_path / "clip.mp4", 3, size=(1920, 1080))
    video, _ = see(big)
    assert video.width * video.height <= 1 << 20
    assert video.width / video.height == pytest.approx(1920 / 1080, abs=0.01)
    assert numbers(video) == shown_at(video)
