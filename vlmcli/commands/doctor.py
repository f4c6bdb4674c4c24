"""`vlm doctor`: what works on this machine and what does not."""

from collections.abc import Mapping

from vlmcli.commands.options import app_of


def doctor(*, flags: Mapping[str, object]) -> None:
    """Say what works on this machine, what does not, and what to do about it.

    The exit code is 0 if a question about a picture can be answered here.

    Example: vlm doctor --offline
    """
    from vlmcli import output

    with output.status("looking"):
        from vlmcli import diagnosis

        settings, trouble = diagnosis.settings_of(flags)
        findings = diagnosis.examine(settings, trouble)
    if settings.json:
        output.record(diagnosis.as_fields(findings))
    else:
        output.report(findings)
    if failure := diagnosis.failure(findings):
        raise failure


app = app_of(doctor, settings=("offline", "device", "dtype", "json"))
