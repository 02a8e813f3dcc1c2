"""Backbones from scratch and from a folder, with adapters and without, there and back."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import load_file, save_file
from support import tiny
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from dig.config import UserError
from dig.config.schema import BackboneConfig, LoraConfig, SFTConfig
from dig.generation import CatalogueTrie, beam_search, sample_groups, score
from dig.generation.backbone import Backbone, IntRRBackbone, build_backbone, load_backbone
from dig.generation.causal_paths import CausalPathModel
from dig.generation.intrr import intrr_vocabulary
from dig.generation.intrr_paths import IntRRPathModel
from dig.generation.lora import add_lora, merge_lora

IDS = tiny.ragged_catalogue()
LORA = LoraConfig(rank=4, alpha=8, dropout=0.0)
PLAIN = LoraConfig(enabled=False)


def pretrained(folder: Path, lora: LoraConfig, family: str = "qwen2", tied: bool = True, rows: int = 48) -> Backbone:
    tiny.pretrained_folder(folder, family, tied, rows)
    return build_backbone(BackboneConfig(pretrained=str(folder), lora=lora), IDS.sizes, max_tokens=64)


def train(model: torch.nn.Module, tokens: torch.Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def logits(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=tokens).logits


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_from_scratch_knows_the_sid_tokens_alone(family: str):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "model_type": family}
    small |= {} if family == "gpt2" else {"intermediate_size": 48, "num_key_value_heads": 2}
    small |= {"head_dim": 16} if family in ("gemma", "qwen3") else {}
    backbone = build_backbone(BackboneConfig(config=small), [5, 3], max_tokens=77)
    config = backbone.model.config
    assert backbone.from_scratch and config.model_type == family
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (32, 1, 14)
    assert config.max_position_embeddings == 77
    assert backbone.vocabulary.first_ids == (6, 11) and len(backbone.tokenizer) == 14
    assert backbone.tokenizer.encode("<bos> <a_4> <b_2>") == [1, 10, 13]
    special = (backbone.tokenizer.pad_token_id, backbone.tokenizer.bos_token_id, backbone.tokenizer.eos_token_id)
    assert special == (0, 1, 2) == (config.pad_token_id, config.bos_token_id, config.eos_token_id)


def test_the_default_is_a_small_qwen2():
    model = build_backbone(BackboneConfig(), [4, 4], max_tokens=32).model
    assert model.config.model_type == "qwen2" and model.config.hidden_size == 128
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gemma"])
def test_fewer_heads_need_no_word_on_key_value_heads(family: str):
    config = {"model_type": family, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    model = build_backbone(BackboneConfig(config=config), [4], max_tokens=8).model
    assert model.config.num_key_value_heads == 2
    assert torch.isfinite(logits(model, torch.tensor([[1, 4, 5]]))).all()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hiden_size": 32}, ["backbone.config.hiden_size", "qwen2", "did you mean hidden_size?"]),
        ({"model_type": "gpt2", "n_layers": 2}, ["backbone.config.n_layers", "gpt2", "did you mean n_layer?"]),
        ({"model_type": "lama"}, ["backbone.config.model_type=lama", "did you mean llama?"]),
        ({"model_type": "vit"}, ["backbone.config.model_type=vit", "not a causal language model"]),
    ],
)
def test_a_wrong_configuration_is_named(config: dict, words: list[str]):
    with pytest.raises(UserError) as caught:
        build_backbone(BackboneConfig(config=config), [4], max_tokens=8)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_what_cannot_be_loaded_is_said_in_a_line(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    alone = tmp_path / "alone"
    tiny.tiny_model("qwen2").save_pretrained(alone)
    for path in (tmp_path / "nowhere", tmp_path / "empty", alone):
        with pytest.raises(UserError, match=r"cannot be loaded|there is no folder") as caught:
            build_backbone(BackboneConfig(pretrained=str(path)), [4], max_tokens=8)
        assert f"backbone.pretrained={path}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("tied", [True, False])
def test_sid_rows_follow_the_tokenizer_and_start_at_the_mean_of_the_text(tmp_path: Path, tied: bool):
    original = tiny.tiny_model("qwen2", vocabulary=48, tie_word_embeddings=tied)
    backbone = pretrained(tmp_path, PLAIN, tied=tied)
    words, sids = len(tiny.WORDS), sum(IDS.sizes)
    ids = backbone.vocabulary.ids
    assert not backbone.from_scratch
    assert ids.tolist() == list(range(words, words + sids))
    layers = [
        (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
        for model in (original, backbone.model)
    ]
    for before, after in zip(*layers, strict=True):
        assert after.shape[0] == 48  # the embedding had room: it neither grows nor shrinks
        text = torch.ones(48, dtype=torch.bool)
        text[ids] = False
        assert torch.equal(after[text], before[text])
        distance = (after[ids] - before[:words].mean(dim=0)) / before[:words].std()
        assert 0.08 < distance.std().item() < 0.12 and abs(distance.mean().item()) < 0.02
    # the same start in every process, on every rank
    again = pretrained(tmp_path, PLAIN, tied=tied)
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    assert torch.equal(layers[1][0], layers[1][1]) == tied


def test_an_embedding_without_room_grows(tmp_path: Path):
    backbone = pretrained(tmp_path, PLAIN, rows=len(tiny.WORDS))
    assert backbone.model.get_input_embeddings().weight.shape[0] == len(backbone.tokenizer)
    assert backbone.model.config.vocab_size == len(backbone.tokenizer) == len(tiny.WORDS) + sum(IDS.sizes)


@pytest.mark.parametrize(("family", "tied"), [("qwen2", True), ("qwen2", False), ("gpt2", True), ("llama", False)])
def test_adapters_train_the_sid_rows_and_nothing_else_of_the_model(tmp_path: Path, family: str, tied: bool):
    backbone = pretrained(tmp_path, LORA, family, tied)
    model, ids = backbone.model, backbone.vocabulary.ids
    assert isinstance(model, PeftModel)
    base = {
        name: value.clone()
        for name, value in merge_lora(pretrained(tmp_path, LORA, family, tied).model).state_dict().items()
    }
    train(model.train(), torch.tensor([[1, *ids.tolist()[:6]], [1, *ids.tolist()[6:12]]]))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "trainable_tokens" in name for name in trained)
    assert {name for name, p in model.named_parameters() if p.grad is not None} <= trained

    merged = merge_lora(model)
    tables = {"embedding": merged.get_input_embeddings().weight, "output": merged.get_output_embeddings().weight}
    start = tiny.tiny_model(family, vocabulary=48, tie_word_embeddings=tied)
    starts = {"embedding": start.get_input_embeddings().weight, "output": start.get_output_embeddings().weight}
    text = torch.ones(48, dtype=torch.bool)
    text[ids] = False
    used = ids[:12]
    for name, table in tables.items():
        assert torch.equal(table[text], starts[name][text]), name
    changed = {"embedding": (tables["embedding"] - base[_name(merged, "input")]).abs().amax(dim=1)}
    changed["output"] = (tables["output"] - base[_name(merged, "output")]).abs().amax(dim=1)
    assert (changed["output"][used] > 1e-3).all()  # untied output rows learn, too
    assert (changed["embedding"][used[:5]] > 1e-3).all()
    assert (changed["embedding"][text] == 0).all()


def _name(model: torch.nn.Module, which: str) -> str:
    """Name of the embedding's or the output layer's weight in the state dict."""
    layer = model.get_input_embeddings() if which == "input" else model.get_output_embeddings()
    return next(f"{name}.weight" for name, module in model.named_modules() if module is layer)


@pytest.mark.parametrize("tied", [True, False])
def test_merged_adapters_rank_and_score_as_wrapped_ones(tmp_path: Path, tied: bool):
    backbone = pretrained(tmp_path, LORA, tied=tied)
    tokens = backbone.vocabulary.encode(IDS.codes)
    train(backbone.model.train(), torch.cat([torch.ones(8, 1, dtype=torch.int64), tokens[:8, :3]], dim=1))
    trie, prompts = (
        CatalogueTrie(tokens),
        tiny.padded([torch.tensor([1, *row]) for row in tokens[:3, :3].tolist()], "right"),
    )
    items = torch.arange(6).expand(3, -1)
    model = backbone.model.eval()
    with torch.no_grad():
        found, scored = beam_search(model, *prompts, trie, 6), score(model, *prompts, trie, items)
        drawn = sample_groups(model, *prompts, trie, 8, generator=torch.Generator().manual_seed(0))
        with model.disable_adapter():
            off = score(model, *prompts, trie, items)
    merged = merge_lora(model)
    assert not isinstance(merged, PeftModel) and merge_lora(merged) is merged
    with torch.no_grad():
        again = beam_search(merged, *prompts, trie, 6)
        torch.testing.assert_close(score(merged, *prompts, trie, items), scored, atol=1e-4, rtol=1e-4)
        redrawn = sample_groups(merged, *prompts, trie, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.items, found.items) and torch.equal(redrawn.items, drawn.items)
    torch.testing.assert_close(again.log_probs, found.log_probs, atol=1e-4, rtol=1e-4)
    assert (off - scored).abs().max() > 1e-2  # and the adapter had something to say


@pytest.mark.parametrize(("lora", "tied"), [(LORA, True), (LORA, False), (PLAIN, False)])
def test_saved_and_loaded_is_the_same_policy(tmp_path: Path, lora: LoraConfig, tied: bool):
    backbone = pretrained(tmp_path / "base", lora, tied=tied)
    tokens = torch.tensor([[1, *backbone.vocabulary.ids.tolist()[:6]]])
    train(backbone.model.train(), tokens)
    expected = logits(backbone.model, tokens)
    backbone.save(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.bin")) and list((tmp_path / "saved").glob("*.safetensors"))
    again = load_backbone(tmp_path / "saved", IDS.sizes)
    torch.testing.assert_close(logits(again.model, tokens), expected, atol=1e-5, rtol=1e-5)
    assert again.vocabulary == backbone.vocabulary and not again.from_scratch
    assert again.tokenizer.encode("item <a_2>") == backbone.tokenizer.encode("item <a_2>")
    assert again.model.config.tie_word_embeddings == tied


def test_a_policy_from_scratch_comes_back_as_one(tmp_path: Path):
    backbone = build_backbone(BackboneConfig(config={"hidden_size": 32, "intermediate_size": 48}), IDS.sizes, 64)
    tokens = torch.tensor([[1, 4, 9]])
    expected = logits(backbone.model, tokens)
    backbone.save(tmp_path)
    again = load_backbone(tmp_path, IDS.sizes)
    assert again.from_scratch and again.vocabulary == backbone.vocabulary
    assert torch.equal(logits(again.model, tokens), expected)
    with pytest.raises(UserError, match="belongs to other Semantic IDs"):
        load_backbone(tmp_path, [9, 9])


def test_adapters_alone_leave_all_embedding_rows_frozen():
    model = add_lora(tiny.tiny_model("qwen2"), LORA)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)


def test_unknown_adapter_targets_are_named():
    with pytest.raises(UserError, match=r"backbone.lora.targets=\['q_prjo'\]") as caught:
        add_lora(tiny.tiny_model("qwen2"), LoraConfig(targets=["q_prjo"]))
    assert "\n" not in str(caught.value)


HEADS = {
    "own head": ("llama", {"tie_word_embeddings": True}),
    "untied": ("llama", {"tie_word_embeddings": False}),
    "tied, scaled embedding": ("gemma", {"tie_word_embeddings": True}),
    "embed_out": ("gpt_neox", {"tie_word_embeddings": False}),
    "with a bias": ("phi", {"tie_word_embeddings": False}),
    "Conv1D, tied": ("gpt2", {"tie_word_embeddings": True}),
}


def headed(folder: Path, head: str, rows: int) -> Path:
    """A pretrained folder with an output layer of a kind."""
    family, keys = HEADS[head]
    tiny.tiny_model(family, vocabulary=rows, **keys).save_pretrained(folder)
    tiny.text_tokenizer().save_pretrained(folder)
    if head == "own head":
        weights = load_file(folder / "model.safetensors")
        generator = torch.Generator().manual_seed(1)
        weights["lm_head.weight"] = torch.randn(rows, 32, generator=generator)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("rows", [len(tiny.WORDS), 24, 48])  # the embedding grows, by less, or has room
@pytest.mark.parametrize("lora", [LORA, PLAIN], ids=["lora", "plain"])
@pytest.mark.parametrize("head", HEADS)
def test_words_keep_their_logits_when_rows_are_added_and_on_the_way_back(
    tmp_path: Path, head: str, lora: LoraConfig, rows: int
):
    """Entry 15: a head of its own under tie_word_embeddings=true is kept, as is every other kind of output layer."""
    folder = headed(tmp_path / "base", head, rows)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    if lora.enabled and head != "own head":
        lora = replace(lora, targets=["c_attn"] if "Conv1D" in head else ["query_key_value", "q_proj", "v_proj"])
    backbone = build_backbone(BackboneConfig(pretrained=str(folder), lora=lora), IDS.sizes, 64)
    words, tokens = len(tiny.WORDS), torch.tensor([[5, 6, 7, 9]])
    torch.testing.assert_close(logits(backbone.model, tokens)[..., :words], logits(plain, tokens)[..., :words])
    backbone.save(tmp_path / "saved")
    again = load_backbone(tmp_path / "saved", IDS.sizes).model
    torch.testing.assert_close(logits(again, tokens)[..., :words], logits(plain, tokens)[..., :words])
    own = head not in ("tied, scaled embedding", "Conv1D, tied")
    assert (again.get_output_embeddings().weight is not again.get_input_embeddings().weight) == own
    assert again.config.tie_word_embeddings == (not own)
    assert torch.equal(again.get_output_embeddings().weight[:words], plain.get_output_embeddings().weight[:words])


def test_a_head_of_its_own_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Entry 15: the flag that says otherwise is changed, with a line."""
    folder = headed(tmp_path, "own head", 48)
    build_backbone(BackboneConfig(pretrained=str(folder), lora=PLAIN), IDS.sizes, 64)
    said = " ".join(capsys.readouterr().out.split())
    assert "its output layer has weights of its own, so tie_word_embeddings becomes false" in said


