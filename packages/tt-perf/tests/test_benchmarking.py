"""Module 19: what is said about timings is true on simulated machines, where the truth is known.

No test depends on how fast the machine is: statistics are tested on a clock of their own, and real measuring by its
structure. Each check is a function, and `SABOTAGES` breaks the module in one place and demands that a check fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.command.cli import load_acts, main
from tt_core.engine.errors import FileError, PluginError
from tt_learn import CheckpointError
from tt_perf import Measurement, Timer, compare
from tt_perf.benchmarking import (
    BenchmarkError,
    charts,
    comparing,
    comparison_table,
    jobs,
    olympic_task,
    olympics,
    results,
    statistics,
)
from tt_perf.benchmarking import timer as timer_module
from tt_perf.benchmarking.comparing import Comparison, Ratio
from tt_perf.benchmarking.olympic_task import Training
from tt_perf.benchmarking.results import Entry, Result


class Machine:
    """A clock that only work moves: `cost` seconds times what `speed` says of the present, times noise with a tail."""

    def __init__(self, seed: int = 0, noise: float = 0.0, speed: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now, self.noise, self.speed, self.random = 0.0, noise, speed, np.random.default_rng(seed)

    def clock(self) -> float:
        return self.now

    def timer(self, cost: float, label: str = "", cold: Sequence[float] = ()) -> Timer:
        """Work of `cost` seconds, of which the first calls take `cold` times as long."""
        calls = iter(cold)

        def work() -> None:
            disturbed = np.exp(self.random.normal(0, self.noise)) if self.noise else 1.0
            if self.noise and self.random.random() < 0.05:
                disturbed *= self.random.uniform(1, 4)  # another program had the core
            self.now += cost * next(calls, 1.0) * self.speed(self.now) * disturbed

        return Timer(work, timer=self.clock, label=label)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load of the machine that runs the tests is not part of them."""
    monkeypatch.setattr(comparing, "load_per_core", lambda: 0.1)


# --- the checks


def check_median() -> None:
    measured = Measurement(2, [2.0] * 9 + [200.0])
    assert measured.median == 1.0
    assert measured.iqr == 0.0
    assert measured.mean == pytest.approx(10.9)
    assert measured.interval()[0] == 1.0


def check_empty() -> None:
    for times in ([], [0.0], [-1.0], [float("nan")], [float("inf")], ["1"], None, "12"):
        with pytest.raises(BenchmarkError):
            Measurement(1, times)  # type: ignore[arg-type]


def check_warm_up() -> None:
    """Three slow calls are found, told and not counted."""
    machine = Machine()
    result = compare(machine.timer(0.01, "a", cold=[9, 8, 7]), machine.timer(0.01, "b"), rounds=9)
    assert max(result.measurements[0].times) == pytest.approx(0.01)
    assert result.notes == ("a: not counted: 3 calls of the warm-up, which took 8.0 times as long",)
    assert machine.timer(0.01, cold=[9, 8, 7]).blocked_autorange().cold_times[:4] == pytest.approx(
        (0.09, 0.08, 0.07, 0.01)
    )


def check_cold_blocks() -> None:
    """Slow first blocks that no warm-up took away are a warning; times without them are none."""
    assert "the first 3 blocks took 8.0 times as long" in Measurement(1, [9.0, 8.0, 7.0] + [1.0] * 9).warnings[0]
    assert Measurement(1, [1.0, 1.01, 0.99] * 5).warnings == ()


def check_interleaved() -> None:
    """On a machine that slows down to half its speed, equal code is equal and a tenth is a tenth."""
    machine = Machine(speed=lambda now: 1 + min(now, 1.0))
    result = compare(machine.timer(0.01), machine.timer(0.01), machine.timer(0.011), rounds=31)
    assert abs(result.control_ratio.ratio - 1) < 0.03
    assert abs(result.ratios[0].ratio - 1) < 0.03
    assert result.ratios[1].ratio == pytest.approx(1.1, rel=0.03)


