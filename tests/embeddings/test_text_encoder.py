import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from dig.config import UserError
from dig.embeddings import TextEncoder, load_text_encoder
from dig.embeddings.offline import find_offline_model

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
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    tokenizer = Tokenizer(models.WordLevel(dict(zip(WORDS, range(len(WORDS)), strict=True)), special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)
    return folder


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
