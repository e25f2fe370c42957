"""Lanes of the inference process: who waits, who is turned away, what is forgotten when idle."""

import asyncio
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from core.errors import InferenceBusyError
from core.inference import JudgedTexts
from core.settings import Settings
from worker.inference.engine import Engine, Lane

SERVER_WITHOUT_TORCH = (
    "import sys; from pathlib import Path; from core.settings import Settings;"
    "from worker.inference.server import create_app;"
    "create_app(Settings(inference_token='x' * 16)); print('torch' in sys.modules)"
)


def test_the_server_is_made_without_importing_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SERVER_WITHOUT_TORCH],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "False"


def test_a_lane_turns_away_what_is_more_than_its_limit() -> None:
    lane = Lane("test", limit=1)
    with lane.slot("acme"), pytest.raises(InferenceBusyError), lane.slot("other"):
        pass

    with lane.slot("acme"):
        pass
    lane.close()


def test_the_last_place_of_a_lane_is_kept_for_another_project() -> None:
    lane = Lane("test", limit=3)

    with lane.slot("acme"), lane.slot("acme"):
        with pytest.raises(InferenceBusyError), lane.slot("acme"):
            pass
        with lane.slot("other"), pytest.raises(InferenceBusyError), lane.slot("third"):
            pass
    with lane.slot("acme"), lane.slot("acme"):
        pass
    lane.close()


def test_two_long_works_take_turns_step_by_step() -> None:
    lane = Lane("test", limit=2)
    order: list[str] = []

    async def steps(name: str) -> None:
        for _ in range(3):
            await lane.run(order.append, name)

    async def side_by_side() -> None:
        await asyncio.gather(steps("a"), steps("b"))

    asyncio.run(side_by_side())
    lane.close()

    assert order == ["a", "b"] * 3


def test_a_lane_in_use_is_never_idle() -> None:
    lane = Lane("test", limit=1)

    with lane.slot("acme"):
        time.sleep(0.02)
        during = lane.idle_seconds()
    time.sleep(0.02)
    afterwards = lane.idle_seconds()
    lane.close()

    assert during == 0
    assert afterwards > 0.01


def test_who_wants_another_base_model_waits_and_is_not_overtaken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, order, busy = Engine(settings), list[str](), [True]

    def begin(request: str) -> None:
        if request == "other model" and busy[0]:
            raise InferenceBusyError("Another model answers.")
        order.append(request)

    monkeypatch.setattr(engine, "_begin", begin)

    async def ask() -> None:
        waiting = asyncio.create_task(engine.begin("other model"))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        behind = asyncio.create_task(engine.begin("first model"))  # type: ignore[arg-type]
        await asyncio.sleep(0.15)
        busy[0] = False
        await asyncio.gather(waiting, behind)
        busy[0] = True
        monkeypatch.setattr("worker.inference.engine.BASE_MODEL_SECONDS", 0.05)
        with pytest.raises(InferenceBusyError):
            await engine.begin("other model")  # type: ignore[arg-type]

    asyncio.run(asyncio.wait_for(ask(), 10))
    engine.close()

    assert order == ["other model", "first model"]


def test_models_are_forgotten_once_nobody_asks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakeModerator:
        def judge(self, texts: tuple[str, ...]) -> JudgedTexts:
            return JudgedTexts(classifier=f"fake {len(texts)}", results=())

    class FakeModels:
        def __init__(self) -> None:
            self.closed = asyncio.Event()
            self.loop = asyncio.get_running_loop()

        def close(self) -> None:
            self.loop.call_soon_threadsafe(self.closed.set)

    engine = Engine(settings.model_copy(update={"inference_idle_timeout": timedelta(seconds=0.05)}))
    monkeypatch.setattr(engine, "_moderator", FakeModerator())
    monkeypatch.setattr(engine, "_embedder", object())

    async def wait() -> None:
        models = FakeModels()
        monkeypatch.setattr(engine, "_models", models)
        unloading = asyncio.create_task(engine.unload_when_idle())
        with engine.writing.slot("acme"):
            await asyncio.sleep(0.3)
            assert engine._models is not None
            assert engine._moderator is None
            assert engine._embedder is None
        await models.closed.wait()
        unloading.cancel()

    asyncio.run(asyncio.wait_for(wait(), 10))
    engine.close()

    assert engine._models is None
