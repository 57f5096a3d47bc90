"""The report and the page of attention: what is in them, and that a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, copy_run, run_s2s

from s2scli.config import ReportOptions
from s2scli.corpus import sample_corpus
from s2scli.errors import S2SError
from s2scli.events import Event, Notice
from s2scli.pages import as_json
from s2scli.pages.curves import MOST_POINTS, averaged, read_training, thin
from s2scli.pages.fonts import hangul_face
from s2scli.pages.maps import AttentionMap, encode_map, encode_weights
from s2scli.plot import draw_maps
from s2scli.report import MAP_BYTES, _fit, report

EVIL = [
    "<script>window.hacked = 1</script>",
    "</td></tr></table><img src=x onerror='window.hacked = 2'>",
    "javascript:window.hacked=3",
    '<a href="javascript:window.hacked=4">a b</a>',
    "</script><script>window.hacked=5</script>",
    "\u2028 \u2029 & &amp; <!-- ]]> ${window.hacked=6}",
    "السلام عليكم",
    "한국어 문장",
]
"""Lines that an HTML parser would take for something, and two in other scripts."""
PHONE, LAPTOP = (390, 844), (1366, 768)


def write_test_set(run: Path, sources: list[str], references: list[str]) -> None:
    for side, lines in (("source", sources), ("target", references)):
        text = "".join(line + "\n" for line in lines)
        (run / "data" / f"test.{side}.txt").write_text(text, encoding="utf-8", newline="\n")


def options(run: Path, **others: Any) -> ReportOptions:
    return ReportOptions(run=run, threads=1, device="cpu", precision="fp32", **others)


def told(report_of: ReportOptions) -> tuple[Path, str]:
    """The report, and all that was said of it."""
    events: list[Event] = []
    path = report(report_of, events.append)
    return path, "\n".join(e.text for e in events if isinstance(e, Notice))


def content(path: Path) -> dict[str, Any]:
    """The data within a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"))
    assert found
    return dict(json.loads(found[1]))


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a test set with evil lines, a blank one and one that is too long."""
    run = copy_run(trained, tmp_path_factory.mktemp("report") / "<i>run")
    words = ["a b c", "d e f g", "h a", "b c d e f", "g h"] * 5
    lines = [*words, *EVIL, "", " ".join("abcdefgh" * 3)]
    write_test_set(run, lines, [" ".join(reversed(line.split())) for line in lines])
    done = run_s2s("report", "--run", run, "--threads", 1, "--beam", 2, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "translated in pieces: 1 line" in done.stderr
    return run / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, from the system's packages."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver (on Debian the packages chromium, chromium-driver)")
    settings = webdriver.ChromeOptions()
    settings.binary_location = chromium
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
        ):
            settings.add_argument(argument)
        settings.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        running = webdriver.Chrome(options=settings, service=webdriver.ChromeService(executable_path=driver))
        try:
            yield running
        finally:
            running.quit()


class Reader:
    """Somebody who looks at a page."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.browser = browser
        self.resize(LAPTOP)
        browser.get(path.as_uri())

    def resize(self, size: tuple[int, int], scheme: str = "light") -> None:
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def ask(self, expression: str, *arguments: Any) -> Any:
        return self.browser.execute_script(f"return {expression}", *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def texts(self, selector: str) -> list[str]:
        return list(
            self.ask("[...document.querySelectorAll(arguments[0])].map(n => n.textContent)", selector)
        )

    def click(self, selector: str) -> None:
        element = self.all(selector)[0]
        self.ask("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def unharmed(self) -> None:
        """Nothing was obeyed, nothing was asked of the network, and the console is silent."""
        assert self.ask("window.hacked === undefined")
        assert self.ask("document.scripts.length") == 2
        assert self.ask("document.querySelectorAll('img, iframe, a:not([href^=\"#\"])').length") == 0
        assert self.ask("performance.getEntriesByType('resource').map(e => e.name)") == []
        assert self.browser.get_log("browser") == []


@pytest.fixture
def reader(browser: Any, page: Path) -> Iterator[Reader]:
    someone = Reader(browser, page)
    yield someone
    someone.unharmed()


def test_it_shows_the_run(reader: Reader) -> None:
    assert reader.texts("h1") == ["<i>run"]
    assert reader.browser.title == "<i>run - s2s report"
    assert reader.texts("nav a") == ["Scores", "Length", "Training", "Data", "Best and worst", "Translations"]
    assert reader.texts(".score h3") == ["BLEU", "chrF2", "TER"]
    assert all("95 % interval" in text for text in reader.texts(".score"))
    assert reader.ask("document.querySelectorAll('.chart svg[role=img]').length") == 4
    assert reader.texts(".picks button") and len(reader.texts(".picks li")) == 10
    assert "1,500" in reader.texts("#data .numbers")[0]
    assert len(reader.texts(".lines tbody tr")) == 35


def test_the_curves_can_be_read(reader: Reader) -> None:
    from selenium.webdriver import Keys

    assert reader.texts(".legend")[0] == "trainingvalidation"
    chart = reader.all(".chart svg[tabindex]")[0]
    reader.ask("arguments[0].focus()", chart)
    reader.press(Keys.ARROW_LEFT)
    assert re.fullmatch(r"training [\d.]+ at 300validation [\d.]+ at 300", reader.texts(".legend")[0])


def test_what_looks_like_html_is_shown_as_text(reader: Reader) -> None:
    assert reader.texts(".lines td.s")[25:33] == EVIL
    assert reader.texts(".lines td.r")[25] == " ".join(reversed(EVIL[0].split()))


def test_scripts_have_their_direction_and_font(reader: Reader) -> None:
    directions = "[...document.querySelectorAll('.lines td.s .text')].map(n => getComputedStyle(n).direction)"
    assert [i for i, way in enumerate(reader.ask(directions)) if way == "rtl"] == [31]
    fonts = (
        "document.fonts.ready.then(fonts => [...fonts].map(f => f.family.replaceAll('\"', '') + f.status))"
    )
    assert reader.ask(fonts) == ["S2S Hangulloaded"]
    # Behind another font, the first text that needs it is drawn in none.
    assert reader.ask("getComputedStyle(document.body).fontFamily").startswith('"S2S Hangul"')


def test_sorting(reader: Reader) -> None:
    def scores() -> list[float]:
        return [float(text.replace(",", "")) for text in reader.texts(".lines td.q")]

    unsorted = scores()
    reader.click(".lines th.q button")
    assert scores() == sorted(unsorted) != unsorted
    assert reader.ask("document.querySelector('.lines th.q').ariaSort") == "ascending"
    reader.click(".lines th.q button")
    assert scores() == sorted(unsorted, reverse=True)
    reader.ask(
        "(o => { o.value = 'l -1'; o.dispatchEvent(new Event('change')); })(document.getElementById('order'))"
    )
    lengths = [int(text) for text in reader.texts(".lines td.w")]
    assert lengths == sorted(lengths, reverse=True)
    reader.click(".lines th.n button")
    assert scores() == unsorted


def test_searching(reader: Reader) -> None:
    reader.all("#find")[0].send_keys("SCRIPT")
    assert reader.texts(".lines td.n") == ["26", "28", "29", "30"]
    assert reader.texts("output") == ["4 of 35 lines"]
    assert {text.lower() for text in reader.texts(".lines mark")} == {"script"}
    reader.all("#find")[0].clear()
    reader.all("#find")[0].send_keys("(.*) nowhere")
    assert reader.texts(".lines tbody") == ["No line holds this."]
    reader.all("#find")[0].clear()
    reader.all("#find")[0].send_keys("한국")
    assert reader.texts(".lines td.s") == [EVIL[7]]


def test_a_click_shows_the_attention(reader: Reader, page: Path) -> None:
    from selenium.webdriver import Keys

    line = content(page)["sentences"]["rows"][0]
    reader.click(".lines tbody tr:first-child td.s")
    assert reader.ask("document.querySelector('dialog').open")
    assert reader.texts("dialog h2") == ["Line 1"]
    assert reader.texts("dialog tbody th") == line["m"]["t"]
    assert reader.texts("dialog thead th") == line["m"]["s"]
    sums = reader.ask("weightsOf(lines[0].m).map(row => row.reduce((a, b) => a + b))")
    np.testing.assert_allclose(sums, 1, atol=0.05)
    reader.ask("document.querySelector('dialog tbody td').focus()")
    reader.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert re.fullmatch(
        r"\d+ % of the attention for . \(token 2\) is on . \(token 2\)", reader.texts(".readout")[0]
    )
    assert len(reader.all("dialog th.here")) == 2
    reader.press(Keys.ESCAPE)
    assert not reader.ask("document.querySelector('dialog').open")


def test_the_keyboard_is_enough(reader: Reader) -> None:
    from selenium.webdriver import Keys

    reader.ask("document.querySelector('.lines tbody button').focus()")
    reader.press(Keys.ARROW_DOWN, Keys.ENTER)
    assert reader.texts("dialog h2") == ["Line 2"]
    reader.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert reader.texts("dialog h2") == ["Line 4"]
    reader.press(Keys.ARROW_LEFT, Keys.ESCAPE)
    assert not reader.ask("document.querySelector('dialog').open")


def test_lines_without_a_map_say_so(reader: Reader) -> None:
    reader.click(".lines tbody tr:nth-child(34) button")
    assert "A blank line has no attention." in reader.texts("dialog")[0]
    assert not reader.all("dialog table")


@pytest.mark.parametrize("size", [PHONE, LAPTOP])
def test_it_fits_the_screen(reader: Reader, size: tuple[int, int]) -> None:
    wide = "document.scrollingElement.scrollWidth <= innerWidth"
    colours = []
    for scheme in ("light", "dark"):
        reader.resize(size, scheme)
        assert reader.ask("innerWidth") == size[0]
        assert reader.ask(wide)
        colours.append(reader.ask("getComputedStyle(document.body).backgroundColor"))
        # The charts are as wide as their boxes, and their letters as large as on any screen.
        assert reader.ask(
            "[...document.querySelectorAll('.chart svg[role=img]')].every(s => s.clientWidth <= innerWidth)"
        )
    assert colours[0] != colours[1]
    reader.click(".lines tbody tr:last-child button")
    assert reader.ask(wide)
    assert reader.ask("document.querySelector('dialog').scrollWidth <= innerWidth")
    edges = "(r => [r.left, r.right])(document.querySelector('dialog').getBoundingClientRect())"
    left, right = reader.ask(edges)
    assert 0 <= left < right <= size[0]


def test_a_weight_is_told_beside_a_long_map(reader: Reader) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    reader.click(".lines tbody tr:last-child button")
    last = reader.all("dialog tbody tr:last-child td:last-child")[0]
    reader.ask("arguments[0].scrollIntoView({block: 'end', behavior: 'instant'})", last)
    ActionChains(reader.browser).move_to_element(last).perform()
    assert "of the attention for ⏎" in reader.texts(".readout")[0]
    visible = (
        "(r => document.elementFromPoint(r.left + 5, r.top + 5).closest('.readout') !== null)"
        "(document.querySelector('.readout').getBoundingClientRect())"
    )
    assert reader.ask(visible)


def test_the_page_of_attention(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    tokens = (*EVIL, "▁e\u0301", "⏎")
    weights = np.random.default_rng(1).random((len(tokens), len(tokens)), dtype=np.float32) ** 9
    weights[3] = 0
    maps = [
        AttentionMap(
            number=n,
            source=EVIL[n % 8],
            target=EVIL[1],
            source_tokens=tokens,
            target_tokens=tokens,
            weights=weights,
        )
        for n in range(25)
    ]
    draw_maps(maps, tmp_path / "a.html")
    reader = Reader(browser, tmp_path / "a.html")
    assert len(reader.texts("details")) == 25
    assert len(reader.all("table")) == 1
    np.testing.assert_allclose(reader.ask("weightsOf(data.lines[0].map)"), weights, atol=0.5 / 63 + 1e-6)
    assert reader.texts("details[open] tbody th") == [
        t.replace("\u2028", "\ufffd").replace("\u2029", "\ufffd") for t in tokens
    ]
    reader.click("details:last-child summary")
    WebDriverWait(browser, 10).until(lambda _: len(reader.all("table")) == 2)
    for size in (PHONE, LAPTOP):
        reader.resize(size)
        assert reader.ask("document.scrollingElement.scrollWidth <= innerWidth")
    reader.unharmed()


def test_a_report_is_one_file_without_addresses(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", re.sub(r'id="data">.*?</script>', "", text))
    assert "default-src 'none'" in text
    assert [path.name for path in page.parent.iterdir() if path.name.startswith(".report")] == []


def test_a_thousand_lines_stay_below_five_megabytes(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    sides = [(sample_corpus() / f"train.{s}").read_text("utf-8").split("\n")[:1010] for s in ("en", "ko")]
    write_test_set(run, sides[0], sides[1])
    path, text = told(options(run, beam=1, output=tmp_path / "r.html"))
    assert "The table shows the first 1,000 of 1,010 lines (--lines); the scores are of all." in text
    assert path == tmp_path / "r.html"
    assert path.stat().st_size < 5_000_000
    shown = content(path)["sentences"]
    assert (len(shown["rows"]), shown["total"]) == (1000, 1010)


def test_maps_that_are_too_much_are_left_out_and_counted() -> None:
    def uniform(size: int) -> dict[str, Any]:
        tokens = ("x",) * size
        weights = np.full((size, size), 0.5, np.float32)
        drawn = AttentionMap(
            number=1, source="", target="", source_tokens=tokens, target_tokens=tokens, weights=weights
        )
        return encode_map(drawn)

    maps = [uniform(900), None, uniform(900), uniform(10), uniform(900), uniform(900)]
    assert _fit(maps) == 1
    assert [bool(m) for m in maps] == [True, False, True, True, True, False]
    assert sum(len(as_json(m)) for m in maps if m) <= MAP_BYTES


def test_weights_as_text() -> None:
    rows = np.array([[1, 0, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0], [0] * 6], dtype=np.float32)
    assert encode_weights(rows) == "/(5) AAggAA (6)"


def test_json_within_html() -> None:
    data = {"text": "</script><!-- & \u2028\u2029 ' \" \\ 한"}
    text = as_json(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == data
    with pytest.raises(ValueError, match="JSON compliant"):
        as_json({"loss": float("nan")})


def test_the_font_brings_the_syllables_that_occur() -> None:
    assert hangul_face("abc العربية") == ""
    few, more = hangul_face("한글"), hangul_face("한글" + "".join(map(chr, range(0xAC00, 0xAC00 + 500))))
    assert len(few) < 6000 < len(more) < 120_000
    assert "SIL Open Font License" in few
    # Letters that stand apart are shown as the syllable they make, so its glyph is there as well.
    assert len(hangul_face("\u1112\u1161\u11ab")) > len(hangul_face("\u1112")) + 200


def test_a_model_without_attention(prepared: Path, tmp_path: Path, browser: Any) -> None:
    run = copy_run(prepared, tmp_path / "run")
    done = run_s2s("train", "--run", run, *SMALL, "--max-steps", 2, "--attention", "none")
    assert done.returncode == 0, done.stderr
    path, _ = told(options(run, beam=1))
    assert "no attention;" in content(path)["facts"][0]
    reader = Reader(browser, path)
    reader.click(".lines tbody button")
    assert "This model has no attention, so there is no map" in reader.texts("dialog")[0]
    reader.unharmed()


@pytest.mark.parametrize(
    ("columns", "units", "names", "unit"),
    [
        # Pronunciations, and words from pronunciations: what strings are is not for their spaces to say.
        ("1,2", ("character", "symbol"), ["WER", "PER"], "characters"),
        ("2,1", ("symbol", "character"), ["WER", "CER"], "words"),
        # Sentences that are written without spaces, and sentences in characters.
        ("1,2", ("subword", "subword"), ["BLEU", "chrF2", "TER"], "characters"),
    ],
)
def test_the_kind_of_the_model_decides_the_scores(
    columns: str, units: tuple[str, str], names: list[str], unit: str, tmp_path: Path
) -> None:
    words = ["cat", "dog", "bird", "stone", "water", "light", "tree", "house"]
    table = tmp_path / "sounds.tsv"
    table.write_text("".join(f"{word}\t{' '.join(word.upper())}\n" for word in words))
    run, files = tmp_path / "run", [x for name in ("train", "dev", "test") for x in (f"--{name}", table)]
    by = ("--unit-src", units[0], "--unit-tgt", units[1], "--columns", columns)
    for done in (
        run_s2s("preprocess", "--run", run, *by, *files),
        run_s2s("train", "--run", run, *SMALL, "--max-steps", 2),
    ):
        assert done.returncode == 0, done.stderr
    (run / "metrics.jsonl").unlink()
    (run / "data" / "report.json").unlink()
    path, _ = told(options(run, beam=1))
    shown = content(path)
    assert [score["name"] for score in shown["scores"]] == names
    of_lines = {"BLEU": "chrF2"}.get(names[0], names[-1])
    assert shown["sentences"]["metric"] == of_lines
    assert shown["sentences"]["higher"] == (of_lines == "chrF2")
    assert shown["lengths"]["unit"] == shown["sentences"]["unit"] == unit
    assert [row["l"] for row in shown["sentences"]["rows"]] == [len(word) for word in words]
    assert shown["training"] is None
    assert shown["data"] is None


def test_a_development_set_is_told(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    (run / "data" / "test.source.txt").unlink()
    prepared = json.loads((run / "data" / "report.json").read_text())
    prepared["overlap"]["dev"] = 3
    (run / "data" / "report.json").write_text(json.dumps(prepared))
    path, text = told(options(run, beam=1, lines=5))
    assert "translations of the development set" in text
    assert "3 of 40 source lines of this set occur in the training data too" in text
    assert content(path)["notes"] == text.split("\n")[:-1]


def test_what_stands_in_the_way(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    (run / "report.html").write_text("mine")
    with pytest.raises(S2SError, match=r"exists already.*--force"):
        report(options(run))
    assert (run / "report.html").read_text() == "mine"
    with pytest.raises(S2SError, match="its folder does not exist"):
        report(options(run, output=tmp_path / "missing" / "r.html"))
    with pytest.raises(S2SError, match="this is a folder"):
        report(options(run, output=tmp_path))
    with pytest.raises(S2SError, match="a report is a file"):
        report(options(run, output=Path("-")))
    with pytest.raises(S2SError, match="typo: there is no such folder"):
        report(options(tmp_path / "typo"))
    with pytest.raises(S2SError, match="no test or dev set"):
        report(options(run / "best"))
    write_test_set(run, ["a"], ["b", "c"])
    with pytest.raises(S2SError, match="1 lines and"):
        report(options(run, force=True))
    assert (run / "report.html").read_text() == "mine"


@pytest.mark.parametrize("damaged", ["{", "[]", '{"pairs": {}}', '{"lengths": 3}'])
def test_data_of_another_version_cannot_be_described(damaged: str, trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    (run / "data" / "report.json").write_text(damaged)
    path, text = told(options(run, beam=1, lines=1))
    assert "data/report.json is damaged or of another version" in text
    assert content(path)["data"] is None


def test_files_that_cannot_be_read(trained: Path, tmp_path: Path) -> None:
    for name in ("data/report.json", "metrics.jsonl"):
        run = copy_run(trained, tmp_path / Path(name).stem)
        (run / name).unlink()
        (run / name).mkdir()
        with pytest.raises(S2SError, match=rf"{name}: this is a folder"):
            report(options(run))


def test_force_replaces_a_report(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    for _ in range(2):
        path, _ = told(options(run, beam=1, lines=1, force=True))
    assert len(content(path)["sentences"]["rows"]) == 1


def test_a_record_that_is_broken_or_long(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_training(path) is None
    path.write_text('{"event": "start", "step": 0, "settings": {}}\nnonsense\n[1]\n')
    assert read_training(path) is None
    steps = [{"event": "step", "step": n, "loss": 5.0, "elapsed": 1.0} for n in range(3000)]
    steps[7]["loss"] = float("nan")
    path.write_text("".join(json.dumps(step) + "\n" for step in steps) + '{"event": "step", "st')
    found = read_training(path)
    assert found is not None
    assert [line["name"] for line in found["loss"]] == ["training"]
    assert len(found["loss"][0]["points"]) <= MOST_POINTS
    assert found["loss"][0]["points"][-1] == (2999, 5.0)
    assert found["quality"] == found["validations"] == []
    assert found["facts"] == [("updates", "2,999"), ("time", "1 s")]
    validation = {"event": "validation", "step": 500, "loss": 5.0, "elapsed": 0.5}
    path.write_text("".join(json.dumps(record) + "\n" for record in [*steps, validation]))
    again = read_training(path)
    assert again is not None and again["facts"][0] == ("updates", "2,999")
    # Records that lack what they should have are shown without it.
    validation["loss"] = float("nan")
    odd = [{"event": "start", "step": 0}, steps[0], validation, {"event": "end", "step": 500}]
    path.write_text("".join(json.dumps(record) + "\n" for record in odd))
    lacking = read_training(path)
    assert lacking is not None and lacking["facts"] == [("updates", "500"), ("time", "?")]
    assert lacking["validations"] == [[500, None, None, None, False]]
    with pytest.raises(S2SError, match="a folder"):
        read_training(tmp_path)


def test_curves_of_many_points_are_means() -> None:
    assert averaged([]) == []
    assert averaged((n, n % 2) for n in range(2 * MOST_POINTS)) == [
        (2 * n + 1, 0.5) for n in range(MOST_POINTS)
    ]
    records = [{"n": n, "best": n == 5} for n in range(10 * MOST_POINTS)]
    kept = [r["n"] for r in thin(records)]
    assert len(kept) == MOST_POINTS + 2
    assert {0, 5, 10, 10 * MOST_POINTS - 1} <= set(kept)
