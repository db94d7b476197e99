"""The benchmark's arithmetic: records, shares, ratios, goals and the report. Nothing here is timed."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import tiny

NAMES = ("records", "limits", "goals", "report", "card", "synthetic", "worker", "runner")


@pytest.fixture(scope="module")
def bench(repo_root: Path) -> Iterator[dict[str, Any]]:
    """The modules of bench/, which is no package."""
    sys.path.insert(0, str(repo_root / "bench"))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(repo_root / "bench"))
        for name in NAMES:
            sys.modules.pop(name, None)


def of(bench: dict[str, Any], engine: str, values: list[float], limits: Any = (), **more: Any) -> dict[str, Any]:
    named = {"section": "speed", "what": "prefill", "unit": "tokens/s", "model": "1b-q4_k_m", "n": 512, "threads": 2}
    named |= {"engine": engine, "variant": "mapped" if engine == "pyggml" else "", **more}
    section, what, unit = (named.pop(key) for key in ("section", "what", "unit"))
    made: dict[str, Any] = bench["records"].record(section, what, values, unit, limits, **named)
    return made


def test_a_record_has_the_form_and_keeps_the_order(bench):
    made = of(bench, "pyggml", [30.0, 10.0, 20.00049])
    assert made["values"] == [30.0, 10.0, 20.0]
    assert (made["min"], made["median"], made["max"]) == (10.0, 20.0, 30.0)
    assert made["limit"] is None
    assert made["share"] is None
    bench["records"].check(made)


@pytest.mark.parametrize("broken", [{"n": "512"}, {"threads": True}, {"values": []}, {"extra": 1}])
def test_a_record_of_another_form_is_refused(bench, broken):
    with pytest.raises(ValueError):
        bench["records"].check({**of(bench, "pyggml", [1.0]), **broken})


def test_a_share_is_of_the_rates_beside_each_round(bench):
    made = of(
        bench, "pyggml", [1.0, 2.0, 3.0], [("x", 10.0, "GB/s", 5.0), ("x", 20.0, "GB/s", 5.0), ("x", 10.0, "GB/s", 9.0)]
    )
    assert made["shares"] == [0.5, 0.25, 0.9]
    assert made["share"] == 0.5
    assert made["limit"] == {"name": "x", "value": 10.0, "unit": "GB/s", "reached": 5.0}


def test_a_ratio_is_of_medians_and_its_spread_of_rounds(bench):
    ratio = bench["records"].ratio
    assert ratio(of(bench, "pyggml", [4, 8, 6]), of(bench, "llama.cpp", [2, 2, 3])) == (3.0, 2.0, 4.0)
    assert ratio(of(bench, "pyggml", [4, 8]), of(bench, "llama.cpp", [2])) == (3.0, 2.0, 4.0)


def test_results_are_written_read_and_merged(bench, tmp_path):
    records = bench["records"]
    data = {
        "schema": records.SCHEMA,
        "card": {},
        "records": [of(bench, "pyggml", [1.0]), of(bench, "llama.cpp", [2.0])],
    }
    records.save(tmp_path / "a.json", data)
    back = records.load(tmp_path / "a.json")
    assert back == json.loads(json.dumps(data))
    later = {**data, "records": [of(bench, "pyggml", [5.0])]}
    found = records.merged([back, later])
    assert [r["median"] for r in records.find(found, engine="pyggml")] == [5.0]
    assert len(found) == 2
    (tmp_path / "b.json").write_text(json.dumps({**data, "schema": 1}), encoding="ascii")
    with pytest.raises(ValueError, match="schema"):
        records.load(tmp_path / "b.json")


def test_limits_count_what_a_step_multiplies_and_reads(bench):
    limits = bench["limits"]
    work = limits.Work(10**9, 10**9, 8 * 10**8, 32768, "q4_k", 1000)
    name, peak, _, reached = limits.prefill_limit(work, 500.0, {"int8_gmac_2": 1000.0}, 2)
    assert (name, peak, reached) == ("int8_gmac_2", 1000.0, 500.0)
    rates = {"read_gbs_4k_1": 40.0, "read_gbs_2m_1": 50.0}
    assert limits.decode_limit(work, 45.0, rates, 1, "mapped", 0, "f16")[1::2] == (40.0, 36.0)
    name, _, _, reached = limits.decode_limit(work, 10.0, rates, 1, "copied", 10000, "q8_0")
    assert name == "read_gbs_2m_1"
    assert reached == pytest.approx(8.0 + 10000 * 32768 * 34 / 32 * 10 / 1e9)
    assert limits.decode_limit(work, 1.0, {}, 1, "mapped", 0, "f16") is None
    assert [limits.peak_name(kind, 1) for kind in ("f16", "bf16", "iq4_xs")] == [
        "f32_gmac_1",
        "bf16_gmac_1",
        "int8_gmac_1",
    ]


def test_work_is_read_from_a_file(bench, repo_root):
    work = bench["limits"].work(str(repo_root / "pyggml" / "data" / "tales.gguf"))
    assert 0 < work.layer_macs < work.file_bytes
    assert work.read_bytes <= work.file_bytes
    assert work.kv_values > 0


def test_goals_are_judged_and_a_missing_figure_is_said(bench):
    goals = bench["goals"]
    records = [
        of(bench, "pyggml", [500.0, 510.0], [("int8_gmac_2", 1000.0, "GMAC/s", 540.0)] * 2),
        of(bench, "llama.cpp", [200.0, 202.0]),
    ]
    found = {g.key: g.outcome(records) for g in goals.goals(2)}
    assert found["prefill_q4_k_m_llama"].met is True
    assert found["prefill_q4_k_m_llama"].value == pytest.approx(505 / 201)
    assert found["prefill_q4_k_m_share"].met is False
    assert found["prefill_q4_k_m_share"].value == pytest.approx(54.0)
    assert found["load"].met is None
    text = goals.table(records, {"prefill_q4_k_m_llama": {"value": 3.1}})
    assert "| prefill 512, Q4_K_M | >= 2.5x llama.cpp | 3.10 x | **2.51** x (2.50 - 2.52) |" in text
    assert "not measured" in text


def test_less_is_better_where_it_is(bench):
    goals = {g.key: g for g in bench["goals"].goals(2)}
    load = {"section": "load", "what": "load", "unit": "s", "n": 0}
    assert goals["load"].outcome([of(bench, "pyggml", [0.05], **load)]).met is True
    assert goals["load"].outcome([of(bench, "pyggml", [0.35], **load)]).met is False
    held = [
        of(bench, "pyggml", [900.0], section="memory", what="total", unit="MB"),
        of(bench, "file", [800.0], section="memory", what="file", unit="MB"),
    ]
    assert goals["memory_mapped"].outcome(held).value == pytest.approx(12.5)


def test_every_goal_has_a_prediction(bench, repo_root):
    said = json.loads((repo_root / "bench" / "predictions.json").read_text(encoding="ascii"))["goals"]
    assert set(said) == {g.key for g in bench["goals"].goals(2)}
    assert all(isinstance(p["value"], int | float) and p["why"] for p in said.values())


def test_tables_go_between_their_marks(bench):
    put = bench["report"].put
    text = "a\n<!-- table:goals -->\nold\n<!-- /table -->\nb\n<!-- table:other -->\nkept\n<!-- /table -->\n"
    made = put(text, {"goals": "new"})
    assert made == text.replace("old", "new")
    assert put(made, {"goals": "new"}) == made


def test_the_report_makes_every_table(bench):
    records = [of(bench, "pyggml", [500.0]), of(bench, "pyggml", [50.0], what="decode", n=64)]
    records.append(of(bench, "pyggml", [300.0], section="kernels", what="product", model="8192x2048", variant="q4_k"))
    report = bench["report"]
    assert "| 1b-q4_k_m | pyggml mapped | 500 |" in report.files_table(records, 2)
    assert "| q4_k |" in report.kernels_table(records)
    rates = {"clock_ghz": 4.0, "int8_gmac_1": 500.0, "read_gbs_4k_2": 40.0}
    card = {"cpu": "C", "cores": 2, "memory_gb": 8, "isa": "avx2", "system": "S", "load": [0], "busy_cores": 0.0}
    card |= {"date": "2026-01-01", "commit": "abc", "pages": {}, "rates": rates}
    made = report.card_table([{"card": card, "engines": {"pyggml": "pyggml 1 (x)"}}])
    assert "| 1 | 500 |" in made
    assert "| 2 |  |  |  | 40.0 |" in made


def test_probe_flags_are_named(bench):
    flags = bench["card"].probe_flags
    assert flags(set()) == []
    full = {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}
    assert flags(full)[-1] == "-mavx512vnni"
    assert flags(full | {"avx512_bf16"})[-1] == "-mavx512bf16"
    assert flags({"avx2", "fma", "f16c"}) == ["-mavx2", "-mfma", "-mf16c"]


@pytest.mark.parametrize("kind", ["f32", "bf16", "q4_0", "q4_k", "iq4_xs", "iq1_m", "mxfp4", "tq2_0"])
def test_random_blocks_are_valid(bench, kind):
    from pyggml import _native

    synthetic = bench["synthetic"]
    type_id, elems, size = synthetic.sizes_of(kind)
    raw = synthetic.random_blocks(kind, 64 * size)
    assert raw.size == 64 * size
    values = _native.dequantize(type_id, raw, 64 if elems > 1 else 1, elems if elems > 1 else 64)
    assert np.isfinite(values).all()
    assert 0.001 < values.std() < 0.1


def test_an_engine_answers_and_says_what_it_lacks(bench, tmp_path):
    script = tmp_path / "engine.py"
    script.write_text(
        "import worker\n"
        "class E(worker.Engine):\n"
        "    name = 'e'\n"
        "    def __init__(self, **options): self.n = options['n']\n"
        "    def load(self): print('noise')\n"
        "    def version(self): return 'e 1'\n"
        "    def decode(self, n): return list(range(n)), 0.5\n"
        "worker.serve(E)\n",
        encoding="ascii",
    )
    worker = bench["worker"]
    with worker.Worker(script, n=3) as engine:
        assert (engine.name, engine.version) == ("e", "e 1")
        assert engine.ask("decode", n=2) == {"seconds": 0.5, "tokens": [0, 1]}
        with pytest.raises(worker.Missing, match="no truncate"):
            engine.ask("truncate", n=2)
    script.write_text("raise SystemExit(3)\n", encoding="ascii")
    with pytest.raises(worker.Missing, match="status 3"):
        worker.Worker(script, n=3)


def test_an_engine_stands_where_a_window_has_passed(bench, repo_root, tmp_path):
    made = tiny.write(tmp_path / "w.gguf", window=16, n_ctx=2048)
    ids = [i * 7 % 250 for i in range(300)]
    spec = importlib.util.spec_from_file_location("bench_model", repo_root / "bench" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # by its path: "model" is a folder of tests
    engine = module.Pyggml(str(made.path), threads=1, n_ctx=2048)
    engine.load()
    with engine.model:
        engine.prefill(ids)
        said = engine.decode(900)
        assert engine.session.back(300) == 0, "the window must have passed it"
        for _ in range(2):
            engine.truncate(300)
            assert engine.session.n_past == 300
            assert engine.decode(4) == said[:4]
        engine.truncate(302)
        engine.feed(ids[:5])
        assert engine.fed == [*ids, *engine.fed[300:302], *ids[:5]]
        assert len(engine.fed) == engine.session.n_past == 307
