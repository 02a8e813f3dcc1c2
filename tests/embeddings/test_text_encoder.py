import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPTNeoXConfig,
    PreTrainedTokenizerFast,
)

from dig.config import UserError
from dig.embeddings import TextEncoder, encoder_fingerprint, load_text_encoder
from dig.embeddings.locate import find_offline_model

WORDS = ["[PAD]", "[UNK]", "red", "green", "blue", "soft", "loud", "brush"]
TEXTS = ["red brush", "soft " * 30, "", "blue", "green loud brush red", "loud blue soft"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random BERT of two layers with a vocabulary of eight words, saved as a plain transformers model."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **shape))
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def word_tokenizer(**settings) -> PreTrainedTokenizerFast:
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    tokenizer = Tokenizer(models.WordLevel(dict(zip(WORDS, range(len(WORDS)), strict=True)), special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special, **settings)


def mean_pooled(folder, texts: list[str], max_tokens: int) -> torch.Tensor:
    """One text at a time through transformers, the mean of its token vectors."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.inference_mode():
        for text in texts:
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_tokens)
            rows.append(model(**tokens).last_hidden_state[0].mean(dim=0))
    return torch.stack(rows)


def test_a_plain_transformers_folder_is_mean_pooled_in_the_given_order(tiny):
    texts = [text for text in TEXTS if text]
    vectors = load_text_encoder(str(tiny), device="cpu").encode(texts, batch_size=2)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, mean_pooled(tiny, texts, 64), atol=1e-5, rtol=0)


def test_texts_are_cut_at_max_tokens_but_never_above_the_models_own_limit(tiny):
    encoder = load_text_encoder(str(tiny), device="cpu", max_tokens=3)
    torch.testing.assert_close(encoder.encode(["soft loud red brush"]), mean_pooled(tiny, ["soft loud red"], 3))
    assert load_text_encoder(str(tiny), device="cpu", max_tokens=1000).max_tokens == 64


def test_no_texts_give_no_rows(tiny):
    encoder = load_text_encoder(str(tiny), device="cpu")
    assert encoder.dim == 8
    assert encoder.encode([]).shape == (0, 8)


def test_minilm_offline_equals_mean_pooling_and_normalisation():
    encoder = load_text_encoder("sentence-transformers/all-MiniLM-L6-v2", device="cpu")
    vectors = encoder.encode(TEXTS, batch_size=4)
    expected = torch.nn.functional.normalize(mean_pooled(find_offline_model(), TEXTS, 256), dim=1)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
    assert (encoder.dim, encoder.max_tokens) == (384, 256)
    assert encoder.fingerprint == load_text_encoder("all-MiniLM-L6-v2", device="cpu").fingerprint


def test_vectors_that_are_not_finite_name_their_text(tiny):
    encoder = load_text_encoder(str(tiny), device="cpu")
    with torch.no_grad():
        encoder.model[0].auto_model.embeddings.word_embeddings.weight[WORDS.index("loud")] = float("nan")
    with pytest.raises(UserError, match=r"2 of 3 texts of a batch; the first begins .blue loud."):
        encoder.encode(["loud", "red", "blue loud"])


def test_pickled_weights_are_not_loaded(tiny, tmp_path):
    for file in tiny.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(BertModel.from_pretrained(tiny).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights"):
        load_text_encoder(str(tmp_path))


def test_a_folder_without_a_model_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load_text_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_encoders_name_and_type(tiny):
    encoder = load_text_encoder(str(tiny), device="cpu")
    assert isinstance(encoder, TextEncoder)
    assert encoder.name == str(tiny)
    assert encoder.fingerprint.startswith("folder-")


def last_token_encoder(folder, tiny):
    """The tiny model with Qwen3-Embedding's recipe: padding on the left, the last token, a prompt for queries alone."""
    transformer = Transformer(str(tiny))
    transformer.tokenizer.padding_side = "left"
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    prompts = {"query": "soft ", "document": ""}
    SentenceTransformer(modules=[transformer, pooling], prompts=prompts, device="cpu").save(str(folder))
    return str(folder)


def test_last_token_pooling_and_instructions_follow_the_models_recipe(tiny, tmp_path):
    name = last_token_encoder(tmp_path / "last", tiny)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModel.from_pretrained(tiny).eval()

    def last(text: str) -> torch.Tensor:
        with torch.inference_mode():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1]

    texts = ["red", "green loud brush", "blue soft"]
    plain = load_text_encoder(name, device="cpu").encode(texts, batch_size=2)
    torch.testing.assert_close(plain, torch.stack([last(text) for text in texts]), atol=1e-5, rtol=0)
    for instruction in ("query", "soft "):  # the prompt by its name, or the words themselves
        instructed = load_text_encoder(name, device="cpu", instruction=instruction).encode(texts)
        torch.testing.assert_close(instructed, torch.stack([last("soft " + text) for text in texts]), atol=1e-5, rtol=0)


def causal_folder(folder, padding_side: str, positions: str):
    """A decoder as published, without a recipe of sentence-transformers: learned or rotary positions."""
    torch.manual_seed(0)
    if positions == "learned":
        config = GPT2Config(vocab_size=len(WORDS), n_embd=8, n_layer=2, n_head=2, n_positions=64)
    else:
        config = GPTNeoXConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
    config.bos_token_id = config.eos_token_id = 0
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    word_tokenizer(padding_side=padding_side).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_a_plain_causal_folder_is_mean_pooled_whatever_is_padded(tmp_path, positions: str, padding_side: str):
    """Entry 15: the docstring promises the mean; sentence-transformers takes a causal model's last token."""
    folder = causal_folder(tmp_path, padding_side, positions)
    texts = [text for text in TEXTS if text]
    expected = mean_pooled(folder, texts, 64)
    encoder = load_text_encoder(str(folder), device="cpu", max_tokens=64)
    for batch_size in (1, 2, len(texts)):
        torch.testing.assert_close(encoder.encode(texts, batch_size), expected, atol=1e-5, rtol=0)
    assert not encoder.encode(["", "red"], 1)[0].any()  # such a tokenizer makes no token of an empty text
    # Vectors of the last tokens may lie in a cache; sentence-transformers knows a causal model by its class's name.
    assert encoder.fingerprint.endswith("-mean") == (positions == "rotary")


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_a_texts_vector_does_not_depend_on_its_batch(tiny, tmp_path, mode: str, padding_side: str):
    """Entry 15: with learned positions and padding on the left a text would stand elsewhere in every batch."""
    transformer = Transformer(str(tiny))
    transformer.tokenizer.padding_side = padding_side
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=mode)
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(tmp_path / mode))
    encoder = load_text_encoder(str(tmp_path / mode), device="cpu")
    texts = [text for text in TEXTS if text]
    single = encoder.encode(texts, batch_size=1)
    torch.testing.assert_close(encoder.encode(texts, batch_size=len(texts)), single, atol=1e-5, rtol=0)
    assert not encoder.fingerprint.endswith("-mean")


