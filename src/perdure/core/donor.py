"""Where a retry or a fork takes over from, as its first event tells."""

from __future__ import annotations

import msgspec

from perdure.core.edits import Edit

#: An `upto` that takes nothing over.
NOTHING = 1


class Counterfactual(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The run is to act on nobody: recorded effects are taken over, new ones are withheld (runtime/withholding.py).

    Attributes:
        stubs: encoded results, by patterns of steps (see core/edits.py), for steps that would act.
        recorded: a step without a stub gets the result that the donor has recorded for it, whatever its input was.
        fails: what has no stub either raises in the code, instead of waiting for a person.
    """

    stubs: dict[str, bytes] = {}
    recorded: bool = False
    fails: bool = False


class Donor(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The run from whose history another one takes over what succeeded (see core/reuse.py).

    Attributes:
        run: its id.
        generation: which run of that id it is.
        began: the code's first idea of now there.
        upto: number of the first event that isn't taken over, None = all are.
        results: encoded results by step id, which count instead of its own.
        inputs: encoded arguments by step id, with which steps are called instead of what the code says.
        edits: changes of all steps that a pattern names, in the run and in those that it starts.
        counterfactual: the run acts on nobody; None = it does what its code says.
    """

    run: str
    generation: int
    began: float
    upto: int | None = None
    results: dict[str, bytes] = {}
    inputs: dict[str, bytes] = {}
    edits: tuple[Edit, ...] = ()
    counterfactual: Counterfactual | None = None

    def handed_on(self, began: float) -> Donor | None:
        """What a run that starts others, or goes on as a new one, hands on to those which take nothing over.

        Args:
            began: their first idea of now.
        """
        if not self.edits and self.counterfactual is None:
            return None
        return Donor(
            self.run,
            self.generation,
            began,
            NOTHING,
            edits=self.edits,
            counterfactual=self.counterfactual,
        )
