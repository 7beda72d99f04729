from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.utils.env_checker import check_env

from rlcondense import catalogue
from rlcondense.cli import main
from rlcondense.errors import BadConfig, RLCondenseError, UnknownName
from rlcondense.make import make_task
from rlcondense.tasks import procgen
from rlcondense.tasks.base import SPLITS, Task
from rlcondense.tasks.procgen import GAMES, MODES, VIEWS, ProcgenTask

ALL = [f"procgen/{game}-{kind}-v0" for game in GAMES for kind in (*MODES, "plain")]


def _play(env, steps: int, seed: int = 0):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    frames, infos = env.reset()
    out = [(frames.copy(), infos["level_seed"].copy())]
    for _ in range(steps):
        frames, rewards, first, _, infos = env.step(rng.integers(0, 15, env.num_envs))
        out.append((frames.copy(), rewards.copy(), first.copy(), infos["level_seed"].copy()))
    return out


@pytest.mark.parametrize("id_", ALL)
def test_every_game_plays_levels_of_its_split_only(id_: str) -> None:
    task = make_task(id_)
    for split in SPLITS:
        env = task.make_vec(split, 4, seed=0)
        for *_, levels in _play(env, 30):
            assert all(level in task.splits[split] for level in levels)
        env.close()


def test_seen_and_held_out_levels_share_none() -> None:
    for id_ in catalogue.entries("tasks"):
        seen, heldout = make_task(id_).splits["seen"], make_task(id_).splits["heldout"]
        shared = range(max(seen.start, heldout.start), min(seen.stop, heldout.stop))
        assert bool(shared) == ("light2024" in id_)


def test_overlapping_splits_are_refused_unless_said() -> None:
    with pytest.raises(BadConfig, match="overlap"):
        ProcgenTask("x", "starpilot", seen=(100, 200), heldout=(0, 10_000))
    ProcgenTask("x", "starpilot", seen=(100, 200), heldout=(0, 10_000), overlap=True)


@pytest.mark.parametrize("seen", [(0, 0), (-5, 10), (2**31 - 10, 20)])
def test_levels_that_procgen_has_not_are_refused(seen: tuple[int, int]) -> None:
    with pytest.raises(BadConfig, match="seen levels of 'x' must"):
        ProcgenTask("x", "starpilot", seen=seen)


def test_frames_are_channel_first_uint8_without_a_copy(task: Task) -> None:
    env = task.make_vec("seen", 3, seed=0, copy=False)
    frames, _ = env.reset()
    assert frames.shape == (3, 3, 64, 64)
    assert frames.dtype == np.uint8
    assert not frames.flags.owndata
    assert env.observation_space.contains(frames.copy())
    env.close()


def test_copied_frames_outlive_the_next_step(task: Task) -> None:
    env = task.make_vec("seen", 2, seed=0)
    frames, _ = env.reset()
    before = frames.copy()
    for _ in range(5):
        env.step(np.full(2, 7))
    assert (frames == before).all()
    env.close()


def test_levels_do_not_depend_on_threads_actions_or_neighbours(task: Task) -> None:
    def levels(num_envs: int, threads: int, seed: int) -> np.ndarray:
        env = task.make_vec("seen", num_envs, seed=5, num_threads=threads)
        played: list[list[int]] = [[] for _ in range(2)]
        rng = np.random.default_rng(seed)
        _, infos = env.reset()
        while min(map(len, played)) < 3:
            current = infos["level_seed"].copy()
            _, _, first, _, infos = env.step(rng.integers(0, 15, num_envs))
            for i in range(2):
                if first[i]:
                    played[i].append(current[i])
        env.close()
        return np.array([p[:3] for p in played])

    assert (levels(2, 1, 0) == levels(6, 2, 1)).all()


def test_the_same_seed_gives_the_same_frames(task: Task) -> None:
    a, b = (_play(task.make_vec("seen", 2, seed=9, num_threads=t), 50) for t in (1, 2))
    for x, y in zip(a, b, strict=True):
        assert all((p == q).all() for p, q in zip(x, y, strict=True))


