"""The comparison of scores, on sketches made by hand and on a tiny model."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import attribution
from benchmarks.attribution import SHIPPED, main
from benchmarks.gradient_scores import Gradients, Sketcher, scores
from defense.ops.per_row_gradients import RowPass
from defense.training.lora import attach_adapter, trainable_parameters
from defense.training.loss import AdapterLoss
from tests.encoded_rows import SETTINGS, rows
from tests.public_rows import write_public_rows
from tests.tiny_laboratory import tiny_laboratory
from tests.tiny_models import tiny_llama


def _gradients(*units: tuple[float, ...], norms: tuple[float, ...] | None = None) -> Gradients:
    return Gradients(
        torch.tensor(units).float(),
        torch.tensor(norms or (1.0,) * len(units)),
        torch.ones(len(units)),
    )


def test_scores_are_what_their_names_say() -> None:
    user = _gradients((1, 0, 0), (0, 0.6, 0.8), norms=(2.0, 1.0))
    harmful, benign = _gradients((1, 0, 0), norms=(3.0,)), _gradients((0, 1, 0))
    refusals = _gradients((0, 0, 1))

    found = scores(user, harmful, benign, refusals)

    assert found["H"].tolist() == pytest.approx([1, 0])
    assert found["<g, H>"].tolist() == pytest.approx([6, 0])
    assert found["H - B"].tolist() == pytest.approx([2**-0.5, -0.6 * 2**-0.5])
    assert found["H - R"].tolist() == pytest.approx([2**-0.5, -0.8 * 2**-0.5])
    # U is (0.5, 0.3, 0.4), of squared length 0.5; H without it is (0.5, -0.3, -0.4).
    assert found["H without U"].tolist() == pytest.approx([2**-0.5, -(2**-0.5)])
    assert found["norm"].tolist() == [2, 1]


def test_sketches_keep_cosines_lengths_and_the_order_of_rows() -> None:
    model = attach_adapter(tiny_llama(), SETTINGS).eval()
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.05)
    loss = AdapterLoss(model, pad_token_id=0)
    some = [*rows("No, never and nowhere.", 5), *rows("Yes.", 5)]

    found = Sketcher(loss).gradients(some)

    alone = RowPass(loss, some)
    flat = torch.cat([gradients.flatten(1) for _, gradients in alone.layers()], dim=1)
    units = torch.nn.functional.normalize(flat, dim=1)
    torch.testing.assert_close(found.norms, alone.norms_B.float())
    torch.testing.assert_close(found.losses, alone.losses_B)
    torch.testing.assert_close(found.units @ found.units.T, units @ units.T, atol=0.05, rtol=0)


def test_the_command_compares_scores_on_every_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory = tiny_laboratory(tmp_path)
    monkeypatch.setattr(attribution, "open_laboratory", lambda *_: laboratory)
    data, path = write_public_rows(tmp_path / "public"), tmp_path / "found.json"

    chosen = ["--tasks", "sst2", "gsm8k", "--answer-tokens", "8", "0"]
    done = main([f"--data={data}", f"--result={path}", *chosen])

    assert done == 0
    written = json.loads(path.read_text())
    found = {(each["task"], each["score"], each["answer_tokens"]) for each in written["results"]}
    assert {("sst2", SHIPPED, None), ("gsm8k", "H - B", 8), ("gsm8k", "H - B", None)} <= found
    assert all(0 <= each["precision"] <= 1 for each in written["results"])
    assert [each["planted"] for each in written["shipped"]] == [2, 2]
    assert "| score | answer tokens | sst2 | gsm8k | all |" in capsys.readouterr().out
    assert "film" not in path.read_text()
