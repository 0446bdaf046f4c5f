"""The page of a run: one file, all there is to tell, in a real browser as wide as a desk and as a phone."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from small import quiet, small_config, write_clusters
from typer.testing import CliRunner

from mpnnp.cli import app
from mpnnp.errors import CheckpointError
from mpnnp.training.learning_curve import LearningCurve
from mpnnp.training.page import write
from mpnnp.training.results import Points, Results, read_results, worst_structures, write_results
from mpnnp.training.train import train

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a finished run, and its log."""
    folder = tmp_path_factory.mktemp("page")
    comm, log = quiet()
    config = small_config(folder, 30, run={"epochs": 6}, ekf={"noise": "learned"})
    train(config, folder / "run <1>", comm, log)
    return folder / "run <1>", log.kept


class Checker(HTMLParser):
    """Tags that are opened and closed in order, texts, and every address that a browser would load."""

    VOID = ("meta", "link", "br", "img", "hr", "input")

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.addresses = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [
            value for name, value in attributes if name in ("src", "href", "xlink:href", "data")
        ]

    def handle_startendtag(self, tag, attributes):
        self.addresses += [
            value for name, value in attributes if name in ("src", "href", "xlink:href", "data")
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def checked(text):
    found = Checker()
    found.feed(text)
    assert found.open == []
    return found


def test_a_run_ends_with_its_page(run):
    folder, lines = run
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert checked(text).headings == [
        "Errors",
        "Learning curve",
        "Predictions against labels",
        "Distribution of errors",
        "Worst structures",
        *(["Outside of training"] if "Outside of training" in text else []),
        "Data and potential",
        "Configuration",
    ]
    judgement = [line for line in lines if line.startswith("judgement: ")]
    assert len(judgement) == 1
    assert "What to do next" in text and "noise level" in text and "[ekf]" in text
    assert "run &lt;1&gt;" in text and "<1>" not in text  # names are text, not markup


def test_the_page_needs_no_other_file(run):
    """All that it would load lies in it: parts of itself, and pictures as data."""
    addresses = checked((run[0] / "report.html").read_text(encoding="utf-8")).addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert (
        "@import" not in (run[0] / "report.html").read_text()
        and "url(http" not in (run[0] / "report.html").read_text()
    )


def test_the_errors_of_the_page_are_those_of_the_run(run):
    accuracy = json.loads((run[0] / "accuracy.json").read_text())
    text = (run[0] / "report.html").read_text(encoding="utf-8")
    for part in ("training", "validation"):
        row = re.search(rf"<tr><td>{part}</td>(.*?)</tr>", text)[1]
        cells = re.findall(r"<td>(.*?)</td>", row)
        assert cells[0] == str(accuracy[part]["structures"])
        expected = [accuracy[part][f"{kind}_{m}"] for kind in ("energy", "force") for m in ("rmse", "mae")]
        assert cells[1:] == [f"{x:.4g}" for x in expected]


def test_results_hold_labels_predictions_and_elements(run):
    results, accuracy = (
        read_results(run[0] / "results.h5"),
        json.loads((run[0] / "accuracy.json").read_text()),
    )
    for kind in ("energy", "force"):
        errors = results.points[kind].errors
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(accuracy["validation"][f"{kind}_rmse"])
    assert set(results.points["force"].elements) == {1, 8} and not results.points["energy"].elements.any()
    worst = results.facts["worst"]
    assert len(worst) == 10 and {row["part"] for row in worst} <= {"training", "validation"}
    assert "clusters.extxyz, frame " in worst[0]["name"]


def test_the_noise_levels_are_in_the_learning_curve(run):
    columns = LearningCurve.read(run[0] / "learning-curve.csv")
    assert np.isfinite(columns["force_noise"][1:]).all() and (columns["force_noise"][1:] > 0).all()


def test_the_page_can_be_written_anew(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    for path in (tmp_path / "run").glob("*.p*"):
        path.unlink()
    (tmp_path / "run" / "report.html").unlink()
    told = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
    assert told.exit_code == 0, told.output
    names = {path.name for path in run[0].iterdir()}
    assert names == {path.name for path in (tmp_path / "run").iterdir()}


def test_a_structure_with_wrong_forces_is_named_by_log_and_page(tmp_path):
    frames = write_clusters(tmp_path / "clusters.extxyz", 60)
    forces = frames[17].get_forces()
    wrong = SinglePointCalculator(frames[17], energy=frames[17].get_potential_energy(), forces=-20.0 * forces)
    frames[17].calc = wrong
    ase.io.write(tmp_path / "clusters.extxyz", frames)
    write_clusters(tmp_path / "others.extxyz", 20, seed=1)
    comm, log = quiet()
    data = {"validation_files": str(tmp_path / "others.extxyz")}
    config = small_config(tmp_path, data=data, run={"epochs": 6}, ekf={"noise": "learned"})
    train(config, tmp_path / "run", comm, log)
    found = [line for line in log.kept if "clusters.extxyz, frame 17:" in line and "force: 1 of 60" in line]
    assert len(found) == 1 and "times the median" in found[0]
    write(tmp_path / "run")  # once more, from what the run kept
    text = html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert found[0].removeprefix("judgement:").strip() in text


def test_a_run_under_way_has_a_page_too(run, tmp_path):
    for name in ("config.toml", "learning-curve.csv"):
        shutil.copy(run[0] / name, tmp_path)
    written = write(tmp_path)
    assert [path.name for path in written] == ["report.html", "learning-curve.png"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The run has not ended: it stands at epoch 6 of 6" in text
    assert checked(text).headings == ["Learning curve", "Data and potential", "Configuration"]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run that could be reported: .*learning-curve.csv"):
        write(tmp_path)


def test_damaged_results_are_told(run, tmp_path):
    data = bytearray((run[0] / "results.h5").read_bytes())
    data[-20] ^= 1
    (tmp_path / "results.h5").write_bytes(data)
    with pytest.raises(CheckpointError, match="results.h5: cannot be read: its content does not fit"):
        read_results(tmp_path / "results.h5")


def test_only_so_many_points_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("mpnnp.training.results.MOST_POINTS", 100)
    x = np.arange(1000.0)
    write_results(
        tmp_path / "r.h5",
        Results({"force": Points(x, x + 1, np.ones(1000, np.int16), np.arange(1000))}, {"a": 1}),
    )
    found = read_results(tmp_path / "r.h5")
    assert len(found.points["force"].labels) == 100 and found.facts == {"a": 1}
    assert (found.points["force"].errors == 1000.0).all()  # pairs stay together


def test_the_worst_structures_are_those_with_the_largest_error_of_any_kind():
    errors = {
        "training": np.array([[0, 1.0, 10.0, np.nan], [1, 9.0, 10.0, np.nan]]),
        "validation": np.array([[2, 1.0, 80.0, np.nan], [3, 1.0, 10.0, np.nan], [4, np.nan, 10.0, np.nan]]),
    }
    found = worst_structures(lambda k: f"frame {k}", errors, 3)
    assert [row["name"] for row in found[:2]] in (["frame 1", "frame 2"], ["frame 2", "frame 1"])
    assert found[0]["errors"] in ({"energy": 9.0, "force": 10.0}, {"energy": 1.0, "force": 80.0})
    assert worst_structures(str, {}) == []


def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser without a display: one of {', '.join(BROWSERS)}")
    return found


MEASURE = """<!DOCTYPE html><body style="margin: 0"><pre id="told"></pre>
<iframe width="WIDTH" height="900" style="border: 0" srcdoc="PAGE"></iframe>
<script>document.querySelector("iframe").addEventListener("load", event => {
  const view = event.target.contentWindow, page = view.document;
  const style = element => view.getComputedStyle(element);
  const pictures = [...page.querySelectorAll("svg")];
  document.getElementById("told").textContent = JSON.stringify({
    inner: view.innerWidth,
    page: page.documentElement.scrollWidth,
    sizes: pictures.map(p => [p.getBoundingClientRect().width, p.getBoundingClientRect().height]),
    empty: pictures.filter(p => p.querySelectorAll("path").length < 10).length,
    paper: style(page.body).backgroundColor,
    ink: style(page.body).color,
    axes: style(page.querySelector("svg #patch_3 path")).stroke,
  });
});</script>"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(run, tmp_path, width, scheme):
    """It fits its width, every picture is drawn, and letters stand out from the page, as axes do. The page
    lies in a frame, which may be as narrow as a phone, where a window may not.
    """
    program = browser()
    text = html.escape((run[0] / "report.html").read_text(encoding="utf-8"))
    outer = tmp_path / "outer.html"
    outer.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", text), encoding="utf-8")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"]
    command += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    result = subprocess.run(
        [*command, "--dump-dom", outer.as_uri()], capture_output=True, text=True, timeout=120
    )
    found = re.search(r'<pre id="told">(.+?)</pre>', result.stdout)
    assert found, result.stderr[-2000:]
    told = json.loads(html.unescape(found[1]))
    assert width - 20 <= told["inner"] <= width and told["page"] <= width  # it does not scroll sideways
    assert len(told["sizes"]) == 3 and told["empty"] == 0
    assert all(w > 300 and h > 150 for w, h in told["sizes"])
    paper, ink, axes = (sum(map(int, re.findall(r"\d+", told[k])[:3])) for k in ("paper", "ink", "axes"))
    assert (paper > 700 and ink < 250) if scheme == "light" else (paper < 100 and ink > 600)
    assert axes == ink