def test_a_resize_that_moves_words_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Fault injection: transformers' resize loses the output layer's rows."""
    resize = LlamaForCausalLM.resize_token_embeddings

    def broken(self: LlamaForCausalLM, *arguments: object, **settings: object) -> object:
        found = resize(self, *arguments, **settings)
        self.lm_head.weight.data.zero_()
        return found

    monkeypatch.setattr(LlamaForCausalLM, "resize_token_embeddings", broken)
    with pytest.raises(UserError, match="with new rows a llama says something else of words: its logits move by"):
        pretrained(tmp_path, PLAIN, "llama", tied=False)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "bert"}, ["looks at later tokens", "backbone.config.is_decoder=true makes it one"]),
        ({"model_type": "qwen3_5"}, ["with other parts around it", "qwen3_5_text"]),
        ({"model_type": "gpt_neo", "num_layers": 3, "attention_types": [[["global"], 2]]}, ["makes no gpt_neo"]),
        ({"model_type": "llama", "num_attention_heads": 5}, ["makes no llama", "5"]),
    ],
)
def test_what_cannot_be_built_or_scored_is_said_before_any_work(config: dict, words: list[str]):
    """Entry 14: one line that names the architecture, wherever transformers' own code stops."""
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    if config["model_type"] in ("bert", "llama"):
        config = {**small, **config}
    with pytest.raises(UserError) as caught:
        build_backbone(BackboneConfig(config=config), [4], max_tokens=8)
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message and caught.value.exit_code == 2


