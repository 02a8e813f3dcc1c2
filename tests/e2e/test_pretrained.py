"""Pretrained backbones with adapters, from a folder to equal recommendations out of the exported model."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from support.hub_folders import CHAT, checkpoint
from support.plain_export import plain_packages, read_plainly
from support.workplace import Workplace, tokenized_workplace, wait_for_checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from datamodules.histories import Histories
from datamodules.prompts import PHRASINGS
from datamodules.splits import Sequences
from dig import Recommender
from dig.generation import CatalogueTrie, SidVocabulary, beam_search
from dig.quantization import SemanticIds

FAMILIES = ("qwen2", "qwen3", "llama", "gpt2")
SETTINGS = (
    "stages=[sft,report]",
    "sft.max_steps=30",
    "sft.batch_size=16",
    "sft.learning_rate=0.003",
    "prompt.max_history=6",
    "backbone.lora.rank=4",
    "backbone.lora.export=true",
    "evaluation.max_users=40",
    "evaluation.valid_users=20",
    "backbone.config={}",
    "items.representation=sid",
    "items.start=codebook",
)


GRPO = (
    "stages=[sft,grpo,report]",
    "grpo.max_steps=12",
    "grpo.prompts_per_step=8",
    "grpo.validate_every=6",
    "grpo.kl_weight=0.1",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which everything before SFT is done."""
    return tokenized_workplace(tmp_path_factory.mktemp("before")).home


def histories(home: Path, users: int = 12) -> list[np.ndarray]:
    sequences = Sequences.load(next((home / "artifacts" / "prepare").glob("*/sequences")))
    return [np.asarray(history) for history in sequences.held_out("test").histories[:users]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_trains_with_adapters_and_its_export_recommends_the_same(tmp_path: Path, home: Path, family: str):
    """The exported folder loads with plain transformers; its SID table lies beside it."""
    workplace = Workplace(tmp_path, home)
    model = checkpoint(tmp_path / "pretrained", family, chat=family == "qwen3")
    output = workplace.run(f"backbone.pretrained={model}", *SETTINGS)
    assert "sft" in output and "validation ndcg@10" in output
    run = workplace.latest
    tasks = {json.loads(path.read_text())["task"] for path in (home / "artifacts" / "tokens").glob("*/tokens.json")}
    assert {"next_item", "title_to_sid", "sid_to_interests", "collaborative", "semantic", "next_title"} <= tasks

    recommender = Recommender.from_run(run)
    rows = histories(home)
    expected, scores = recommender.ranker.rank(rows, 10)
    model = AutoModelForCausalLM.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    ids = SemanticIds.load(run / "model" / "semantic_ids.parquet")
    assert model.config.model_type == family and not isinstance(model, PeftModel)
    trie = CatalogueTrie(SidVocabulary.of(tokenizer, ids.sizes).encode(ids.codes), duplicates=True)
    prompts = recommender.ranker.builder.prompts(Histories.from_lists(rows))
    found = beam_search(model, prompts.input_ids, prompts.attention_mask, trie, 10)
    assert torch.equal(found.items, expected)
    torch.testing.assert_close(found.log_probs, scores, atol=1e-4, rtol=1e-4)
    frame = pl.read_parquet(run / "recommendations.parquet").filter(pl.col("stage") == "sft")
    assert len(frame) == 40

    # in an environment without dig: one id a token, the chat template, the same ranking and scores
    history = [ids.item_ids[row] for row in rows[0].tolist()[-6:]]
    plain = read_plainly(run / "model", plain_packages(tmp_path / "packages"), history, PHRASINGS["next_item"][0])
    assert plain["found"] == plain["broken"] == [] and plain["joined"] and plain["names"] == sum(ids.sizes)
    assert plain["prompt"] == prompts.input_ids[0][prompts.attention_mask[0].bool()].tolist()
    assert plain["chat"] == (CHAT if family == "qwen3" else None)
    assert plain["pad"] == tokenizer.pad_token_id
    assert plain["items"] == [ids.item_ids[row] for row in expected[0].tolist()]
    torch.testing.assert_close(torch.tensor(plain["scores"]), scores[0], atol=1e-3, rtol=1e-3)

    # the adapters alone, around the pretrained model: the same model again
    weights = load_file(run / "adapters" / "sft" / "adapter_model.safetensors")
    assert any("lora_A" in name for name in weights) and any("token_adapter" in name for name in weights)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "pretrained")
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    again = PeftModel.from_pretrained(base, run / "adapters" / "sft").merge_and_unload().eval()
    with torch.no_grad():
        both = [each(prompts.input_ids[:2]).logits for each in (model, again)]
    torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)


