"""Generation: SID vocabulary, catalogue trie, constrained beam search and sampling, scoring, backbone loading.

``CatalogueTrie``, ``beam_search``, ``sample_groups``, ``score`` and ``score_catalogue`` work with any decoder-only
transformers model and with T5, and with every `PathModel`.
"""

from dig.generation.causal_paths import CausalPathModel
from dig.generation.factory import as_path_model
from dig.generation.path_model import PathModel
from dig.generation.sampling import GroupSample, beam_groups, sample_groups
from dig.generation.search import BeamResult, NotFiniteError, beam_search, score, score_catalogue
from dig.generation.trie import CatalogueTrie, Restriction
from dig.generation.vocabulary import SidVocabulary

__all__ = [
    "BeamResult",
    "CatalogueTrie",
    "CausalPathModel",
    "GroupSample",
    "NotFiniteError",
    "PathModel",
    "Restriction",
    "SidVocabulary",
    "as_path_model",
    "beam_groups",
    "beam_search",
    "sample_groups",
    "score",
    "score_catalogue",
]
