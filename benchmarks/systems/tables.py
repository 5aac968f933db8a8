"""Tables of a report, for a terminal and for the README."""

from rich.table import Table

from benchmarks.systems.report import SIDES, Report, rows

BEGIN, END = "<!-- systems -->", "<!-- /systems -->"
WIDTH = 110  # columns of the table on a terminal


def terminal(report: Report) -> Table:
    """Return the table for a terminal, with one line per side."""
    heads = ("accuracy or\nperplexity", "seconds\nan epoch", "times\nfaster", "first\nstep", "peak\nMB", "first losses\napart")
    table = Table("", *heads, min_width=WIDTH)
    table.caption = f"{_where(report)}. ± is the standard error of the mean over seeds."
    for row in rows(report):
        table.add_row(row.title)
        # The ratio and the difference belong to both sides; they stand once, in the line of the first.
        comparison = (f"{row.ratio:.1f}", "chance" if row.loss_difference is None else f"{row.loss_difference:.0e}")
        for k, (side, (faster, apart)) in enumerate(zip(SIDES, (comparison, ("", "")), strict=True)):
            times = (f"{row.seconds[k]:.1f}", faster, f"{row.first_step[k]:.1f}")
            table.add_row(f"  {side}", row.figures[k], *times, f"{row.memory[k] / 1e6:.0f}", apart)
        if row.stock:
            table.add_row("  keras, its own optimizer", row.stock)
    return table


def markdown(report: Report) -> str:
    """Return the table for the README, followed by a line about its origin."""
    lines = ["| | accuracy or perplexity | seconds an epoch | times faster | peak memory, MB |", "|---|---|---|---|---|"]
    for row in rows(report):
        seconds = " / ".join(f"{value:.1f}" for value in row.seconds)
        memory = " / ".join(f"{value / 1e6:.0f}" for value in row.memory)
        lines.append(f"| {row.title} | {' / '.join(row.figures)} | {seconds} | {row.ratio:.1f} | {memory} |")
    lines += ["", f"jlstm / Keras on TensorFlow, by `just systems` on {report.machine.cores} cores, {report.date[:10]}."]
    return "\n".join(lines)


def into(text: str, report: Report) -> str:
    """Return the text of the README, with the table inserted between its two marks.

    Raises:
        ValueError: the marks are missing.
    """
    start, begin, remainder = text.partition(BEGIN)
    _, end, ending = remainder.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md must have the lines {BEGIN} and {END}, between which the table goes: put them in")
    return f"{start}{begin}\n{markdown(report)}\n{end}{ending}"


def _where(report: Report) -> str:
    machine, versions = report.machine, report.versions
    return (
        f"jax {versions['jax']}, keras {versions['keras']}, tensorflow {versions['tensorflow']}, "
        f"{machine.cores} cores of {machine.processor}, {report.date[:10]}"
    )
