"""What is exported is what was trained: read by plain transformers in another process, words and SID tokens alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny
from support.hub_folders import checkpoint
from tokenizers import Tokenizer, normalizers
from tokenizers.decoders import ByteFallback, Fuse, Replace, Strip
from tokenizers.decoders import Sequence as Decoders
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dig.config import UserError
from dig.config.schema import BackboneConfig, LoraConfig
from dig.generation.backbone import Backbone, build_backbone, load_backbone
from dig.generation.vocabulary import SidVocabulary, prove_tokenizer

IDS = tiny.ragged_catalogue()
LORA = LoraConfig(rank=4, alpha=8, dropout=0.0)
TEXTS = ["<a_1><b_2>", "<a_1> <b_2>  <c_0>", "A customer bought <a_1><b_2>, then item<a_3> and <c_3>.", "items <a_0>"]
READER = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
for line in sys.stdin:
    folder, texts, names = json.loads(line)
    model, words = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = words.convert_tokens_to_ids(names)
    ends = model.generation_config
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[:6]])).logits[0].tolist()
    print(json.dumps({
        "alone": [[i for i in row if i in ids] for row in words(names, add_special_tokens=False)["input_ids"]],
        "ids": ids, "texts": words(texts, add_special_tokens=False)["input_ids"], "logits": logits,
        "decoded": words.decode(ids[:3], skip_special_tokens=True), "rows": len(model.get_input_embeddings().weight),
        "vocab_size": model.config.vocab_size, "tied": model.config.tie_word_embeddings, "dtype": str(model.dtype),
        "pad": ends.pad_token_id, "eos": ends.eos_token_id, "length": len(words), "side": words.padding_side,
        "chat": words.chat_template, "special": words.all_special_tokens}), flush=True)
"""