def test_a_backbone_answers_for_its_kind():
    language = build_backbone(BackboneConfig(), IDS.sizes, max_tokens=64)
    items = IntRRBackbone(tiny.tiny_intrr(IDS))
    assert type(language.paths) is CausalPathModel and type(items.paths) is IntRRPathModel
    assert (language.packs_rows, language.can_shard, items.packs_rows, items.can_shard) == (True, True, False, False)
    config = SFTConfig(dropout=0.3)
    pretrained = replace(language, from_scratch=False)
    assert [each.missing_dropout(config) for each in (language, pretrained, items)] == [0.3, 0.0, 0.0]
    for each in (language, items):  # what is remembered lasts until it is forgotten
        each.remember()
    assert items.model.remembered is not None
    for each in (language, items):
        each.forget()
    assert items.model.remembered is None


@pytest.mark.parametrize("softmax", ["vocabulary", "level"])
def test_the_loss_of_a_language_backbone_is_that_of_its_tokens(softmax: str):
    backbone = build_backbone(BackboneConfig(), IDS.sizes, max_tokens=64)
    tokens = backbone.vocabulary.encode(IDS.codes)
    prompt = torch.cat([torch.tensor([1]), tokens[3, :3]])
    row = torch.cat([prompt, tokens[7, :3]]).unsqueeze(0)
    labels = torch.where(torch.arange(row.shape[1]) < len(prompt), -100, row)
    batch = tiny.training_tokens(row, torch.ones_like(row), labels)
    config = SFTConfig(softmax=softmax, label_smoothing=0.1)
    loss, values = backbone.supervised_loss(batch, CatalogueTrie(tokens, duplicates=True), config)
    logits = backbone.model(input_ids=row).logits[0, len(prompt) - 1 : -1]
    losses = []
    for level, target in enumerate(tokens[7, :3]):
        first, size = backbone.vocabulary.first_ids[level], backbone.vocabulary.sizes[level]
        rivals = slice(first, first + size) if softmax == "level" else slice(None)
        begin = rivals.start or 0
        losses.append(F.cross_entropy(logits[level, rivals], target - begin, label_smoothing=0.1))
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert list(values) == ["loss"] and values["loss"] == loss and loss.requires_grad


