"""The results page is made by ``python -m scripts.results`` in a checkout of the project; this says so."""

import sys

if __name__ == "__main__":
    print(
        "error: dig.results is now scripts.results: python -m scripts.results, in the project's folder", file=sys.stderr
    )
    sys.exit(2)
