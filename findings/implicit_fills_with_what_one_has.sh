#!/usr/bin/env bash
# implicit: ten recommendations without what a user has, where fewer items are left.
# Guess:    a shorter list, or an id of -1 in the places that stay empty.
# Happens:  the list is as long as asked for: the items that were to be left out come back at its end, at a score of
#           -3.4e38 (ALS, BPR) or 0 (item-kNN), where nothing tells them from an item without a neighbour.
# Follows:  cut the list at those scores, or at catalogue minus history. Near the size of the catalogue, HR@K of "new"
#           items counts old ones otherwise.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "implicit==0.7.3" "numpy" "scipy"
"$work/venv/bin/python" - <<'PYTHON_CODE'
import os
import warnings

os.environ["OPENBLAS_NUM_THREADS"] = "1"
warnings.simplefilter("ignore")
import numpy
import scipy.sparse
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import CosineRecommender

bought = scipy.sparse.csr_matrix(numpy.array([[1, 1, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 1]], numpy.float32))
models = [CosineRecommender(), AlternatingLeastSquares(factors=4, iterations=2, random_state=0),
          BayesianPersonalizedRanking(factors=4, iterations=2, random_state=0)]
for model in models:
    model.fit(bought, show_progress=False)
    items, scores = model.recommend(0, bought[0], N=4, filter_already_liked_items=True)
    print(f"{type(model).__name__:28} user 0 has 0, 1, 2 and is offered", items.tolist(), [f"{s:.3g}" for s in scores])
    assert items[0] == 3 and sorted(items[1:]) == [0, 1, 2], "changed: what was to be left out no longer comes back"
    low = numpy.finfo(numpy.float32).min
    assert (scores[1:] == (0.0 if "Cosine" in type(model).__name__ else low)).all(), "changed: scores of the filling"
PYTHON_CODE