def test_the_loss_of_an_intrr_is_its_own_log_probability_and_its_alignment():
    """Each item of a history but the first is a target; under ``softmax=trie`` its loss is what ranking gives it."""
    model = tiny.tiny_intrr(IDS, softmax="trie")
    trie = CatalogueTrie(intrr_vocabulary(IDS.sizes).encode(IDS.codes), duplicates=True)
    row = torch.tensor([[5, 2, 9, 0], [7, 1, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    labels = torch.where((mask > 0) & (torch.arange(4) > 0), row, -100)
    batch = tiny.training_tokens(row, mask, labels)
    losses = {}
    for weight in (0.0, 0.5):
        backbone = IntRRBackbone(model, alignment=weight)
        losses[weight], values = backbone.supervised_loss(batch, trie, SFTConfig())
    ranked = -torch.stack(
        [
            score(model, torch.tensor([history]), torch.ones(1, len(history)), trie, torch.tensor([[target]])).sum()
            for history, target in (([5], 2), ([5, 2], 9), ([7], 1))
        ]
    )
    weights = batch.weights[:, 1:][labels[:, 1:] >= 0]
    torch.testing.assert_close(values["loss"], (ranked * weights).sum() / batch.responses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses[0.0], values["loss"])
    torch.testing.assert_close(losses[0.5], values["loss"] + 0.5 * values["alignment"])
    assert values["alignment"] > 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_are_put_around_a_model_without_a_warning(tmp_path: Path, checkpointing: bool):
    """Entry 12: every pretrained run began with a FutureWarning; and gradient checkpointing is still seen."""
    folder = tiny.pretrained_folder(tmp_path / "pretrained", "llama")
    config = BackboneConfig(pretrained=str(folder), gradient_checkpointing=checkpointing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone = build_backbone(config, [4, 4], 64)
    assert any(getattr(each, "gradient_checkpointing", False) for each in backbone.model.modules()) == checkpointing
