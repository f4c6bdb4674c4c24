"""What works on this machine and what does not: a list of findings, whatever is broken.

Libraries are imported inside of functions, each with a net below: any of them may be the patient.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vlmcli import __version__, config
from vlmcli.diagnosis import formats, machine, models, software, surroundings
from vlmcli.errors import ExitCode, UsageError, VlmError
from vlmcli.models import names
from vlmcli.output import Finding, State
from vlmcli.settings import Settings

__all__ = ["as_fields", "examine", "failure", "settings_of"]


def settings_of(flags: Mapping[str, object]) -> tuple[Settings, UsageError | None]:
    """The settings, and what is wrong with them: then without the part that is.

    Raises UsageError for a flag.
    """
    try:
        settings = config.load(flags)
        names.aliases()  # stands in the same file, and is read for every name of a model
        return settings, None
    except UsageError as error:
        trouble = error
    try:
        return config.resolve(flags, os.environ, {}), trouble
    except UsageError:
        # Whoever set VLM_OFFLINE, and another variable wrongly, must not be taken to the Hub.
        settings = config.resolve(flags, {}, {})
        origins = {**settings.origins, "offline": "the broken settings"}
        return replace(settings, offline=True, origins=origins), trouble


def examine(settings: Settings, trouble: UsageError | None) -> list[Finding]:
    """Look at everything, in the order of the report. Takes seconds: torch is imported."""
    return list(_findings(settings, trouble))


def _findings(settings: Settings, trouble: UsageError | None) -> Iterator[Finding]:
    libraries = list(software.findings())
    sound = {finding.name for finding in libraries if finding.state is State.OK}
    yield from libraries
    if "torch" in sound:
        yield from machine.findings(settings)
    yield from formats.findings()
    yield from software.extras()
    yield surroundings.configuration(trouble)
    if "huggingface_hub" in sound:
        # Names of models are read with the short names of the configuration file.
        loads = trouble is None and {"torch", "transformers"} <= sound
        yield from models.findings(settings, loads=loads)
    yield from surroundings.terminal()


def failure(findings: Sequence[Finding]) -> VlmError | None:
    """Why no question about a picture can be answered here; None if one can."""
    return next((finding.error for finding in findings if finding.error), None)


def as_fields(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings for programs: by group and name, in words that stay the same."""
    checks: dict[str, dict[str, object]] = {}
    for finding in findings:
        group = checks.setdefault(finding.group, {})
        group[finding.name.lower().replace(" ", "_").replace("-", "_")] = {
            "state": finding.state.value,
            "value": finding.value,
            "hint": finding.hint,
            **finding.facts,
        }
    error = failure(findings)
    code = error.exit_code if error else ExitCode.OK
    return {"version": __version__, "works": error is None, "exit_code": int(code), **checks}