def check_direction() -> None:
    machine = Machine()
    faster, slower = compare(machine.timer(0.02), machine.timer(0.01), machine.timer(0.04), rounds=9).ratios
    assert (faster.ratio, faster.speedup, faster.verdict) == (pytest.approx(0.5), pytest.approx(2), "faster")
    assert (slower.ratio, slower.speedup, slower.verdict) == (pytest.approx(2), pytest.approx(0.5), "slower")


def check_control() -> None:
    """A difference smaller than that of the same code with itself is none, and the control is measured for itself."""
    a, b, c = (Measurement(1, [x] * 9, "abc"[i]) for i, x in enumerate((1.0, 1.1, 1.5)))
    result = Comparison((a, b, c), control=Measurement(1, [1.2] * 9))
    assert [ratio.verdict for ratio in result.ratios] == ["no difference found", "slower"]
    assert "the same code measured twice differs by 20.0%" in result.warnings[0]
    runs = [0, 0]
    compare(*[Timer(lambda i=i: runs.__setitem__(i, runs[i] + 1)) for i in (0, 1)], rounds=50, min_block_time=1e-9)
    assert runs[0] >= runs[1] + 50


def check_drift() -> None:
    machine = Machine(noise=0.01, speed=lambda now: 1 + now / 10)
    warnings = compare(machine.timer(0.01), machine.timer(0.01), rounds=60).warnings
    assert any("slower while it was measured" in warning for warning in warnings)
    assert statistics.drift([1.0, 1.2] * 20) == 1.0


def check_busy() -> None:
    machine = Machine()
    result = compare(machine.timer(0.01), machine.timer(0.01), rounds=9)
    assert not any("busy" in warning for warning in result.warnings)
    busy = Comparison(result.measurements, result.control, environment={"load": 3.0})
    assert any("busy before: 3.0" in warning for warning in busy.warnings)
    assert "busy" in Measurement(1, [1.0, 1.5, 2.0] * 5).warnings[0]


def _found(true_ratio: float) -> int:
    """In how many of 100 comparisons on noisy machines a difference is reported."""
    found = 0
    for seed in range(100):
        machine = Machine(seed, noise=0.05)
        found += compare(machine.timer(0.01), machine.timer(0.01 * true_ratio), rounds=25).ratios[0].differs
    return found


def check_false_alarms() -> None:
    assert _found(1.0) <= 5


def check_power() -> None:
    assert _found(1.1) >= 95


def check_front() -> None:
    points = {"none": (2.0, 100.0, 0.9), "jit": (1.0, 100.0, 0.9), "int8": (3.0, 25.0, 0.8), "bad": (3.0, 25.0, 0.7)}
    assert charts.pareto_front(points) == ["jit", "int8"]
    assert charts.pareto_front({"a": (1.0, 1.0, 1.0), "b": (1.0, 1.0, 1.0)}) == ["a", "b"]
    assert charts.pareto_chart(points).count("fill-opacity") == 2


def check_edited(folder: Path) -> None:
    path = folder / "result.json"
    given = example()
    given.save(path)
    assert results.read_result(path) == given
    for old, new in (('"peak_bytes": 500', '"peak_bytes": 50'), ('"quality": 0.99', '"quality": 1.0')):
        text = path.read_text(encoding="utf-8")
        assert old in text
        (folder / "edited.json").write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(BenchmarkError, match="was edited"):
            results.read_result(folder / "edited.json")


def check_measured_again() -> None:
    """Whoever writes a new digest too is found out by a second measurement."""
    honest = example()
    assert olympics.differences(honest, honest) == []
    for changes in ({"quality": 1.0}, {"peak_bytes": 50}, {"times": 0.1}, {"training": Training(0.1, 1)}):
        said = olympics.differences(example(**changes), honest)
        assert said, changes
        assert said[0].startswith("kv-cache: ")