def test_reset_mid_episode_starts_new_levels_and_a_seed_starts_over(task: Task) -> None:
    env = task.make_vec("heldout", 8, seed=1)
    first_frames, first = env.reset()
    first_levels = first["level_seed"].copy()
    env.step(np.zeros(8, int))
    _, again = env.reset()
    assert (again["level_seed"] != first_levels).any()
    second_levels = again["level_seed"].copy()
    _, third = env.reset()
    assert (third["level_seed"] != second_levels).any()
    frames, infos = env.reset(seed=1)
    assert (infos["level_seed"] == first_levels).all()
    assert (frames == first_frames).all()
    _, same = env.reset(seed=1)
    assert (same["level_seed"] == first_levels).all()
    _, unplayed = env.reset()
    assert (unplayed["level_seed"] == second_levels).all()
    env.close()


def test_the_level_that_ended_is_told(task: Task) -> None:
    env = task.make_vec("seen", 4, seed=0)
    _, infos = env.reset()
    current = infos["level_seed"].copy()
    seen_an_end = False
    for _ in range(300):
        _, _, first, _, infos = env.step(np.zeros(4, int))
        assert (infos["prev_level_seed"][first] == current[first]).all()
        seen_an_end |= bool(first.any())
        current = infos["level_seed"].copy()
    assert seen_an_end
    env.close()


