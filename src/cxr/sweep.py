"""A sweep over seeds: the table of its figures, and which spread is the larger.

``cxr seeds`` writes the table to ``sources/seeds.csv``, from which the report shows it.
"""

import json
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from cxr import files, params
from cxr.errors import InputError

FILE = "seeds.csv"
FIGURES = ("auc", "auc_low", "auc_high", "accuracy", "recall", "specificity")
COLUMNS = ("system", "seed", *FIGURES, "settings", "commit")


def settings_hash(settings: params.Params, system: str, archive: str) -> str:
    """Return 12 hexadecimal digits that identify everything but the seed that a result depends on.

    Args:
        settings: all of params.yaml; the other systems, ``tracking`` and ``source`` are ignored.
        system: name of a system.
        archive: SHA-256 of the X-rays, as in raw/source.json, wherever they came from.

    Raises:
        InputError: there is no such system.
    """
    chosen = settings.model_dump(
        mode="json",
        include={"freeze_blocks", "split", "tensors", "perturbation", "evaluate"},
    )
    chosen["archive"] = archive
    chosen["system"] = settings.system(system).model_dump(mode="json")
    return files.bytes_sha256(json.dumps(chosen, sort_keys=True).encode())[:12]


def read(path: Path) -> pd.DataFrame:
    """Read a table of seeds; one without rows has the columns all the same.

    Raises:
        InputError: the file is missing or is not such a table.
    """
    table = files.read_csv(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        message = f"{path} lacks the columns {', '.join(missing)}: make it anew with `cxr seeds`"
        raise InputError(message)
    return table


def current(table: pd.DataFrame, settings: params.Params, archive: str) -> pd.DataFrame:
    """Return the rows whose systems have these settings and this archive, seed aside."""
    hashes = {name: settings_hash(settings, name, archive) for name in settings.systems}
    return table[table["settings"] == table["system"].map(hashes)].reset_index(drop=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise the test AUC of each system over its seeds.

    Args:
        table: with the columns of :data:`COLUMNS`.

    Returns:
        One row per system, settings and archive with at least two seeds, in the order of the table:
        system, seeds (their number), mean, lowest, highest; range (highest - lowest), what split,
        initial weights and batch order change; interval (the mean width of the 95 % intervals over
        patients of one split); and larger, which of the two is: ``seeds``, ``patients``, or
        ``unknown`` without intervals.
    """
    rows = []
    for (system, _), found in table.groupby(["system", "settings"], sort=False, dropna=False):
        known = found.dropna(subset=["auc"]).drop_duplicates("seed")
        if len(known) < 2:
            continue
        lowest, highest = known["auc"].min(), known["auc"].max()
        width = (known["auc_high"] - known["auc_low"]).mean()
        rows.append(
            {
                "system": system,
                "seeds": len(known),
                "mean": known["auc"].mean(),
                "lowest": lowest,
                "highest": highest,
                "range": highest - lowest,
                "interval": width,
                "larger": _larger(highest - lowest, width),
            }
        )
    columns = ["system", "seeds", "mean", "lowest", "highest", "range", "interval", "larger"]
    return pd.DataFrame(rows, columns=columns)


def text(rows: pd.DataFrame) -> str:
    """Return a summary as plain text for the terminal."""
    if rows.empty:
        return "No system has figures of two seeds or more."
    lines = [
        [
            row["system"], row["seeds"], f"{row['mean']:.4f}",
            f"{row['lowest']:.4f} to {row['highest']:.4f}", f"{row['range']:.4f}",
            f"{row['interval']:.4f}", row["larger"],
        ]
        for _, row in rows.iterrows()
    ]  # fmt: skip
    headers = [
        "system",
        "seeds",
        "mean AUC",
        "over seeds",
        "range",
        "95 % interval",
        "larger spread",
    ]
    return tabulate(lines, headers, tablefmt="simple", disable_numparse=True)


def _larger(over_seeds: float, over_patients: float) -> str:
    if pd.isna(over_patients):
        return "unknown"
    return "seeds" if over_seeds > over_patients else "patients"