def without(folder, target, *parts: str):
    """A copy of a model whose weights file lacks every tensor that has one of the parts in its name."""
    shutil.copytree(folder, target)
    state = load_file(target / "model.safetensors")
    kept = {name: value for name, value in state.items() if not any(part in name for part in parts)}
    assert len(kept) < len(state)
    save_file(kept, target / "model.safetensors", {"format": "pt"})
    return str(target)


@pytest.mark.parametrize(
    "part", ["word_embeddings", "position_embeddings", "LayerNorm", "layer.1.attention.self.query", "layer.1", "layer"]
)
def test_an_encoder_that_lacks_weights_is_refused_by_name(tiny, tmp_path, part: str):
    """Entry 12: transformers starts them at random and only logs it, so vectors would differ in every run."""
    with pytest.raises(UserError, match=rf"files lack \d+ of the weights.*{part}") as caught:
        load_text_encoder(without(tiny, tmp_path / "a", part), device="cpu")
    assert "\n" not in str(caught.value) and "pooler" not in str(caught.value)


def test_a_part_that_no_vector_depends_on_may_be_missing(tiny, tmp_path):
    """Entry 12: many encoders are published without the pooler, which the mean does not read."""
    whole = load_text_encoder(str(tiny), device="cpu")
    other = load_text_encoder(without(tiny, tmp_path / "a", "pooler"), device="cpu")
    assert torch.equal(whole.encode(TEXTS), other.encode(TEXTS))


def test_weights_of_another_architecture_are_refused(tiny, tmp_path):
    """Entry 12: not one tensor of the file has a name that the model knows."""
    shutil.copytree(tiny, tmp_path / "a")
    state = {f"gpt_neox.{name}": value for name, value in load_file(tiny / "model.safetensors").items()}
    save_file(state, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="files lack"):
        load_text_encoder(str(tmp_path / "a"), device="cpu")
    shutil.copytree(tiny, tmp_path / "b")
    config = json.loads((tiny / "config.json").read_text()) | {"intermediate_size": 24}
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_text_encoder(str(tmp_path / "b"), device="cpu")


def test_a_folder_whose_weights_or_shards_are_gone(tiny, tmp_path):
    """Entry 12: nothing is encoded by weights that no file gave."""
    shutil.copytree(tiny, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    BertModel.from_pretrained(tiny).save_pretrained(tmp_path / "b", max_shard_size="1KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, tmp_path / "b" / name)
    shards = sorted((tmp_path / "b").glob("model-*.safetensors"))
    assert len(shards) > 2
    torch.testing.assert_close(
        load_text_encoder(str(tmp_path / "b"), device="cpu").encode(["red"]),
        load_text_encoder(str(tiny), device="cpu").encode(["red"]),
    )
    shards[1].unlink()
    for folder in ("a", "b"):
        with pytest.raises(UserError, match="cannot be loaded"):
            load_text_encoder(str(tmp_path / folder), device="cpu")


def test_other_weights_in_a_folder_are_another_fingerprint(tiny, tmp_path):
    """Entry 12: vectors of the old weights are not taken from the cache."""
    shutil.copytree(tiny, tmp_path / "a")
    before = encoder_fingerprint(str(tmp_path / "a"))
    assert before == encoder_fingerprint(str(tiny))
    state = load_file(tiny / "model.safetensors")
    state["embeddings.word_embeddings.weight"] += 1
    save_file(state, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    assert encoder_fingerprint(str(tmp_path / "a")) != before


def test_a_folder_never_runs_code(tiny, tmp_path):
    folder = tmp_path / "a"
    SentenceTransformer(modules=[Transformer(str(tiny)), Pooling(8)], device="cpu").save(str(folder))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Pooling: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([modules[0], modules[1] | {"type": "evil.Pooling"}]))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_text_encoder(str(folder), device="cpu")
    assert not (tmp_path / "ran").exists()
