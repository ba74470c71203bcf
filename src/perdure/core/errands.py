"""Errands: what carries a step out that isn't executed where its run is driven.

Each attempt of such a step is a run of its own in the step's queue, its *errand*. It belongs to a workflow that is
named after the step, so only workers that have the step's code claim it. When it ends, the run that has sent it is
told what came of the attempt, and decides what becomes of the step.
"""

from __future__ import annotations

#: With a character that no name of a workflow has.
PREFIX = "step/"


def errand_workflow(step: str) -> str:
    """What the errands of a step call their workflow.

    >>> errand_workflow("app.fetch")
    'step/app.fetch'
    """
    return PREFIX + step


def step_of(workflow: str) -> str | None:
    """The step whose errands have this workflow, None if it is an ordinary one.

    >>> step_of("step/app.fetch"), step_of("app.research")
    ('app.fetch', None)
    """
    return workflow.removeprefix(PREFIX) if workflow.startswith(PREFIX) else None
