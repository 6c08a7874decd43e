"""Printing what was measured, and judging it by the limits and by the last release."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tests.load.bench import Row
from tests.load.calibration.units import CONNECTIONS, Units, quiet_units
from tests.load.limits import FLAT_WITHIN, FOREIGN_MODELS, LIMITS, list_name


def print_report(
    console: Console, rows: Sequence[Row], calibrations: Sequence[Units], release: Mapping[str, float]
) -> None:
    """Prints the table and what one unit of each bare part cost."""
    table = Table(
        title=f"{CONNECTIONS} keep-alive connections; milliseconds; CPU of gateway and services for one operation",
        caption="bare: HTTP answer + gRPC hop + SELECTs; for the last two rows, a bare room, and a hop + 3 SELECTs",
    )
    table.add_column("operation", no_wrap=True)
    for title in ("per s", "p50", "p99", "CPU", "bare", "ratio", "limit", "release", "stores' CPU"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        limit = LIMITS[row.name].at_most
        colour = "red" if row.ratio > limit else "green"
        before = release.get(row.name)
        table.add_row(
            row.name,
            f"{row.result.count / row.result.elapsed:,.0f}",
            f"{row.result.quantile(0.5):.2f}",
            f"{row.result.quantile(0.99):.2f}",
            f"{row.cost:.3f}",
            f"{row.bare:.3f}",
            f"[{colour}]{row.ratio:.2f}[/]",
            f"≤ {limit}",
            "" if before is None else f"{row.ratio / before - 1:+.0%}",
            f"{row.stores:.3f}",
        )
    console.print(table)
    units = quiet_units(calibrations)
    parts = [each.http + each.hop for each in calibrations]
    console.print(
        f"One bare HTTP answer {units.http:.3f}, gRPC hop {units.hop:.3f}, SELECT {units.select:.3f}; in {len(parts)} "
        f"calibrations answer and hop together cost {min(parts):.3f} to {max(parts):.3f}."
    )
    console.print(
        f"The list costs {_growth(rows):.2f} times as much, stores included, among {FOREIGN_MODELS[-1]:,} foreign "
        f"models as among {FOREIGN_MODELS[0]:,} (limit: {FLAT_WITHIN})."
    )


def verdicts(rows: Sequence[Row], release: Mapping[str, float]) -> list[str]:
    """A sentence for each thing that is not as it should be."""
    found = []
    for row in rows:
        if row.result.problem:
            found.append(f"{row.name}: {row.result.problem}.")
        limit, before = LIMITS[row.name], release.get(row.name)
        if row.ratio > limit.at_most:
            found.append(f"{row.name} costs {row.ratio:.2f} times its bare parts; the limit is {limit.at_most}.")
        if before is not None and row.ratio > before * (1 + limit.noise):
            found.append(
                f"{row.name} costs {row.ratio:.2f} times its bare parts, {row.ratio / before - 1:.0%} more than at the "
                f"last release ({before:.2f}); runs of the same code differ by up to {limit.noise:.0%}."
            )
    if _growth(rows) > FLAT_WITHIN:
        found.append(f"The list is not flat: it costs {_growth(rows):.2f} times as much among many foreign models.")
    return found


def _growth(rows: Sequence[Row]) -> float:
    total = {row.name: (row.cost + row.stores) / row.bare for row in rows}
    return total[list_name(FOREIGN_MODELS[-1])] / total[list_name(FOREIGN_MODELS[0])]
