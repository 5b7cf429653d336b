"""Signals and streams, with real processes: put in order, a true word, the exit code of shells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from coin_game import environment_of_child, write_recipe

ETO = [sys.executable, "-m", "eto"]


@pytest.fixture
def recipe(tmp_path: Path, model: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run")


def started(arguments: list[str], cwd: Path, **options: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*ETO, *arguments], text=True, cwd=cwd, env=environment_of_child(), **(pipes | options)
    )


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_ends_in_order_and_leaves_no_process(number, recipe, tmp_path):
    run = started(["run", str(recipe)], tmp_path)
    try:
        for line in run.stdout:
            if line.split()[:1] == ["expert"]:
                break
        children = below(run)
        assert children
        run.send_signal(number)
        _, error = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 128 + number and "Traceback" not in error
    assert error.startswith("stopped; the same command resumes"), error
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.timeout(120)
def test_nohup_stays_nohup(recipe, tmp_path):
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", ignoring, *ETO, "run", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment_of_child(),
    )
    try:
        assert run.stdout.readline().startswith("coin: ")
        run.send_signal(signal.SIGHUP)
        assert run.stdout.readline()
        assert run.poll() is None
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("command", ["sft", "dpo", "replay", "expert", "explore", "evaluate", "run", "pairs"])
def test_each_command_says_how_to_go_on(command):
    from eto.cli.stopping import Stopping

    stopping = Stopping()
    stopping.begin(command)
    resumes = command != "pairs"
    assert ("the same command resumes" in stopping.farewell()) is resumes
    assert resumes or "begins again" in stopping.farewell()


@pytest.mark.timeout(60)
def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = started(["doctor"], tmp_path, stdout=writer)
    os.close(writer)
    _, error = done.communicate(timeout=50)
    assert (done.returncode, error) == (128 + signal.SIGPIPE, "")


@pytest.mark.timeout(60)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["--version"]])
def test_an_output_that_is_full_is_told(arguments, tmp_path):
    with open("/dev/full", "w") as full:
        done = started(arguments, tmp_path, stdout=full)
        _, error = done.communicate(timeout=50)
    assert done.returncode == 2 and error.startswith("error: cannot write to standard output: No space")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_text_can_be_written_in_every_encoding(encoding, tmp_path):
    variables = environment_of_child() | {"PYTHONIOENCODING": encoding}
    name = os.fsdecode(b"\xff\xe2\x80\x93[/b].yaml")
    for redirected in (["run", name], ["doctor"]):
        done = subprocess.run(
            [*ETO, *redirected], capture_output=True, cwd=tmp_path, env=variables, timeout=50
        )
        assert b"Traceback" not in done.stderr
        assert redirected == ["doctor"] or b"[/b].yaml: cannot read the recipe: No such file" in done.stderr


@pytest.mark.timeout(180)
@pytest.mark.parametrize("out", [True, False], ids=["with a file", "without one"])
def test_an_evaluation_that_was_stopped_says_what_is_kept(out, recipe, tmp_path, command, monkeypatch):
    target = ["--out", "played.jsonl"] if out else []
    evaluation = ["evaluate", "--recipe", str(recipe), "--split", "train", *target]
    playing = started(evaluation, tmp_path)
    try:
        for line in playing.stdout:
            if line.split()[:1] == ["train"]:
                break
        children = below(playing)
        playing.send_signal(signal.SIGTERM)
        _, error = playing.communicate(timeout=60)
    finally:
        playing.kill()
    assert playing.returncode == 128 + signal.SIGTERM, error
    assert error.startswith("stopped; the same command resumes" if out else "stopped; nothing is kept"), error
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not (tmp_path / "played.jsonl").exists()
    if out:
        monkeypatch.chdir(tmp_path)
        command.succeeds(*evaluation)
        assert len((tmp_path / "played.jsonl").read_text().splitlines()) == 48
