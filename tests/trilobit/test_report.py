"""``trilobit report``: the page has the figures of its data, needs nothing beside it, escapes what it shows, and is there whole or not."""

import html
import json
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from click.testing import CliRunner
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
from run_support import make_bundle

from trilobit import cli, reporting
from trilobit.assembler.compiler.pipeline import compile_model
from trilobit.drawing import Drawing, ink, lanes, ticks
from trilobit.report_cycles import cycles_by_cause
from trilobit.sim.activity import Activity, UnitActivity

HOSTILE = """<script>alert('x')</script>"&{{ 7 * 7 }}"""


def run(*arguments: str):
    return CliRunner().invoke(cli.main, ["report", *map(str, arguments)])


def verb(name: str, *arguments: str) -> dict:
    result = CliRunner().invoke(cli.main, [name, *map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def tales(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    compile_model("tales", "ulx3s", folder / "tales")
    return folder / "tales"


@pytest.fixture(scope="module")
def written(tales):
    """The data and the page of ``tales`` on ``ulx3s``."""
    data = verb("report", tales, "-o", tales.parent / "page.html", "--memory", "sdram", "--clock", "55")
    return data, (tales.parent / "page.html").read_text()


class Page(HTMLParser):
    """Tags, links, ids and text of a page; elements must close in order."""

    VOID = ("meta", "rect", "line", "br")

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.ids, self.open, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def test_the_figures_on_the_page_are_those_of_estimate_and_power(tales, written):
    data, text = written
    arguments = (tales, "--memory", "sdram", "--clock", "55")
    exact, power = verb("estimate", *arguments), verb("power", *arguments)
    assert data["estimate"] == exact
    assert data["power"] == {"known": True} | {key: value for key, value in power.items() if key not in ("bundle", "model")}
    words = " ".join(Page(text).words)
    cards = dict(re.findall(r'<span>([^<]*)</span><span class="badge.*?class="value">([^<]*)<', text))
    assert cards == {
        "tokens/s": f"{exact['tokens_per_second']:.4g}", "cycles a token": f"{exact['cycles_per_token']:,.1f}",
        "roofline share": f"{100 * exact['roofline_share']:.2f}", "memory share": f"{100 * exact['memory_share']:.2f}",
        "bytes a token": f"{exact['bytes_per_token']:,.1f}".removesuffix(".0"),
        "energy a token": " to ".join(f"{1e3 * power['joules_per_token'][end]:.3g}" for end in ("low", "high")),
    }  # fmt: skip
    for term in power["terms"]:
        assert f"{term['high_mw']:.1f}" in words and term["source"] in words
    # The token that is drawn is the first of those that were counted; refreshes of the memory make them differ a little.
    assert exact["tokens"] > 1 and data["timeline"]["cycles"] == pytest.approx(exact["cycles_per_token"], rel=1e-3)


def test_every_headline_figure_says_how_it_is_known(written):
    data, text = written
    assert [card["evidence"] for card in data["headline"]] == ["exact"] * 5 + ["estimated"]
    assert all(card["text"].endswith(".") and card["evidence"] in data["evidence"] for card in data["headline"])
    assert len(re.findall(r'<div class="card">.*?<span class="badge (?:exact|estimated)"', text)) == len(data["headline"])


def test_the_parts_of_every_unit_make_up_the_token(written):
    data, _ = written
    exact = data["estimate"]
    assert [unit["unit"] for unit in data["cycles"]] == ["tmatmul", "rmsnorm", "rowwise", "ldst", "stream", "issue"]
    for unit in data["cycles"]:
        parts = {part["part"]: part["cycles"] for part in unit["parts"]}
        assert sum(parts.values()) == pytest.approx(exact["cycles_per_token"])
        assert parts.items() >= {cause: cycles for cause, cycles in exact["units"][unit["unit"]]["stalls"].items() if cycles}.items()
        assert all(part["meaning"] for part in unit["parts"])


@pytest.mark.parametrize("core", ["ulx3s", "lean16"])
@pytest.mark.parametrize("memory", ["ideal", "sdram"])
def test_no_unit_has_more_parts_than_the_token_has_cycles(core, memory):
    exact = verb("estimate", "tales", "--core", core, "--memory", memory, "--clock", "40")
    found = {unit["unit"]: {part["part"]: part["cycles"] for part in unit["parts"]} for unit in cycles_by_cause(exact)}
    assert found["stream"]["works"] > 0 and (core != "lean16" or found["stream"]["queue_full"] > 0)
    for unit, parts in found.items():
        assert sum(parts.values()) == pytest.approx(exact["cycles_per_token"]), (unit, parts)
    if core == "lean16":
        assert "one after the other" in next(part["meaning"] for part in cycles_by_cause(exact)[-1]["parts"] if part["part"] == "idle")


def test_the_timeline_has_every_instruction_of_the_token_and_is_drawn(written):
    data, text = written
    timeline = data["timeline"]
    slices = [item for unit in ("tmatmul", "rmsnorm", "rowwise", "ldst") for item in timeline["tracks"][unit]]
    assert timeline["whole"] and [layer["layer"] for layer in timeline["layers"]] == list(range(8))
    # The program goes round once a token: each instruction of a unit has one slice, but clr, which stands before the loop.
    assert sorted(item["pc"] for item in slices) == sorted({item["pc"] for item in slices})
    counts = {row["name"]: row["count"] for row in data["program"]["mix"] if row["unit"] != "control"}
    assert sum(counts.values()) == len(slices) + counts["clr"]
    assert all(item["begin"] >= 0 and item["begin"] + item["cycles"] <= timeline["cycles"] for item in slices)
    for item in slices:
        title = f"pc {item['pc']} {item['name']}, cycles {item['begin']:,} to {item['begin'] + item['cycles']:,} ({item['cycles']:,})"
        assert title in text, title


def test_the_timeline_is_that_of_the_trace(tales, written, tmp_path):
    data, _ = written
    verb("estimate", tales, "--memory", "sdram", "--clock", "55", "--trace", tmp_path / "token.pftrace")
    events = [packet for packet in Trace.FromString((tmp_path / "token.pftrace").read_bytes()).packet if packet.track_event.name]
    begins = {(packet.track_event.name, packet.timestamp) for packet in events}
    emit = next(packet.timestamp for packet in events if packet.track_event.name == "emit")  # in the token's last cycle
    origin = emit - (data["timeline"]["cycles"] - 1)
    for unit in ("tmatmul", "rmsnorm", "rowwise", "ldst"):
        for item in data["timeline"]["tracks"][unit]:
            assert (item["name"], origin + item["begin"]) in begins, item


def test_the_bytes_of_the_weight_stream_are_all_accounted_for(written):
    data, _ = written
    image = data["image"]
    assert sum(part["bytes"] for part in image["stream"]["parts"]) == pytest.approx(image["stream"]["bytes"])
    assert image["stream"]["bytes"] == sum(region["size"] for region in image["regions"] if region["name"] in ("body", "head"))
    parts = {part["part"]: part["bytes"] for part in image["stream"]["parts"]}
    assert parts["ternary weights"] == pytest.approx(0.2 * data["bundle"]["weights_per_token"])
    assert parts["ternary weights"] + parts["padding of matrices"] == pytest.approx(data["estimate"]["weight_bytes_per_token"])


def test_the_excerpt_is_the_assembly_of_a_layer(tales, written):
    excerpt = written[0]["program"]["excerpt"]
    source = (tales / "program.s").read_text()
    assert excerpt["layer"] == 1 and excerpt["more"] == 0 and "\n".join(excerpt["lines"]) in source
    count = sum("(model.layers.1" in line for line in excerpt["lines"])
    assert count == sum("(model.layers.1." in line or "(model.layers.1)" in line for line in source.splitlines()) > 20
    assert all(f"model.layers.{other}" not in "".join(excerpt["lines"]) for other in (0, 2))


def test_the_page_needs_nothing_beside_it(written):
    _, text = written
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "image", "use"} & set(page.tags) and "svg" in page.tags
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.search(r"https?:|url\(|@import|@font-face", text)


def test_what_comes_from_a_bundle_is_escaped_and_no_template(tmp_path):
    make_bundle(tmp_path / "b", None, name=HOSTILE, geometry={"vocab_size": 256, "<b>": "<i>{{ 1 + 1 }}"})
    assert run(tmp_path / "b", "-o", tmp_path / "page.html").exit_code == 0
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert not {"script", "b", "i>"} & set(page.tags) and "<i>{{" not in text
    assert HOSTILE in "".join(page.words) and html.escape(HOSTILE, quote=False).partition("'")[0] in text


def test_a_core_of_which_nothing_is_known_and_a_bundle_without_a_report_say_so(tmp_path):
    make_bundle(tmp_path / "b", None)
    data = verb("report", tmp_path / "b", "-o", tmp_path / "page.html")
    words = " ".join(" ".join(Page((tmp_path / "page.html").read_text()).words).split())
    assert data["power"] == {
        "known": False, "why": "expected a core with a known board (ulx3s) for a power estimate, got 'tiny'"}  # fmt: skip
    assert "Not known: expected a core with a known board" in words and "no device is kept for core tiny" in words
    assert data["program"]["excerpt"]["layer"] is None and data["program"]["excerpt"]["lines"][0].split() == ["wait"]
    assert "the bundle has no compiler's report of its vectors" in words and "energy a token" not in words


def test_the_page_of_a_lean_core_says_what_is_known_of_it(tmp_path):
    compile_model("tales", "lean16", tmp_path / "b")
    data = verb("report", tmp_path / "b", "-o", tmp_path / "page.html")
    assert data["estimate"]["core"] == "lean16" and data["estimate"]["board"]["device"] == "LFE5U-85F"
    assert not data["power"]["known"] and "power" not in {row["figure"] for row in data["commands"]}
    assert {"vectors, scalars and function tables", "microprogram"} <= set(data["board"]["on_chip_memories"])
    assert data["timeline"]["in_flight"]


def test_measured_activity_is_shown_by_unit_and_moves_the_power(tales, written, tmp_path, monkeypatch):
    half = Activity(cycles=1000, units={"pc": UnitActivity(bits=100, toggles=75), "core": UnitActivity(bits=100, toggles=25)})
    monkeypatch.setattr(reporting, "measured_activity", lambda core, path: half)
    arguments = (tales, "-o", tmp_path / "page.html", "--activity", tmp_path / "a.saif", "--memory", "sdram", "--clock", "55")
    power = verb("report", *arguments)["power"]
    assert power["activity"]["share"] == 0.5 and power["activity"]["units"]["pc"] == {"bits": 100, "share": 0.75}
    # Assumed were 5% and 20%; measured counts as it is, and twice for the high value.
    for term, before in zip(power["terms"][:4], written[0]["power"]["terms"][:4], strict=True):
        assert term["low_mw"] == pytest.approx(10 * before["low_mw"], rel=2e-2) and term["high_mw"] == pytest.approx(
            5 * before["high_mw"], rel=2e-2
        )
    words = " ".join(" ".join(Page((tmp_path / "page.html").read_text()).words).split())
    assert "50.00 % of the core's 200 register bits" in words.replace("50.00%", "50.00 %") and "pc 100 75.00%" in words
    assert "What toggles" not in written[1]
    make_bundle(tmp_path / "b", None)
    refused = run(tmp_path / "b", "-o", tmp_path / "other.html", "--activity", tmp_path / "a.saif")
    assert refused.exit_code == 2 and "expected a core with a known board" in refused.stderr and not (tmp_path / "other.html").exists()


def test_a_batch_is_told_by_the_pass(tmp_path):
    from trilobit.isa.core import load_core

    compile_model("tales", load_core("axi512", 4), tmp_path / "b")
    data = verb("report", tmp_path / "b", "-o", tmp_path / "page.html")
    exact, timeline = data["estimate"], data["timeline"]
    assert exact["batch"] == 4 and not data["power"]["known"]
    assert abs(timeline["cycles"] - exact["cycles_per_token"]) <= 1  # which is an average over passes
    assert "4 sequences together" in data["headline"][0]["text"] and data["headline"][1]["name"] == "cycles a pass"


def test_the_date_can_be_set_and_then_the_page_is_the_same_to_the_byte(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    make_bundle(tmp_path / "b", None)
    for name in ("one.html", "two.html"):
        assert run(tmp_path / "b", "-o", tmp_path / name).exit_code == 0
    page = (tmp_path / "one.html").read_bytes()
    assert b"1970-01-02T00:00:00+00:00" in page
    assert page.replace(b"one.html", b"") == (tmp_path / "two.html").read_bytes().replace(b"two.html", b"")


def test_a_report_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    make_bundle(tmp_path / "b", None)
    page = tmp_path / "page.html"
    page.write_text("before")
    assert run(tmp_path / "b", "-o", page, "--memory", "nothing").exit_code == 2
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    result = run(tmp_path / "b", "-o", page)
    assert result.exit_code == 2 and "expected to write a page there" in result.stderr
    assert page.read_text() == "before" and sorted(path.name for path in tmp_path.iterdir()) == ["b", "page.html"]


def test_wrong_input_is_told_before_anything_is_counted(tmp_path):
    make_bundle(tmp_path / "b", None)
    assert "expected a bundle" in run("tales", "-o", tmp_path / "p.html").stderr
    for arguments, message in (
        ((tmp_path / "b", "-o", tmp_path / "none" / "p.html"), "expected a file in a folder that is there"),
        ((tmp_path / "b", "-o", tmp_path / "p.html", "--clock", "0"), "above 0 MHz"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and message in result.stderr and not (tmp_path / "p.html").exists()


def test_without_jinja2_the_extra_is_named(tmp_path, monkeypatch):
    make_bundle(tmp_path / "b", None)
    monkeypatch.delitem(sys.modules, "trilobit.report_page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run(tmp_path / "b", "-o", tmp_path / "p.html")
    assert result.exit_code == 2
    assert (
        result.stderr == 'trilobit: expected the package jinja2 to write a report, found none; pip install "trilobit[report]" brings it\n'
    )


def test_spans_of_a_lane_never_overlap_and_ticks_are_round():
    spans = [{"begin": begin, "cycles": cycles, "name": "x"} for begin, cycles in ((0, 10), (2, 3), (5, 9), (10, 1), (12, 5))]
    assert [[span["begin"] for span in lane] for lane in lanes(spans)] == [[0, 10, 12], [2, 5]]
    assert ticks(35_271, 81_551, 8) == [40_000, 50_000, 60_000, 70_000, 80_000]
    assert ticks(0, 7, 8) == list(range(8))
    assert (ink("#ffffff"), ink("#1d4ed8")) == ("#111827", "#ffffff")


def test_text_that_does_not_fit_its_rectangle_is_left_out():
    drawing = Drawing(100, "a test")
    drawing.rect(0, 0, 50, 10, "#ffffff", "all of it", ("does not fit", "fits"))
    drawing.rect(0, 0, 30, 10, "#ffffff", "all of it", ("does not fit",))
    assert [shape["text"] for shape in drawing.shapes] == ["fits", ""]


def test_waits_that_are_close_are_one_span_and_none_of_their_cycles_is_lost(written):
    data, _ = written
    tracks, exact = data["timeline"]["tracks"], data["estimate"]
    held = sum(span["held"] for span in tracks["tmatmul waits"])
    assert held == pytest.approx(sum(exact["units"]["tmatmul"]["stalls"].values()), rel=0.01)
    for name in ("tmatmul waits", "stalls", "stream"):
        spans = tracks[name]
        assert all(0 < span["held"] <= span["cycles"] for span in spans)
        assert all(a["begin"] + a["cycles"] <= b["begin"] for a, b in pairwise(spans)), name


def test_a_token_of_many_instructions_is_shown_by_its_first_layers(tales, tmp_path, monkeypatch):
    monkeypatch.setattr("trilobit.report_cycles.MOST", 100)
    timeline = verb("report", tales, "-o", tmp_path / "page.html")["timeline"]
    slices = [item for unit in ("tmatmul", "rmsnorm", "rowwise", "ldst") for item in timeline["tracks"][unit]]
    assert not timeline["whole"] and 60 < len(slices) <= 100 and max(item["begin"] for item in slices) < timeline["end"]
    assert timeline["end"] == timeline["layers"][-1]["end"] < timeline["cycles"]
    words = " ".join(Page((tmp_path / "page.html").read_text()).words)
    assert "The first layers of one token" in words and f"the first {timeline['end']:,} are shown" in words