def test_grpo_asks_in_words_with_the_adapter_off_as_its_reference(tmp_path: Path, home: Path):
    workplace = Workplace(tmp_path, home)
    model = checkpoint(tmp_path / "pretrained", "qwen2", chat=True)
    tasks = [f"grpo.tasks.{name}=0.5" for name in ("title_to_sid", "description_to_sid", "title_history")]
    more = (
        "stages=[grpo,report]",
        "grpo.max_steps=4",
        "grpo.kl_weight=0.1",
        "trainer.log_every_n_steps=1",
        "grpo.objective=gspo",
    )
    workplace.run(f"backbone.pretrained={model}", *SETTINGS, *more, *tasks)
    artifact = next(path for path in (home / "artifacts" / "grpo").glob("*") if path.is_dir())
    curve = pl.read_csv(sorted((artifact / "logs").glob("*/metrics.csv"))[-1])
    assert curve["train/kl"].drop_nulls()[0] == pytest.approx(0.0, abs=1e-5)
    assert curve["train/kl"].drop_nulls()[-1] > 0
    stories = [json.loads(line) for line in (artifact / "groups.jsonl").read_text().splitlines()]
    assert stories and all(story["target"]["title"] for story in stories)
    assert Recommender.from_run(workplace.latest, "grpo").recommend([["I0001"]], k=3)[0][0]


def test_a_killed_training_with_adapters_goes_on_to_the_same_numbers(tmp_path: Path, home: Path):
    homes = [Path(shutil.copytree(home, tmp_path / name / "home")) for name in ("whole", "killed")]
    workplaces = [Workplace(path.parent) for path in homes]
    model = checkpoint(tmp_path / "pretrained", "llama")
    tricks = ("sft.new_rows_steps=5", "backbone.gradient_checkpointing=true")
    arguments = (f"backbone.pretrained={model}", *SETTINGS, *tricks, "trainer.accumulate_grad_batches=2", *GRPO)
    workplaces[0].run(*arguments)
    for stage in ("sft", "grpo"):
        process = workplaces[1].start(*arguments)
        assert wait_for_checkpoint(workplaces[1], stage, process, newer_than=1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (checkpoint_file,) = homes[1].glob(f"artifacts/{stage}/*.work/scratch/resume.ckpt")
        weights = torch.load(checkpoint_file, weights_only=True)["state_dict"]
        assert all("lora_" in name or "trainable_tokens" in name for name in weights)
    assert "grpo: resumes from the checkpoint" in workplaces[1].run(*arguments)
    assert workplaces[0].metrics() == workplaces[1].metrics()
    models = [load_file(workplace.latest / "model" / "model.safetensors") for workplace in workplaces]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_what_cannot_be_trained_is_said_in_a_line(tmp_path: Path, home: Path):
    workplace = Workplace(tmp_path, home)
    model = f"backbone.pretrained={checkpoint(tmp_path / 'pretrained', 'qwen2')}"
    nan = checkpoint(tmp_path / "nan", "qwen2")
    weights = load_file(nan / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, nan / "model.safetensors", {"format": "pt"})
    encoder = tmp_path / "encoder"
    AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            "bert", vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    ).save_pretrained(encoder)
    AutoTokenizer.from_pretrained(tmp_path / "pretrained").save_pretrained(encoder)
    for arguments, words, code in (
        ((model, "backbone.lora.targets=[nothing]"), ("backbone.lora.targets=['nothing']", "The model has: "), 1),
        ((model, "trainer.precision=16-mixed"), ("trainer.precision=16-mixed needs a GPU",), 2),
        (
            (f"backbone.pretrained={nan}",),
            ("sft: the loss is nan for the samples ", " and 8 more at step 0 (epoch 1, batch 1); no checkpoint yet"),
            1,
        ),
        ((f"backbone.pretrained={encoder}",), ("a bert looks at later tokens",), 1),
    ):
        process = workplace.start(*SETTINGS, "stages=[sft]", *arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code and "Traceback" not in output, output
        assert all(word in output for word in words), output


def test_a_history_longer_than_the_context_loses_its_old_end_and_is_counted(tmp_path: Path, home: Path):
    workplace = Workplace(tmp_path, home)
    model = checkpoint(tmp_path / "pretrained", "llama")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 80}))
    output = workplace.run(
        f"backbone.pretrained={model}",
        *SETTINGS,
        "prompt.max_history=50",
        "prompt.max_text_tokens=16",  # texts beyond the context are refused; histories are cut
        "sft.max_steps=2",
        *(f"sft.tasks.{task}.share=0" for task in ("title_history", "next_title", "next_interests")),
    )
    line = next(line for line in output.splitlines() if "lose their old end" in line)
    assert "of 150 histories are longer than" in line and "the backbone's context holds no more" in line
