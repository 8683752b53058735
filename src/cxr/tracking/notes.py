"""The description of a run: what ran, on which data, with which result, and how to rebuild it."""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.tracking.datasets import Dataset

# The headings of a run that a training and an evaluation share. The test result comes first,
# because the UI shows the first lines alone until it is asked for more.
EVALUATION = "### Evaluation"
TRAINING = "### Training"

SHOWN = 10  # changed files; provenance.json has all of them


def written(
    what: str, provenance: Mapping[str, Any], images: Sequence[Dataset] = (), result: str = ""
) -> str:
    """Return the description of a run in Markdown.

    Args:
        what: the first line, for example ``Training of cnn, randomly initialised``.
        provenance: provenance.json.
        images: the run's data sets.
        result: the figures that people look for first.
    """
    facts = [f"- result: {result}"] if result else []
    facts += [f"- data: {_data(images)}"] if images else []
    facts += [f"- made {_made(provenance)}"]
    return "\n".join([what, "", *facts, "", "Rebuild it:", "", *rebuild(provenance)])


def rebuild(provenance: Mapping[str, Any]) -> list[str]:
    """Return the commands that rebuild a stage, as Markdown, line by line."""
    commit, experiment = provenance["git"]["commit"], provenance["dvc"]["experiment"]
    item = f"@{provenance['item']}" if provenance["item"] else ""
    commands = [f"git checkout {commit}"] if commit else []
    commands += [f"dvc exp apply {experiment}"] if experiment else []
    commands += [f"dvc repro {provenance['stage']}{item}"]
    lines = ["```", *commands, "```"]
    if experiment:
        gone = f"If experiment {experiment} is gone, `cxr runs` with this run's id gives a command."
        lines += ["", gone]
    return lines


def training(about: Mapping[str, Any]) -> tuple[str, str]:
    """Return in words what was trained and the result, from train.json."""
    system = about["system"]
    start = f"from `{system['weights']}`" if system["weights"] else "from random weights"
    frozen = about["freeze_blocks"]
    blocks = "" if frozen is None else f", {frozen} blocks frozen"
    phases = about["phases"].items()
    fitted = [
        f"{name}: logistic regression, strength {phase['strength']:g}"
        for name, phase in phases
        if "strength" in phase
    ]
    best = [f"{name} {phase['best_epoch']}" for name, phase in phases if "strength" not in phase]
    trained = [f"{about['epochs']} epochs; best epoch: {', '.join(best)}"] if best else []
    return f"{system['backbone']} {start}{blocks}", "; ".join(fitted + trained)


def evaluation(figures: Mapping[str, Any]) -> str:
    """Return the test result in words, from metrics.json."""
    test, perturbed = figures["test"], figures["perturbed"]
    interval = f" ({_number(test, 'auc_low')} to {_number(test, 'auc_high')})"
    return (
        f"AUC {_number(test, 'auc')}{interval}, accuracy {_number(test, 'accuracy')} on the test "
        f"images; AUC {_number(perturbed, 'auc')} on perturbed ones"
    )


def merged(held: str, new: str) -> str:
    """Return a run's description with a new part.

    An evaluation's section replaces that of an earlier one. Text of a user stays, except inside the
    replaced section.
    """
    if not new.startswith(EVALUATION):
        return held or new
    before, _, after = held.partition(TRAINING)
    own = before.partition(EVALUATION)[0].strip()
    training = f"{TRAINING}{after}" if after else ""
    return "\n\n".join(filter(None, (own, new, training)))


def _number(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    return "undefined" if value is None else f"{value:.3f}"


def _data(images: Sequence[Dataset]) -> str:
    splits = (
        f"{part.split} {' + '.join(f'{n} {name}' for name, n in part.counts.items())}"
        for part in images
    )
    return f"{'; '.join(splits)} (`{images[0].path}`, MD5 `{images[0].md5}`)"


def _made(provenance: Mapping[str, Any]) -> str:
    git, changed = provenance["git"], provenance["git"]["changed"]
    parts = [f"at {provenance['started']} on {provenance['device']}"]
    parts += [f"by {provenance['user']}"] if provenance.get("user") else []
    parts += [f"from commit `{git['commit']}`"] if git["commit"] else ["outside of git"]
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        named = ", ".join(f"`{path}`" for path in changed[:SHOWN])
        parts.append(f"with uncommitted changes in {named}{more}")
    return ", ".join(parts)
