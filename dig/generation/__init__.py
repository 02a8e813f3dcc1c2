"""Generation: SID vocabulary, catalogue trie, constrained beam search and sampling, scoring, backbone loading.

``CatalogueTrie``, ``beam_search``, ``sample_groups``, ``score`` and ``score_catalogue`` work with any decoder-only
transformers model and with T5.
"""

from dig.generation.beam_search import BeamResult, beam_search
from dig.generation.finite import NotFiniteError
from dig.generation.ranking import score_catalogue
from dig.generation.restriction import Restriction
from dig.generation.sampling import GroupSample, beam_groups, sample_groups
from dig.generation.scoring import score
from dig.generation.trie import CatalogueTrie
from dig.generation.vocabulary import SidVocabulary

__all__ = [
    "BeamResult",
    "CatalogueTrie",
    "GroupSample",
    "NotFiniteError",
    "Restriction",
    "SidVocabulary",
    "beam_groups",
    "beam_search",
    "sample_groups",
    "score",
    "score_catalogue",
]