def check_gate() -> None:
    """The fastest and smallest of all does not count when it answers wrongly."""
    entries = {entry.name: entry for entry in example(quality=0.5, times=0.01, peak_bytes=1).entries}
    for ranked in results.standings(entries, entries["none"]).values():
        assert [name for name, _ in ranked] == ["none"]
    assert results.podium(entries, entries["none"])[-1] == "not ranked: kv-cache gets 50.0% right, 98% are needed"


def check_chance() -> None:
    """Random and zeroed weights score no better than guessing, and are not ranked."""
    assert olympic_task.random_quality() < 0.15
    model = olympic_task.new_model().eval()
    for parameter in model.parameters():
        parameter.data[...] = 0
    assert olympic_task.quality(model) < 0.15


TRAINED = Training(2.0, 30)


def example(
    quality: float = 0.99, peak_bytes: int = 500, times: float = 0.5, training: Training | None = TRAINED
) -> Result:
    """A result of two entries; the arguments are those of the second."""
    first = Entry((), 0.99, Measurement(1, [1.0] * 5, "none"), 1000, Training(2.0, 30))
    second = Entry(("kv-cache",), quality, Measurement(1, [times] * 5, "kv-cache"), peak_bytes, training)
    return Result((first, second), Measurement(1, [1.0] * 5, "none"), 0.1, "ab", "", {"processor": "x", "load": 0.1})


CHECKS = [
    check_median, check_empty, check_warm_up, check_cold_blocks, check_interleaved, check_direction, check_control,
    check_drift, check_busy, check_false_alarms, check_power, check_front, check_measured_again, check_gate,
    check_chance, check_edited,
]  # fmt: skip


def run_check(check: Callable[..., None], folder: Path) -> None:
    check(folder) if check is check_edited else check()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check(check: Callable[..., None], tmp_path: Path) -> None:
    run_check(check, tmp_path)


# --- sabotages: each breaks one thing, and a check must fail


