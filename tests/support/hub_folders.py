"""Small language models in folders as a hub has them."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from support import tiny

__all__ = ["checkpoint"]

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def checkpoint(folder: Path, family: str, chat: bool = False) -> Path:
    """A small model of random weights with a byte-level BPE tokenizer trained on a few words, as on a hub."""
    words = Tokenizer(BPE())
    words.pre_tokenizer, words.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    corpus = ["A customer bought these items, oldest first", "Title of the item that customers like most"] * 9
    specials = ["<pad>", "<s>", "</s>"]
    words.train_from_iterator(
        corpus,
        BpeTrainer(vocab_size=320, special_tokens=specials, show_progress=False, initial_alphabet=ByteLevel.alphabet()),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")  # noqa: S106
    tokenizer.chat_template = CHAT if chat else None
    tokenizer.save_pretrained(folder)
    positions = {"n_positions": 512} if family == "gpt2" else {"max_position_embeddings": 512}
    # more rows than tokens, as hubs have them: some architectures' tokenizers add a token of their own when loaded
    tiny.tiny_model(family, len(tokenizer) + 8, noise=0.02, **positions).save_pretrained(folder)
    return folder
