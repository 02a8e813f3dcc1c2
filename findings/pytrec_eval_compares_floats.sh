#!/usr/bin/env bash
# Rankings by log-probability, measured with pytrec_eval (the terrier build).
# Guess:    scores are compared as the doubles that they are.
# Happens:  they are held in single precision. Two beams whose log-probabilities differ in the ninth digit are equal
#           there, and equal scores are ordered by document id, the largest first: which of two items counts as first
#           is decided by its name. Reciprocal ranks of .5 and 1 change places when the items swap names.
# Follows:  hand over ranks (as scores: minus the rank), not log-probabilities.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "pytrec-eval-terrier==0.5.11" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import numpy
import pytrec_eval

BETTER, WORSE = -12.345678901, -12.345678902
print("equal in single precision:", numpy.float32(BETTER) == numpy.float32(WORSE))


def reciprocal_rank(run, target):
    return pytrec_eval.RelevanceEvaluator({"u": {target: 1}}, {"recip_rank"}).evaluate({"u": run})["u"]["recip_rank"]


by_score = [reciprocal_rank({"a": BETTER, "b": WORSE}, "a"), reciprocal_rank({"b": BETTER, "a": WORSE}, "b")]
by_rank = [reciprocal_rank({"a": -1.0, "b": -2.0}, "a"), reciprocal_rank({"b": -1.0, "a": -2.0}, "b")]
print("the better item is the target; named a, then b:", by_score, "| with ranks for scores:", by_rank)
assert by_score == [0.5, 1.0] and by_rank == [1.0, 1.0], "changed"
PYTHON_CODE