def one_after_the_other(blocks: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    return [[block() for _ in range(rounds)] for block in blocks]


def no_control(comparison: Comparison) -> Ratio:
    return Ratio("A/A control", 1.0, 1.0, 1.0, False)


def told_the_answers(model: Any, questions: Any) -> Any:
    return questions[:, olympic_task.LENGTH + 1 :].tolist()


def upside_down(base: Any, other: Any, confidence: float = 0.95, real: Any = statistics.ratio_interval) -> Any:
    return real(other, base, confidence)


SABOTAGES: dict[str, tuple[Any, str, Any, Callable[..., None]]] = {
    "mean for median": (statistics, "median", lambda x: float(np.mean(x)), check_median),
    "an empty measurement": (Measurement, "__post_init__", lambda self: None, check_empty),
    "a forgotten warm-up": (comparing, "warm_up", lambda timer: [], check_warm_up),
    "one call of warm-up": (comparing, "warm_up", lambda timer: [timer.seconds(1)], check_warm_up),
    "cold blocks not looked for": (statistics, "slow_start", lambda times: (0, 1.0), check_cold_blocks),
    "not interleaved": (comparing, "take_turns", one_after_the_other, check_interleaved),
    "the ratio upside down": (statistics, "ratio_interval", upside_down, check_direction),
    "no A/A control": (Comparison, "control_ratio", property(no_control), check_control),
    "drift not looked for": (statistics, "drift", lambda times: 1.0, check_drift),
    "a busy machine not looked for": (comparison_table, "BUSY", float("inf"), check_busy),
    "intervals too narrow": (statistics, "bootstrap_interval", lambda x, _=0: (np.median(x),) * 2, check_false_alarms),
    "intervals too wide": (statistics, "bootstrap_interval", lambda x, _=0: (-9.0, 9.0), check_power),
    "everybody on the front": (charts, "pareto_front", list, check_front),
    "an edited result accepted": (results, "digest_of", lambda content: "the same", check_edited),
    "not measured again": (olympics, "_within", lambda a, b, factor: True, check_measured_again),
    "ratios not measured again": (olympics, "RATIO_TOLERANCE", float("inf"), check_measured_again),
    "the quality gate skipped": (Entry, "passed", property(lambda self: True), check_gate),
    "answers leaked": (olympic_task, "answers", told_the_answers, check_chance),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, replacement, check = SABOTAGES[name]
    monkeypatch.setattr(where, attribute, replacement)
    with pytest.raises((AssertionError, BenchmarkError, pytest.fail.Exception)):
        run_check(check, tmp_path)


# --- real measuring, by its structure


def test_timer_runs_callables_and_text() -> None:
    calls: list[int] = []
    measured = Timer(lambda: calls.append(1), label="append").timeit(300)
    assert (len(calls), measured.number_per_run, len(measured.raw_times)) == (303, 300, 1)
    measured = Timer("x.append(n)", setup="n = 2", globals={"x": calls}).blocked_autorange(min_run_time=0.002)
    assert calls[-1] == 2
    assert measured.label == "x.append(n)"
    assert sum(measured.raw_times) >= 0.002
    assert len(measured.raw_times) >= 5


def test_blocks_are_long_enough_for_the_clock_and_the_callback_sees_them() -> None:
    machine, seen = Machine(), []
    measured = machine.timer(1.1e-4).blocked_autorange(lambda number, seconds: seen.append(number), min_run_time=0.1)
    assert measured.number_per_run == 10
    assert set(seen) == {10}
    assert sum(measured.raw_times) == pytest.approx(0.1, rel=0.05)


def test_a_timer_plugs_its_plugins_in_and_out() -> None:
    seen = []
    Timer(lambda: seen.append(tt_core.engine.plugins.manager.has_plugin("profiler")), plugins=["profiler"]).timeit(1)
    assert all(seen)
    assert not tt_core.engine.plugins.manager.has_plugin("profiler")
    with pytest.raises(PluginError, match="no plugin is called nonsense"):
        Timer("pass", plugins=["nonsense"]).timeit(1)


@pytest.mark.parametrize(
    "wrong",
    [{"stmt": 3}, {"setup": None}, {"timer": 1}, {"globals": 3}, {"label": 3}, {"plugins": "jit"}, {"stmt": "a b"},
     {"stmt": "x\0"}],
    ids=str,
)  # fmt: skip
def test_a_timer_refuses_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(BenchmarkError, match=r"^Timer: .*$"):
        Timer(**wrong)


def test_numbers_out_of_range_are_refused() -> None:
    timer = Timer("pass")
    for call in (
        lambda: timer.timeit(0), lambda: timer.blocked_autorange(min_run_time=0),
        lambda: timer.blocked_autorange(min_run_time=float("nan")), lambda: compare(timer),
        lambda: compare(timer, timer, rounds=1), lambda: compare(timer, timer, min_block_time=-1),
        lambda: compare(timer, timer, confidence=1), lambda: compare(timer, 3),  # type: ignore[arg-type]
        lambda: Measurement(1, [1.0]).interval(2), lambda: Measurement(0, [1.0]),
        lambda: Comparison((Measurement(1, [1.0]),), Measurement(1, [1.0])),
        lambda: Comparison((Measurement(1, [1.0]),) * 2, Measurement(1, [1.0, 1.0])),
    ):  # fmt: skip
        with pytest.raises(BenchmarkError):
            call()


def test_the_framework_generator_is_left_alone() -> None:
    tt_core.manual_seed(0)
    before = tt_core.rand(1).item()
    tt_core.manual_seed(0)
    jobs.timer_of(jobs.JOBS["mlp-step"], [])
    olympic_task.new_model()
    Measurement(1, [1.0, 2.0]).interval()
    assert tt_core.rand(1).item() == before


def test_a_comparison_is_json_and_pictures(tmp_path: Path) -> None:
    machine = Machine(noise=0.02)
    result = compare(machine.timer(0.01, "a"), machine.timer(0.02, "b <"), rounds=9)
    result.save(tmp_path / "c.json")
    kept = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert [measured["label"] for measured in kept["measurements"]] == ["a", "b <"]
    assert kept["environment"]["packages"]["tt-perf"]
    assert kept["ratios"][0]["ratio"] == result.ratios[0].ratio
    picture = charts.comparison_chart(result)
    assert picture.count("<polyline") == 3
    assert "b &lt;" in picture
    assert "b &lt;" in result._repr_html_()


def test_every_job_runs_and_its_contestants_compute_the_same() -> None:
    for job in jobs.JOBS.values():
        first, second = jobs.timer_of(job, []), jobs.timer_of(job, ["profiler"])
        assert (first.label, second.label) == ("none", "profiler")
        first.seconds(1)
    text = jobs.JOBS["gpt-text"]
    with tt_core.use("kv-cache"):
        tt_core.manual_seed(19)
        cached = text.build()()
    tt_core.manual_seed(19)
    assert text.build()() == cached


def test_memory_counts_the_model_and_its_work_but_not_how_it_was_made() -> None:
    def build() -> Callable[[], Any]:
        kept = np.ones(1_000_000, np.int8) if np.ones(9_000_000, np.int8).all() else None
        return lambda: (kept, np.ones(500_000, np.int8))

    assert 1_500_000 <= jobs.peak_bytes(build) < 1_600_000
    model = olympic_task.new_model()
    assert olympics.size(model, ["int8"]) < 0.7 * olympics.size(model, [])


def test_unknown_jobs_and_plugins_are_named() -> None:
    with pytest.raises(BenchmarkError, match="no job is called gpt-txt; did you mean gpt-text"):
        jobs.compare_plugins("gpt-txt", [["jit"]])
    with pytest.raises(BenchmarkError, match="name a plugin"):
        jobs.compare_plugins("gpt-text", [])
    with pytest.raises(PluginError, match="no plugin is called x"):
        olympics.run([["x"]])


# --- the Olympics


def test_a_whole_run_and_its_file(tmp_path: Path) -> None:
    said: list[str] = []
    result = olympics.run([["kv-cache"]], rounds=5, say=said.append)
    assert [entry.name for entry in result.entries] == ["none", "kv-cache"]
    assert all(entry.passed and entry.training and entry.peak_bytes > 100_000 for entry in result.entries)
    assert result.random_quality < 0.15
    result.save(tmp_path / "r.json")
    assert results.read_result(tmp_path / "r.json") == result


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = olympic_task.new_model(), tmp_path / "mine.safetensors"
    olympic_task.save_model(model, path)
    assert olympic_task.digest(olympic_task.load_model(path)) == olympic_task.digest(model)
    result = olympics.run([], path, rounds=5, say=lambda line: None)
    assert (result.entries[0].passed, result.entries[0].training, result.model_file) == (False, None, path.name)
    result.save(tmp_path / "r.json")
    with pytest.raises(BenchmarkError, match="name it by --model"):
        olympics.verify(tmp_path / "r.json")
    monkeypatch.setattr(olympics, "run", lambda *arguments: result)
    assert olympics.verify(tmp_path / "r.json", path) == []
    next(iter(model.parameters())).data[...] += 1
    olympic_task.save_model(model, path)
    with pytest.raises(BenchmarkError, match="is another model"):
        olympics.verify(tmp_path / "r.json", path)


def test_a_file_that_is_no_model_for_the_task(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError):
        olympic_task.load_model(path)
    olympic_task.save_tensors(path, {"a": np.ones(1)})
    with pytest.raises(BenchmarkError, match="no model's configuration"):
        olympic_task.load_model(path)
    olympic_task.save_model(tt_core_gpt(vocab_size=5), path)
    with pytest.raises(BenchmarkError, match="vocab_size 5"):
        olympic_task.load_model(path)


def tt_core_gpt(vocab_size: int) -> Any:
    return olympic_task.GPT(olympic_task.GPTConfig(vocab_size=vocab_size, block_size=24, n_layer=1, n_head=1, n_embd=4))


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"format": "tinytorch-olympics-1"}', "1" * 9999], ids=repr)
def test_what_is_no_result(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"x\.json: "):
        results.read_result(tmp_path / "x.json")
    with pytest.raises(FileError):
        results.read_result(tmp_path)


@pytest.mark.parametrize(
    "change", [{"entries": []}, {"entries": 3}, {"entries": [{}]}, {"control": None}, {"random_quality": 7}], ids=str
)
def test_a_result_with_a_fitting_digest_and_damaged_content(change: dict[str, Any], tmp_path: Path) -> None:
    content = {**example().as_dict(), **change}
    content["digest"] = results.digest_of(content)
    (tmp_path / "x.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BenchmarkError, match="damaged result"):
        results.read_result(tmp_path / "x.json")


def test_the_events_rank_as_they_say() -> None:
    entries = {entry.name: entry for entry in example(training=None).entries}
    ranked = results.standings(entries, entries["none"])
    assert ranked["latency sprint"] == [("kv-cache", "500 ms"), ("none", "1 s")]
    assert ranked["memory challenge"] == [("kv-cache", "0 kB"), ("none", "1 kB")]
    assert ranked["accuracy contest"][0] == ("kv-cache", "99.0%")  # equal quality: the faster one
    assert ranked["all-around"][0] == ("kv-cache", "1.98")  # 0.99 * sqrt(2 * 2)
    assert ranked["time-to-quality"] == [("none", "2 s")]


def test_training_that_does_not_get_there_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="did not reach"):
        olympic_task.train(olympic_task.new_model(), most_steps=1)


def test_an_honest_result_of_a_busy_machine_holds() -> None:
    """Where medians differ by chance, the intervals are wide and meet."""
    noise = np.random.default_rng(0).lognormal(0, 0.6, (2, 2, 9))
    first, second = (
        Result(
            (Entry((), 1.0, Measurement(1, a, "none"), 1000), Entry(("jit",), 1.0, Measurement(1, b, "jit"), 1000)),
            *(Measurement(1, [1.0] * 9, "none"), 0.1, "", "", {"processor": "x"}),
        )
        for a, b in noise
    )
    assert abs(np.log(first.comparison.ratios[0].ratio / second.comparison.ratios[0].ratio)) > 0.2
    assert olympics.differences(first, second) == []


# --- the commands


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load_acts()
    out = tmp_path / "out"
    assert main(["compare"]) == 0
    assert "gpt-text" in capsys.readouterr().out
    assert main(["compare", "mlp-step", "--plugin", "profiler", "--rounds", "5", "--out", str(out)]) == 0
    assert "A/A control" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["comparison.json", "distribution.svg"]
    given = example()
    monkeypatch.setattr(olympics, "run", lambda *arguments: given)
    assert main(["olympics", "run", "--plugin", "kv-cache", "--out", str(tmp_path / "games")]) == 0
    assert "latency sprint:    1. kv-cache" in capsys.readouterr().out
    (file,) = (tmp_path / "games").iterdir()
    assert main(["olympics", "verify", str(file)]) == 0
    assert "holds" in capsys.readouterr().out
    example(times=0.01).save(file)
    assert main(["olympics", "verify", str(file)]) == 1
    assert "does not hold: kv-cache: 0.01" in capsys.readouterr().err
    (tmp_path / "games" / "edited.json").write_text(
        file.read_text(encoding="utf-8").replace('"peak_bytes": 500', '"peak_bytes": 5'), encoding="utf-8"
    )
    assert main(["olympics", "board", str(tmp_path / "games")]) == 0
    board = capsys.readouterr().out
    assert f"1. {file.stem}/kv-cache" in board
    assert "was edited" in board
    assert (tmp_path / "games" / "leaderboard.svg").read_text(encoding="utf-8").count("<circle") == 2
    assert main(["olympics", "board", str(tmp_path / "none")]) == 1


def test_durations() -> None:
    for seconds, text in ((12.3, "12.3 s"), (0.9999, "1 s"), (1e-3, "1 ms"), (2.5e-5, "25 µs"), (3e-9, "3 ns")):
        assert timer_module.duration(seconds) == text