@pytest.mark.parametrize("id_", ["procgen/starpilot-easy-v0", "procgen/jumper-hard-v0"])
@pytest.mark.parametrize("split", SPLITS)
def test_single_environments_pass_gymnasiums_checker(id_: str, split: str) -> None:
    env = gymnasium.make(f"rlcondense.tasks:{id_}", split=split, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset(seed=0)
    assert env.render().shape == (64, 64, 3)  # type: ignore[union-attr]
    env.close()


def test_every_game_is_registered_with_gymnasium() -> None:
    for id_ in ALL:
        assert gymnasium.spec(id_).id == id_


def test_a_single_environment_goes_on_to_the_next_level_after_the_end() -> None:
    env = gymnasium.make("rlcondense.tasks:procgen/starpilot-easy-v0").unwrapped
    env.reset(seed=0)
    for _ in range(1000):
        frame, _, terminated, _, info = env.step(np.int64(0))
        if terminated:
            break
    again, after = env.reset()
    assert terminated
    assert info["prev_level_seed"] == info["level_seed"] != after["level_seed"]
    assert (again == frame).all()
    env.close()


def _first_parting(game: str, view: str, steps: int) -> int | None:
    """The first step after which a view's rewards, episode ends or levels are not the ordinary."""
    envs = [
        ProcgenTask("x", game, view=v).make_vec("seen", 8, seed=3, copy=False)
        for v in ("ordinary", view)
    ]
    rng = np.random.default_rng(0)
    for env in envs:
        env.reset()
    parted = None
    for step in range(steps):
        actions = rng.integers(0, 15, 8)
        ours, theirs = (env.step(actions) for env in envs)
        alike = all((a == b).all() for a, b in zip(ours[1:4], theirs[1:4], strict=True))
        if not (alike and (ours[4]["level_seed"] == theirs[4]["level_seed"]).all()):
            parted = step
            break
    for env in envs:
        env.close()
    return parted


@pytest.mark.parametrize("game", GAMES)
def test_every_view_of_every_game_keeps_in_step_with_the_ordinary_one(game: str) -> None:
    for view in set(VIEWS) - {"ordinary"}:
        assert _first_parting(game, view, 250) is None


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_every_view_keeps_in_step_for_long(game: str) -> None:
    for view in set(VIEWS) - {"ordinary"}:
        assert _first_parting(game, view, 3000) is None


def test_a_view_that_changes_what_happens_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    themed = {**VIEWS, "themed": {"restrict_themes": True}}
    monkeypatch.setattr(procgen, "VIEWS", themed)
    assert _first_parting("bigfish", "themed", 250) is not None


def test_views_show_fewer_and_fewer_colours() -> None:
    def colours(view: str) -> int:
        env = ProcgenTask("x", "starpilot", view=view).make_vec("seen", 4, seed=0)
        frames = _play(env, 60)[-1][0]
        env.close()
        return len(np.unique(frames.transpose(0, 2, 3, 1).reshape(-1, 3), axis=0))

    assert 1 < colours("plain") < colours("bare") < colours("ordinary")


def test_caveflyers_plain_task_keeps_its_sprites() -> None:
    views = {game: make_task(f"{game}-plain").view for game in GAMES}  # type: ignore[attr-defined]
    assert views == {**dict.fromkeys(GAMES, "plain"), "caveflyer": "bare"}


def test_a_method_cannot_make_held_out_levels(task: Task) -> None:
    view = task.seen_only()
    view.make_vec("seen", 1, seed=0).close()
    with pytest.raises(RLCondenseError, match="only make the seen levels"):
        view.make_vec("heldout", 1, seed=0)
    assert "heldout" not in view.splits


def test_bad_requests_say_what_is_wrong(task: Task) -> None:
    with pytest.raises(BadConfig, match="split must be one of seen, heldout, not 'test'"):
        task.make_vec("test", 1, seed=0)
    with pytest.raises(UnknownName, match="did you mean 'maze'"):
        ProcgenTask("x", "mazes")
    with pytest.raises(BadConfig, match="mode"):
        ProcgenTask("x", "maze", "extreme")
    with pytest.raises(BadConfig, match="view must be one of ordinary, plain, bare, not 'dark'"):
        ProcgenTask("x", "maze", view="dark")


def test_no_gym_notice_reaches_the_terminal() -> None:
    program = (
        "import rlcondense as rlc; rlc.make_task('starpilot').make_vec('seen', 1, seed=0).close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_states_can_be_put_back(task: Task) -> None:
    env = task.make_vec("seen", 2, seed=0)
    env.reset()
    for _ in range(20):
        env.step(np.full(2, 3))
    states = env.get_state()
    after = [env.step(np.full(2, 7))[0] for _ in range(10)]
    env.set_state(states)
    assert all((env.step(np.full(2, 7))[0] == frames).all() for frames in after)
    env.close()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the loader of shared libraries refuse Procgen's own for a reason."""
    make_task("starpilot").make_vec("seen", 1, seed=0).close()  # imports it quietly

    def refuse(reason: str) -> None:
        message = f"cannot load library '/site/prebuilt/libenv.so': {reason}.  Additionally, ctypes"

        def load(**_: object) -> None:
            raise OSError(message)

        monkeypatch.setattr("procgen.ProcgenGym3Env", load)

    return refuse


@pytest.mark.parametrize("library", ["libGL.so.1", "libgthread-2.0.so.0"])
@pytest.mark.parametrize("command", ["evaluate random-policy --task starpilot", "check starpilot"])
def test_a_system_library_that_is_absent_is_one_line_with_the_command(
    command: str,
    library: str,
    refused: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused(f"{library}: cannot open shared object file: No such file or directory")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, command.split())
    assert done.exit_code == 2
    assert done.stderr.strip().splitlines()[-1] == (
        f"Error: Procgen needs the system library {library}, which is not installed "
        "(Debian and Ubuntu: apt-get install libgl1 libglib2.0-0)"
    )


def test_another_error_of_the_loader_stays_as_it_is(refused: Callable[[str], None]) -> None:
    refused("file too short")
    with pytest.raises(OSError, match="file too short"):
        make_task("starpilot").make_vec("seen", 1, seed=0)


def test_an_abandoned_simulator_is_closed_while_another_is_loaded() -> None:
    """Garbage collection may close one in the middle of cffi's work, which holds a lock."""
    env = make_task("starpilot").make_vec("seen", 1, seed=0)
    closing = threading.Thread(target=env.close, daemon=True)
    with env._env._ffi._lock:  # type: ignore[attr-defined]
        closing.start()
        closing.join(10)
        assert not closing.is_alive()
