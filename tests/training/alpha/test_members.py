"""Several members, the best step of each, and their consensus: what a run leaves, however often it was stopped."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tests.tiny_run import (
    RENDERED,
    SETTINGS,
    STEPS,
    TOTAL,
    WARMUP,
    Killed,
    assert_same,
    killing,
    signalling,
    tiny_config,
    whole_run,
)

from labels4free.checkpoints.loading import load_alpha_network
from labels4free.checkpoints.native import read_native_header, read_tensors
from labels4free.training.alpha import members as alpha_members
from labels4free.training.alpha.config import COVERAGE_BOUNDS
from labels4free.training.alpha.consensus import Consensus, distill
from labels4free.training.alpha.run import CachedRecipe
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop.run_dir import RunDir

MEMBERS = 2
CONFIG = dataclasses.replace(SETTINGS, members=MEMBERS, consensus_steps=5)


@pytest.fixture(scope="module")
def whole_members(tiny_generator, tmp_path_factory):
    """What an uninterrupted run of several members leaves."""
    return whole_run(tiny_generator, tmp_path_factory.mktemp("members") / "run", CONFIG)


def entries(found):
    return [json.loads(line) for line in found["log"].splitlines()]


def scored(monkeypatch, score):
    """Have every check find this score at a step."""
    check = AlphaTrainer.check
    monkeypatch.setattr(AlphaTrainer, "check", lambda self: scored_as(check(self), score(self.alpha_step)))


def saved(run):
    path = run / "alpha.safetensors"
    return SimpleNamespace(info=read_native_header(path, "alpha_network").info, state=read_tensors(path))


def scored_as(check, score):
    return dataclasses.replace(check, numbers={**check.numbers, "score": score})


# Members


def test_what_a_run_of_several_members_leaves(whole_members):
    result = whole_members["result"]
    assert (result.steps, result.total, result.restarts) == (MEMBERS * TOTAL, MEMBERS * TOTAL, 0)
    names = [f"{m}restart_0_step_{step:06d}.png" for m in ("", "member_1_") for step in (0, 4, 8)]
    assert sorted(whole_members["pictures"]) == sorted([*names, "consensus.png"])
    log = entries(whole_members)
    assert [(e["member"], e["iteration"]) for e in log[:-1]] == [
        (m, k + 1) for m in range(MEMBERS) for k in range(TOTAL)
    ]
    assert sum("kept_step" in entry for entry in log) == MEMBERS
    with Image.open(result.file.parent / "pictures" / "consensus.png") as picture:
        assert picture.size[1] > 8 * 64


def test_what_is_noted_of_the_consensus(whole_members):
    result = whole_members["result"]
    info = saved(result.file.parent).info
    last = entries(whole_members)[-1]
    for name in ("consensus", "agreements", "agreement_members"):
        assert info[name] == last[name]
    assert len(info["agreements"]) == len(info["members"]) == len(info["kept_steps"]) == MEMBERS
    assert all(0 < agreement <= 1 for agreement in info["agreements"])
    assert info["health"] == result.check.numbers
    assert info["health"]["score"] == last["check_score"]
    assert info["kept_step"] is None
    assert [member["problem"] for member in info["members"]] == [None] * MEMBERS


def test_the_first_member_is_the_run_without_others(whole, whole_members):
    alone = RunDir(whole["result"].file.parent).latest_checkpoint().state
    members = RunDir(whole_members["result"].file.parent).latest_checkpoint().state["members"]
    assert len(members) == MEMBERS - 1
    best = alone["best"]["network"]
    assert all(torch.equal(members[0]["network"][name], value) for name, value in best.items())
    second = RunDir(whole_members["result"].file.parent).latest_checkpoint().state["best"]["network"]
    assert not all(torch.equal(second[name], value) for name, value in best.items())
    own = [entry for entry in entries(whole_members) if entry["member"] == 0]
    assert [{k: v for k, v in entry.items() if k != "member"} for entry in own] == entries(whole)


def test_the_finished_network_has_learned_from_the_members(whole_members, tiny_generator):
    run = whole_members["result"].file.parent
    info = saved(run).info
    state = RunDir(run).latest_checkpoint().state
    states = [*(m["network"] for m in state["members"]), state["best"]["network"]]
    recipe = CachedRecipe(tiny_generator, CONFIG)
    recipe.prepare(run / "again", lambda done, total: None)
    shutil.rmtree(run / "again")
    networks = []
    for k in sorted(info["consensus"], key=lambda k: -info["agreements"][k]):
        networks.append(copy.deepcopy(recipe.network))
        networks[-1].load_state_dict(states[k])
    student = distill(networks, recipe.cache, CONFIG)
    expected = recipe.cache.projection.fold(student, tiny_generator.feature_specs).state_dict()
    finished = load_alpha_network(run).state_dict()
    assert all(torch.equal(value, finished[name]) for name, value in expected.items())
    assert not any(torch.equal(student.head.weight, network.head.weight) for network in networks)


def test_members_that_do_not_agree_are_left_out(train, tmp_path, monkeypatch):
    monkeypatch.setattr(alpha_members, "find_consensus", lambda alphas, sound: Consensus((1,), (0.1, 0.1), 1.0))
    joined = []
    monkeypatch.setattr(alpha_members, "distill", lambda found, *rest: joined.extend(found) or distill(found, *rest))
    train(config=CONFIG)
    kept = RunDir(tmp_path / "run").latest_checkpoint().state["best"]["network"]
    assert len(joined) == 1
    assert torch.equal(joined[0].head.weight, kept["head.weight"])
    assert saved(tmp_path / "run").info["consensus"] == [1]


def test_each_member_may_start_over(train, lost, tmp_path):
    lost.add(0)
    result = train(config=CONFIG)
    assert result.restarts == MEMBERS
    assert result.steps == result.total == MEMBERS * (TOTAL + WARMUP)
    assert train(config=None, resume=True) == result


# Stopped, killed, resumed


@pytest.mark.parametrize("iteration", [TOTAL, TOTAL + 1, 2 * TOTAL - 1])
def test_stopped_and_resumed(train, whole_members, tmp_path, iteration):
    stopped = train(config=CONFIG, progress=signalling(signal.SIGINT, iteration=iteration))
    assert (stopped.interrupted, stopped.steps, stopped.total) == ("SIGINT", iteration, MEMBERS * TOTAL)
    result = train(config=None, resume=True)
    assert_same(tmp_path / "run", whole_members)
    assert result.check == whole_members["result"].check


@pytest.mark.parametrize("iteration", [TOTAL, TOTAL + 3, 2 * TOTAL])
def test_killed_and_resumed(train, whole_members, tmp_path, iteration):
    with pytest.raises(Killed):
        train(config=CONFIG, progress=killing(iteration))
    train(config=None, resume=True)
    assert_same(tmp_path / "run", whole_members)


def test_killed_before_the_network_is_written(train, whole_members, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(CachedRecipe, "finished", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(config=CONFIG)
    train(config=None, resume=True)
    assert_same(tmp_path / "run", whole_members)


def test_stopped_while_samples_are_rendered_again(train, whole_members, tmp_path):
    stopped = train(config=CONFIG, progress=signalling(signal.SIGTERM, rendered=RENDERED - 2))
    assert (stopped.interrupted, stopped.steps, stopped.total) == ("SIGTERM", 0, MEMBERS * TOTAL)
    train(config=None, resume=True)
    assert_same(tmp_path / "run", whole_members)


def test_a_finished_run_is_resumed_at_once(train, whole_members, tmp_path):
    first = train(config=CONFIG)
    assert train(config=None, resume=True) == first
    assert_same(tmp_path / "run", whole_members)


# The best step


def test_the_network_with_the_best_score_is_kept(train, whole, tmp_path, monkeypatch, caplog):
    scored(monkeypatch, lambda step: 1 / step)
    with caplog.at_level(logging.INFO, "labels4free"):
        result = train()
    info, log = saved(tmp_path / "run").info, entries({"log": (tmp_path / "run" / "log.jsonl").read_text()})
    assert result.kept_step == info["kept_step"] == log[-1]["kept_step"] == 4
    assert info["health"]["score"] == log[-1]["kept_score"] == 0.25
    assert "The network of step 4 has the best score, 0.250, and is kept." in caplog.messages
    train("short", tiny_config(monitor={"keep": "last"}), progress=signalling(signal.SIGINT, iteration=WARMUP + 4))
    then = RunDir(tmp_path / "short").latest_checkpoint().state["average"]
    state = RunDir(tmp_path / "run").latest_checkpoint().state
    assert all(torch.equal(state["best"]["network"][name], value) for name, value in then.items())
    assert torch.equal(saved(tmp_path / "run").state["head.weight"], then["head.weight"])
    assert not torch.equal(saved(tmp_path / "run").state["head.weight"], state["average"]["head.weight"])
    assert train(resume=True) == result


def test_the_last_network_is_kept_if_asked(train, tmp_path, monkeypatch):
    scored(monkeypatch, lambda step: 1 / step)
    result = train(config=tiny_config(monitor={"keep": "last"}))
    assert result.kept_step == STEPS
    assert result.check.score == 1 / STEPS
    average = RunDir(tmp_path / "run").latest_checkpoint().state["average"]
    assert torch.equal(saved(tmp_path / "run").state["head.weight"], average["head.weight"])


@pytest.mark.parametrize("iteration", [WARMUP + 6, TOTAL])
def test_the_best_step_survives_a_kill(train, tmp_path, monkeypatch, iteration):
    scored(monkeypatch, lambda step: 1 / step)
    train("unharmed")
    with pytest.raises(Killed):
        train(progress=killing(iteration))
    train(config=None, resume=True)
    assert (tmp_path / "run/alpha.safetensors").read_bytes() == (tmp_path / "unharmed/alpha.safetensors").read_bytes()
    assert (tmp_path / "run/log.jsonl").read_bytes() == (tmp_path / "unharmed/log.jsonl").read_bytes()


# Patience

PATIENT = tiny_config(members=2, monitor={"interval": 2, "patience": 2})


def test_without_a_better_score_training_ends_early(train, tmp_path, monkeypatch, caplog):
    scored(monkeypatch, lambda step: 0.5)
    with caplog.at_level(logging.INFO, "labels4free"):
        result = train(config=PATIENT)
    assert result.steps == result.total == 2 * (WARMUP + 4)
    log = entries({"log": (tmp_path / "run" / "log.jsonl").read_text()})
    assert [(e["member"], e["step"]) for e in log if "kept_step" in e] == [(0, 4), (1, 4)]
    assert caplog.messages.count("Step 4: no better score for 2 steps; training ends.") == 2
    assert (tmp_path / "run" / "pictures" / "member_1_restart_0_step_000004.png").exists()
    assert train(config=None, resume=True) == result


@pytest.mark.parametrize("iteration", [WARMUP + 4, 2 * WARMUP + 8])
def test_an_early_end_survives_a_kill(train, tmp_path, monkeypatch, iteration):
    scored(monkeypatch, lambda step: 0.5)
    train("unharmed", PATIENT)
    with pytest.raises(Killed):
        train(config=PATIENT, progress=killing(iteration))
    train(config=None, resume=True)
    assert (tmp_path / "run/alpha.safetensors").read_bytes() == (tmp_path / "unharmed/alpha.safetensors").read_bytes()
    assert (tmp_path / "run/log.jsonl").read_bytes() == (tmp_path / "unharmed/log.jsonl").read_bytes()


# Bounds of coverage that are tried

TRYING = tiny_config(loss={"min_foreground_coverage": None, "min_background_coverage": None})
LARGE, SMALL = COVERAGE_BOUNDS


def scored_by_bounds(monkeypatch, scores, problems=None):
    """Have every check find the score, and the problem, of the bounds of its training."""
    check = AlphaTrainer.check

    def checked(self):
        found = scored_as(check(self), scores[self.bounds])
        return dataclasses.replace(found, problem=(problems or {}).get((self.bounds, self.restart)))

    monkeypatch.setattr(AlphaTrainer, "check", checked)


@pytest.mark.parametrize(("better", "worse"), [(LARGE, SMALL), (SMALL, LARGE)])
def test_the_bounds_with_the_higher_score_are_kept(train, tmp_path, monkeypatch, caplog, better, worse):
    scored_by_bounds(monkeypatch, {better: 0.5, worse: 0.25})
    with caplog.at_level(logging.INFO, "labels4free"):
        result = train(config=TRYING)
    assert (result.steps, result.total, result.check.score, result.kept_step) == (2 * TOTAL, 2 * TOTAL, 0.5, STEPS)
    scores = ["0.500", "0.250"] if better == LARGE else ["0.250", "0.500"]
    info = saved(tmp_path / "run").info
    assert (info["bounds"], info["trials"]) == (
        list(better),
        [{"score": float(score), "problem": None} for score in scores],
    )
    alone = tiny_config(loss=dict(zip(("min_foreground_coverage", "min_background_coverage"), better, strict=True)))
    train("alone", alone)
    state = saved(tmp_path / "alone").state
    assert all(torch.equal(value, state[name]) for name, value in saved(tmp_path / "run").state.items())


def test_the_other_members_have_the_bounds_that_were_kept(train, tmp_path, monkeypatch, caplog):
    scored_by_bounds(monkeypatch, {LARGE: 0.25, SMALL: 0.5})
    with caplog.at_level(logging.INFO, "labels4free"):
        result = train(config=dataclasses.replace(TRYING, members=2, consensus_steps=5))
    assert result.steps == 3 * TOTAL
    message = "Scores by the bounds of coverage (foreground and background): 0.25 and 0.3: 0.250, 0.15 and 0.7: 0.500."
    assert message in caplog.messages
    train(
        "small",
        dataclasses.replace(
            tiny_config(loss={"min_foreground_coverage": SMALL[0], "min_background_coverage": SMALL[1]}),
            members=2,
            consensus_steps=5,
        ),
    )
    state = saved(tmp_path / "small").state
    assert all(torch.equal(value, state[name]) for name, value in saved(tmp_path / "run").state.items())


def test_a_trial_that_is_lost_is_given_up(train, tmp_path, monkeypatch):
    scored_by_bounds(monkeypatch, {LARGE: 0.9, SMALL: 0.1}, {(LARGE, 0): "the masks are empty"})
    result = train(config=TRYING)
    assert (result.steps, result.restarts, result.check.score) == (WARMUP + 4 + TOTAL, 0, 0.1)
    assert saved(tmp_path / "run").info["trials"][0]["problem"] == "the masks are empty"
    assert train(config=None, resume=True) == result


def test_where_every_trial_is_lost_the_first_bounds_start_over(train, tmp_path, monkeypatch):
    problems = {(LARGE, 0): "empty", (SMALL, 0): "full"}
    scored_by_bounds(monkeypatch, {LARGE: 0.9, SMALL: 0.1}, problems)
    result = train(config=TRYING)
    assert (result.restarts, result.check.score, result.check.problem) == (1, 0.9, None)
    assert saved(tmp_path / "run").info["bounds"] == list(LARGE)


@pytest.mark.parametrize("iteration", [WARMUP + 4, TOTAL, TOTAL + 2, TOTAL + WARMUP + 4, 2 * TOTAL])
def test_trials_survive_a_kill(train, tmp_path, monkeypatch, iteration):
    scored_by_bounds(monkeypatch, {LARGE: 0.5, SMALL: 0.6})
    train("unharmed", TRYING)
    with pytest.raises(Killed):
        train(config=TRYING, progress=killing(iteration))
    train(config=None, resume=True)
    assert_same_files(tmp_path / "run", tmp_path / "unharmed")


def test_a_trial_given_up_and_killed_before_the_network_is_written(train, tmp_path, monkeypatch):
    scored_by_bounds(monkeypatch, {LARGE: 0.5, SMALL: 0.6}, {(SMALL, 0): "full"})
    train("unharmed", TRYING)
    with monkeypatch.context() as patch:
        patch.setattr(CachedRecipe, "finished", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(config=TRYING)
    train(config=None, resume=True)
    assert_same_files(tmp_path / "run", tmp_path / "unharmed")


def assert_same_files(run, other):
    for name in ("alpha.safetensors", "log.jsonl"):
        assert (run / name).read_bytes() == (other / name).read_bytes()
