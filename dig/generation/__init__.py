"""Generation: SID vocabulary, catalogue trie, constrained beam search and sampling, scoring, backbone loading.

``CatalogueTrie``, ``beam_search``, ``sample_groups`` and ``score`` work with any decoder-only transformers model.
"""

from dig.generation.beam_search import BeamResult, beam_search
from dig.generation.sampling import GroupSample, sample_groups
from dig.generation.scoring import score
from dig.generation.trie import CatalogueTrie
from dig.generation.vocabulary import SidVocabulary

__all__ = ["BeamResult", "CatalogueTrie", "GroupSample", "SidVocabulary", "beam_search", "sample_groups", "score"]