def sentence_pieces(folder: Path, kind: str) -> Path:
    """A Llama whose tokenizer is as SentencePiece's are converted: a mark for spaces, put before the text, too."""
    corpus = ["A customer bought these items, oldest first", "Title of the item that customers like most"] * 9
    specials = ["<unk>", "<s>", "</s>"]
    if kind == "unigram":
        pieces = sorted({piece for line in corpus for word in line.split() for piece in (f"▁{word}", *word, "▁")})
        words = Tokenizer(
            Unigram([(name, 0.0) for name in specials] + [(piece, -1.0 - len(piece)) for piece in pieces], unk_id=0)
        )
        words.pre_tokenizer = Metaspace()
    else:
        words = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))  # noqa: S106
        words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        words.train_from_iterator(corpus, BpeTrainer(vocab_size=120, special_tokens=specials, show_progress=False))
    words.decoder = Decoders([Replace("▁", " "), ByteFallback(), Fuse(), Strip(" ", 1, 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        padding_side="left",
    ).save_pretrained(folder)
    tiny.tiny_model("llama", len(words.get_vocab()), tie_word_embeddings=False).save_pretrained(folder)
    return folder


def trained(folder: Path, kind: str) -> Backbone:
    """A backbone of a kind, a few steps from its start."""
    torch.manual_seed(0)
    if kind in tiny.FAMILIES:
        shape = (
            {"n_embd": 32, "n_layer": 1, "n_head": 2}
            if kind == "gpt2"
            else {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        )
        return build_backbone(BackboneConfig(config={"model_type": kind, **shape}), IDS.sizes, 64)
    if kind in ("bpe", "unigram"):
        sentence_pieces(folder, kind)
    elif kind == "words qwen2":
        tiny.pretrained_folder(folder)
    else:
        checkpoint(folder, kind.split()[1], chat=True)
    backbone = build_backbone(BackboneConfig(pretrained=str(folder), lora=LORA), IDS.sizes, 64)
    tokens = torch.tensor([[3, *backbone.vocabulary.ids.tolist()[:6]]])
    optimizer = torch.optim.Adam([p for p in backbone.model.parameters() if p.requires_grad], lr=0.05)
    backbone.model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    return backbone


KINDS = (*tiny.FAMILIES, "bpe", "unigram", "words qwen2", "hub qwen2", "hub qwen3", "hub llama", "hub gpt2")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Backbone, Path, dict[str, Any]]]]:
    """Each kind's backbone, its export, and what one other process reads there."""
    home = tmp_path_factory.mktemp("exports")
    made = {kind: trained(home / f"base {kind}", kind) for kind in KINDS}
    names = SidVocabulary.tokens(IDS.sizes)
    for kind, backbone in made.items():
        backbone.model.eval()
        backbone.save(home / kind)
    asked = "".join(json.dumps([str(home / kind), TEXTS, names]) + "\n" for kind in KINDS)
    process = subprocess.run([sys.executable, "-c", READER], input=asked, capture_output=True, text=True, check=True)
    read: list[dict[str, Any]] = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    yield {kind: (made[kind], home / kind, found) for kind, found in zip(KINDS, read, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_reads_what_was_trained(exports: dict[str, Any], kind: str):
    """Entry 13: AutoTokenizer beside any model type keeps SID tokens, words, decoding, and the model its logits."""
    backbone, folder, read = exports[kind]
    ids, tokenizer = backbone.vocabulary.ids.tolist(), backbone.tokenizer
    assert read["ids"] == ids and read["alone"] == [[token] for token in ids]
    assert read["texts"] == tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    expected = [[1, 2], [1, 2, 0], [1, 2, 3, 3], [0]]  # the codes that the texts spell, each token found once
    firsts = {
        token: code
        for first, size in zip(backbone.vocabulary.first_ids, IDS.sizes, strict=True)
        for code, token in enumerate(range(first, first + size))
    }
    assert [[firsts[token] for token in row if token in firsts] for row in read["texts"]] == expected
    assert tokenizer(read["decoded"], add_special_tokens=False)["input_ids"][-3:] == ids[:3]
    assert not set(read["special"]) & set(SidVocabulary.tokens(IDS.sizes))  # so that decoding does not skip them
    model = load_backbone(folder, IDS.sizes).model.eval()
    with torch.no_grad():
        ours, merged = (each(input_ids=torch.tensor([ids[:6]])).logits[0] for each in (backbone.model, model))
    torch.testing.assert_close(torch.tensor(read["logits"]), ours, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged, ours, atol=1e-5, rtol=1e-5)
    assert read["rows"] == read["vocab_size"] >= read["length"] == len(tokenizer)
    assert read["dtype"] == "torch.float32" and read["tied"] == model.config.tie_word_embeddings
    assert read["pad"] == tokenizer.pad_token_id
    assert tokenizer.eos_token_id in (read["eos"] if isinstance(read["eos"], list) else [read["eos"]])
    assert read["side"] == tokenizer.padding_side and read["chat"] == tokenizer.chat_template
    assert (read["chat"] is not None) == kind.startswith("hub")


@pytest.mark.parametrize("kind", ["qwen2", "words qwen2", "bpe"])
def test_loaded_and_saved_again_the_tokenizer_is_the_same_file(exports: dict[str, Any], kind: str, tmp_path: Path):
    """Entry 13: nothing is rebuilt on the way through load_backbone and save_backbone, or AutoTokenizer's own."""
    _, folder, _ = exports[kind]
    load_backbone(folder, IDS.sizes).save(tmp_path / "again")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "auto")
    files = [
        json.loads((path / "tokenizer.json").read_text()) for path in (folder, tmp_path / "again", tmp_path / "auto")
    ]
    assert files[0] == files[1] and files[0] == files[2]
    assert files[0]["model"]["type"] == {"bpe": "BPE"}.get(kind, "WordLevel")


def test_a_pretrained_tokenizer_is_read_as_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Entry 13, its sibling: beside a Qwen2, AutoTokenizer exchanges what splits words of a folder."""
    folder = tiny.pretrained_folder(tmp_path)
    assert len(AutoTokenizer.from_pretrained(folder)("A customer bought")["input_ids"]) < 3  # words are lost
    tokenizer = build_backbone(BackboneConfig(pretrained=str(folder)), IDS.sizes, 64).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("A customer bought")["input_ids"]) == ["A", "customer", "bought"]
    said = " ".join(capsys.readouterr().out.split())
    assert "its tokenizer.json is read as it is written; AutoTokenizer takes a Qwen2Tokenizer" in said


def test_an_export_that_reads_otherwise_is_refused(exports: dict[str, Any], tmp_path: Path):
    """Fault injection: a SID token's id is exchanged in the file."""
    backbone, folder, _ = exports["llama"]
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    prove_tokenizer(backbone.tokenizer, tmp_path, backbone.vocabulary)
    words = json.loads((tmp_path / "tokenizer.json").read_text())
    vocab = words["model"]["vocab"]
    vocab["<a_1>"], vocab["<b_0>"] = vocab["<b_0>"], vocab["<a_1>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match=r"AutoTokenizer \(TokenizersBackend\) reads the token <a_1> as") as caught:
        prove_tokenizer(backbone.tokenizer, tmp_path, backbone.vocabulary)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_have_a_source(tmp_path: Path, change: str):
    """A backbone whose files lack a weight, or hold it in another shape, does not start at random numbers."""
    folder = checkpoint(tmp_path / "base", "llama")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name][:5].clone()
    if change == "missing":
        del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError) as caught:
        build_backbone(BackboneConfig(pretrained=str(folder)), IDS.sizes, 64)
    message = str(caught.value)
    assert f"backbone.pretrained={folder}" in message and name in message and "\n" not in message


def test_a_tied_head_is_not_missing(tmp_path: Path):
    folder = tiny.pretrained_folder(tmp_path, tied=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = build_backbone(BackboneConfig(pretrained=str(folder), lora=LoraConfig(enabled=False)), IDS.sizes, 64).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
