"""Where the recommenders lay before; who imports from here is told where they are."""

raise ImportError(
    "dig.baselines is called dig.recommenders now, with a file or a folder for each: "
    "from dig.recommenders.sasrec import SASRec"
)
