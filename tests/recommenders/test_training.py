"""A recommender that a package trains: its own stage, batches and resume of ours, measured and loaded as ours are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SPEC = '''
from dataclasses import dataclass

from dig.config.sections.checks import LearningRate, PositiveInt, Size, check_values
from dig.recommenders import RecommenderSpec


@dataclass
class BagConfig:
    """The mean of a history's items."""

    width: Size = 8
    max_history: Size = 10
    batch_size: Size = 32
    epochs: PositiveInt = 2
    patience: PositiveInt = 2
    learning_rate: LearningRate = 1e-2

    def __post_init__(self) -> None:
        check_values("bag", self)


SPEC = RecommenderSpec(
    name="bag", title="Bag", settings=BagConfig, stage="bag_training:STAGE", loader="bag_training:load",
    logs=lambda config: ["train/norm"], colour=6,
)
'''
TRAINING = """
import lightning
import torch
from safetensors.torch import load_file, save_file

from bag import SPEC
from dig.engine.stage import Stage
from dig.engine.training import reads_training
from dig.evaluation import ranking_metrics
from dig.evaluation.rankers import padded_rows
from dig.recommenders import Scorer, train_on_items
from dig.stages.prepare import load_catalogue, load_stamp


class Bag(torch.nn.Module, Scorer):
    def __init__(self, items, width):
        super().__init__()
        self.items = torch.nn.Embedding(items, width)
        self.num_items = items

    def logits(self, histories):
        there = (histories >= 0).unsqueeze(-1)
        total = (self.items(histories.clamp(min=0)) * there).sum(dim=1)
        return total / there.sum(dim=1).clamp(min=1) @ self.items.weight.T

    @torch.inference_mode()
    def scores(self, histories):
        return self.logits(padded_rows(histories).to(self.items.weight.device))


class Module(lightning.LightningModule):
    def __init__(self, model, config, evaluation):
        super().__init__()
        self.model, self.config, self.largest = model, config, max(evaluation.ks)
        self.valid_metrics = ranking_metrics(evaluation.ks, prefix="valid/")
        self.validated_at = None

    def training_step(self, batch):
        last = batch.targets.gather(1, (batch.targets >= 0).sum(dim=1, keepdim=True).sub(1).clamp(min=0))[:, 0]
        loss = torch.nn.functional.cross_entropy(self.model.logits(batch.histories), last, ignore_index=-1)
        self.log_dict({"train/loss": loss, "train/norm": self.model.items.weight.norm()}, batch_size=len(last))
        return loss

    def validation_step(self, batch):
        self.valid_metrics.update(self.model.logits(batch.histories).topk(self.largest).indices, batch.targets)
        self.log_dict(self.valid_metrics, on_step=False, on_epoch=True, batch_size=len(batch.targets))

    def on_validation_end(self):
        self.validated_at = self.trainer.global_step

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)


def config_keys(config):
    return reads_training(config, "bag", "evaluation.ks")


def build(context, folder):
    settings = SPEC.of(context.config)
    lightning.seed_everything(context.config.seed, verbose=False)
    model = Bag(len(load_catalogue(context)), settings.width)
    module = Module(model, settings, context.config.evaluation)
    if train_on_items("bag", settings, config_keys(context.config), module, context, folder):
        (folder / "model").mkdir()
        save_file({"items.weight": model.items.weight.detach().cpu()}, folder / "model" / "bag.safetensors",
                  load_stamp(context))


def load(folder, config, device):
    weights = load_file(folder / "bag.safetensors")["items.weight"]
    model = Bag(*weights.shape)
    model.items.weight.data.copy_(weights)
    return model.to(device or "cpu")


STAGE = Stage(SPEC.name, SPEC.needs, config_keys, build, every_rank=True)
"""
ASK = """
import json, sys
from dig import Recommender, load_config
from dig.sweeps.settings import reported
from dig.tracking.logger import samples_a_rank
run = sys.argv[1]
config = load_config("quickstart", ["baselines=[bag]", "bag.batch_size=16"])
history = json.loads(sys.argv[2])
items, scores = Recommender.from_run(run, "bag", "cpu").recommend([history], k=5, unseen=True)
print(json.dumps([items[0], reported(config).get("bag"), samples_a_rank(config, "bag")]))
"""


def test_a_package_trains_a_recommender_of_its_own(tmp_path: Path):
    import polars as pl

    (tmp_path / "bag.py").write_text(SPEC)
    (tmp_path / "bag_training.py").write_text(TRAINING)
    folder = tmp_path / "bag-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: bag\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[dig.recommenders]\nbag = bag:SPEC\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "DIG_HOME": str(tmp_path / "home")}

    def python(*arguments: str) -> str:
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shop = ["experiment=quickstart", "data.shop.items=60", "data.shop.users=80", "logging.progress=false"]
    small = [*shop, "baselines=[bag]", "stages=[report]", f"runs_dir={tmp_path / 'runs'}", "trainer.accelerator=cpu"]
    assert "bag" in python("-m", "dig.train", *small)
    run = tmp_path / "runs" / "quickstart" / "latest"
    assert list(json.loads((run / "metrics.json").read_text())) == ["bag"]
    assert "Bag" in (run / "report.html").read_text()

    ranked = pl.read_parquet(run / "recommendations_masked.parquet").row(0, named=True)
    history = pl.read_parquet(run / "users.parquet").filter(user=ranked["user"])["items"][0].to_list()[:-1]
    items, logged, samples = json.loads(python("-c", ASK, str(run), json.dumps(history)))
    assert items == ranked["items"][:5]
    assert logged[:2] == ["train/loss", "train/norm"] and "valid/ndcg@10" in logged
    assert samples == 16
