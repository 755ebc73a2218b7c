"""Choose the command, run it, and turn what goes wrong into one plain line and an exit status."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields
from types import FrameType
from typing import Any

from training import __version__
from training.cli.console import Command
from training.cli.exchange import Convert, Export
from training.cli.learn import Adapt, Suggest, Train
from training.cli.look import Demo, Info
from training.cli.make import Render, SampleCT, SamplePhantom, Synthesize
from training.cli.predict import Predict
from training.cli.review import Review
from training.cli.score import Evaluate
from training.errors import Cancelled, ChexanatomyError, in_words

BAD_INPUT = 2
INTERRUPTED = 130
TERMINATED = 143

_ABOUT = "Radiographs from CT, and a vision-language model that segments chest anatomy by name. Research use, not for diagnosis."

_COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "render": Render,
    "predict": Predict,
    "adapt": Adapt,
    "synthesize": Synthesize,
    "review": Review,
    "suggest": Suggest,
    "train": Train,
    "evaluate": Evaluate,
    "export": Export,
    "convert": Convert,
    "info": Info,
}
_SAMPLES: dict[str, type[Command]] = {"ct": SampleCT, "phantom": SamplePhantom}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 for bad input, 130 when interrupted, 143 when terminated."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"chexanatomy {__version__}")  # noqa: T201 - what was asked for
        return 0
    _quieten()
    try:
        command = _parse(given)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    with _stopping() as stopped:
        return _run(command, stopped)


def _run(command: Command, stopped: list[int]) -> int:
    try:
        return command.run()
    except ChexanatomyError as problem:
        if isinstance(problem, Cancelled):
            return _stop(INTERRUPTED)
        _say(str(problem))
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - so that the interpreter's own flush at exit is silent
        return 0
    except OSError as problem:
        _say(in_words(problem))
    except (RecursionError, UnicodeError) as problem:
        _say(f"something that was given cannot be used: {in_words(problem)}")
    except MemoryError:
        _say("there is not enough memory for this; take a smaller volume, detector or batch")
    except KeyboardInterrupt:
        return _stop(stopped[0] if stopped else INTERRUPTED)
    except SystemError:
        # numba turns an interrupt that arrives inside a compiled function into this.
        if not stopped:
            raise
        return _stop(stopped[0])
    return BAD_INPUT


def _stop(status: int) -> int:
    _say("stopped; finished work was kept")
    return status


@contextlib.contextmanager
def _stopping() -> Iterator[list[int]]:
    """Turn Ctrl-C and termination into KeyboardInterrupt; give the list of exit statuses that go with what arrived."""
    arrived: list[int] = []
    statuses = {"SIGINT": INTERRUPTED, "SIGBREAK": INTERRUPTED, "SIGTERM": TERMINATED}

    def interrupt(number: int, frame: FrameType | None) -> None:
        arrived.append(statuses[signal.Signals(number).name])
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = {
        number: signal.signal(number, interrupt) for name in statuses if (number := getattr(signal, name, None)) is not None
    }
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parse(given: Sequence[str]) -> Command:
    """Return the command that the arguments ask for. Raises SystemExit after help (0) or after one line on what is wrong (2)."""
    import tyro
    from tyro.extras import SubcommandApp

    chosen = given[0] if given else ""
    app, samples = SubcommandApp(), SubcommandApp()
    for name, command in _SAMPLES.items():
        samples.command(name=name, help=_help(command, in_full=given[1:2] == [name]))(command)
    for name, command in _COMMANDS.items():
        app.command(name=name, help=_help(command, in_full=chosen == name))(command)
    sample_help = "Write a sample volume with its labels.\n\nExample: chexanatomy sample ct lidc"
    app.command(samples, name="sample", help=sample_help if chosen == "sample" else sample_help.splitlines()[0])
    if twice := _lists_given_twice(given):
        _say(f"{twice[0]} is given twice, and its values would replace each other: write them all behind one")
        raise SystemExit(BAD_INPUT)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed: Any = app.cli(
                prog="chexanatomy", description=_ABOUT, args=given, config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
            )
    except SystemExit as leaving:
        if leaving.code:
            _say(_one_line(complaint.getvalue()))
        raise
    assert isinstance(parsed, Command)
    return parsed


def _lists_given_twice(given: Sequence[str]) -> list[str]:
    """Options of several values that stand among the arguments more than once; the parser would keep the last values alone."""
    command = _COMMANDS.get(given[0]) if given else None
    named = [argument.partition("=")[0].replace("_", "-") for argument in given]
    lists = [field.name for field in fields(command) if str(field.type).startswith("tuple[")] if command else []
    return [option for name in lists if named.count(option := f"--{name.replace('_', '-')}") > 1]


def _help(command: type[Command], in_full: bool) -> str:
    """Return a command's docstring with its example, or only the first line for the list of commands."""
    text = (command.__doc__ or "").strip()
    if not in_full:
        return text.splitlines()[0]
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(paragraphs)


def _one_line(box: str) -> str:
    """Return the sentence inside the parser's framed message, without frame and footer."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │|") for line in box.splitlines()]
    text = [line for line in lines if line and not line.startswith(("╭", "╰", "─"))]
    if text and text[0].startswith("Missing from"):
        needed = [line for line in text[1:] if line.startswith("--") or line.isupper()]
        command = text[0].removeprefix("Missing from chexanatomy ").rstrip(":")
        return f"{command} also needs {', '.join(needed)}; see chexanatomy {command} --help"
    sentence = []
    for line in text:
        if line.startswith(("For full helptext", "Argument helptext", "Available subcommands")):
            break
        sentence.append(line)
    return " ".join(sentence).partition(" Got errors")[0].rstrip(".") + "; see --help"


def _say(sentence: str) -> None:
    print(f"chexanatomy: {sentence}", file=sys.stderr)  # noqa: T201 - this is the command's voice


def _quieten() -> None:
    """Keep other packages' warnings and chatter off the terminal: they are for developers, not for the person at the desk."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
