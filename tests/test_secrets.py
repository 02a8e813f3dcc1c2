"""One rule for what looks like a secret, whether it is typed, written in a file, in a sweep or in a job script."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from dig.config import UserError, list_experiments, load_config
from dig.config.sections.checks import secret_value
from dig.secrets import address_secret, hidden, is_sensitive, line_secret, shown_override, text_secret, variable_name
from dig.sweep import main as sweep
from dig.train import main as train

CANARY = "zk7Q2mX9vT4bR8wL1pN6cJ3h"
"""Looks random; it stands in for a secret, and may stand in no message."""
MODEL = "mining.models.m={model: m, price_in: 0, price_out: 0}"
URL = "mining.models.m.base_url="
ILLEGAL = {
    "signature in a query": f"{URL}https://host.example/v1?sig={CANARY}",
    "short signature": f"{URL}https://host.example/v1?X-Amz-Signature=short-{CANARY[:4]}",
    "query of another name": f"{URL}https://host.example/v1?x={CANARY}",
    "encoded name": f"{URL}https://host.example/v1?%74oken={CANARY}",
    "fragment": f"{URL}https://host.example/v1#access_token={CANARY}",
    "path": f"{URL}https://host.example/{CANARY}/v1",
    "named part of a path": f"{URL}https://host.example/v1;token=a{CANARY[:6]}",
    "user and password": f"{URL}https://user:{CANARY}@host.example/v1",
    "user alone": f"{URL}https://{CANARY}@host.example/v1",
    "slash in a password": f"{URL}https://user:{CANARY}/x@host.example/v1",
    "backslashes": f"{URL}http:\\\\user:{CANARY}@host.example/v1",
    "another scheme": f"{URL}ftp://user:{CANARY}@host.example/v1",
    "no scheme": f"{URL}user:{CANARY}@host.example/v1",
    "address in an address": f"{URL}https://host.example/v1?next=https%3A%2F%2Fu%3A{CANARY}%40host",
    "key itself": f"mining.models.m.key={CANARY}",
    "key with a known beginning": f"mining.models.m.key=sk-{CANARY}",
    "key in capitals": "mining.models.m.key=AKIA" + "QX7Z" * 4,
    "key that is a word": f"mining.models.m.key=a{CANARY[:6].lower()}",
    "misspelt key": f"mining.models.m.keey={CANARY}",
    "key of another name": f"mining.models.m.api_key=a{CANARY[:6]}",
    "header": f"mining.models.m.headers={{Authorization: Bearer {CANARY}}}",
    "header with a plain value": f"mining.models.m.headers={{X-Thing: a{CANARY[:6]}}}",
    "header among extras": f"mining.models.m.extra.headers.Authorization=Bearer {CANARY}",
    "extra": f"mining.models.m.extra.password=a{CANARY[:6]}",
    "number among extras": "mining.models.m.extra.auth.password=71298370912783",
    "list among extras": f"mining.models.m.extra.tools=[{{url: 'https://u:{CANARY}@h.example'}}]",
    "below a sensitive extra": f"mining.models.m.extra.credentials.value={CANARY}",
    "mirror": f"data.mirrors=['https://user:{CANARY}@host.example/x']",
    "signed mirror": f"data.mirrors=['https://host.example/x?Signature={CANARY}']",
    "folder that is an address": f"data.path=https://user:{CANARY}@host.example/data",
    "unknown key": f"logging.wandb.api_key=a{CANARY[:6]}",
    "unknown section": f"wandb.api_key={CANARY}",
    "token of a hub": f"backbone.token=hf_{CANARY}",
    "token in a name": f"backbone.pretrained=hf_{CANARY}",
    "free settings": f"backbone.config.hub_token={CANARY}",
    "notes": f"logging.wandb.notes=see https://host.example/?token=a{CANARY[:6]}",
    "tag": f"logging.wandb.tags=[ghp_{CANARY}]",
    "wrong type": f"mining.models.m.key=[{CANARY}]",
    "not YAML": f"mining.models.m.extra.token=[{CANARY}",
    "environment": "data.path=${oc.env:CANARY_TOKEN}",
    "environment in quotes": "data.path=${oc.env:'CANARY_TOKEN'}",
    "environment with spaces": "data.path=${ oc.env : CANARY_TOKEN }",
    "environment by another name": "data.path=${oc.env:${experiment}}",
    "resolver by another name": "data.path=${oc.${experiment}:CANARY_TOKEN}",
    "environment of ours": "data.path=${oc.env:DIG_TOKEN}",
    "default of the environment": f"data.path=${{oc.env:DIG_NOTHING,sk-{CANARY}}}",
    "decoded": "data.path=${oc.decode:${oc.env:CANARY_TOKEN}}",
    "line of a script": f"slurm.setup=['export MY_TOKEN=a{CANARY[:6]}']",
    "line with another variable": f"slurm.setup=['export MY_TOKEN=a{CANARY[:6]} A=$HOME']",
    "header in a script": f"slurm.setup=['curl -H \"Authorization: Bearer {CANARY}\"']",
    "proxy in a script": f"slurm.setup=['export https_proxy=http://u:{CANARY}@proxy:3128']",
    "password of a command": f"slurm.setup=['login --password a{CANARY[:6]}']",
    "option of sbatch": f"slurm.options=['--export=ALL,MY_TOKEN=a{CANARY[:6]}']",
    "option of srun": f"slurm.srun_options=['--container-env=PASSWORD=a{CANARY[:6]}']",
    "exported value": f"slurm.export='ALL,MY_THING=a{CANARY[:6]}'",
    "flag": f"--api-key={CANARY}",
    "no key": f"sk-{CANARY}",
}  # fmt: skip


def parts_of(text: str) -> list[str]:
    """What of an illegal argument may not be told."""
    kinds = (CANARY, f"a{CANARY[:6]}", f"a{CANARY[:6].lower()}", "71298370912783", "QX7ZQX7Z")
    return [part for part in kinds if part in text] or [CANARY]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    monkeypatch.setenv("DIG_TOKEN", CANARY)
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    return tmp_path


def written(folder: Path, override: str) -> str:
    """The same in a file, as far as it is one key and one value."""
    key, _, value = override.partition("=")
    content: object = value if "${" in value else yaml.safe_load(value)
    for part in reversed(key.split(".")):
        content = {part: content}
    assert isinstance(content, dict)
    if "models" in content.get("mining", {}):
        content["mining"]["models"]["m"].setdefault("model", "m")
    (folder / "mine.yaml").write_text(yaml.safe_dump({"extends": "quickstart", **content}))
    return "mine.yaml"


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_looks_like_a_secret_is_refused_and_never_told(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 7: in whatever place of a configuration, typed or in a file: exit 2, nowhere echoed, and no run begins."""
    override = ILLEGAL[name]
    assert train(["experiment=quickstart", "mining.models.m.model=m", override]) == 2
    if name not in ("not YAML", "flag", "no key"):
        assert train([f"experiment={written(place, override)}", "--print-config"]) == 2
        (place / "mine.yaml").unlink()
    text = "".join(capsys.readouterr())
    assert text.startswith("error: ") and text.count("\n") == text.count("error: ")
    for part in parts_of(override):
        assert part not in text, text
    assert sorted(place.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["signature in a query", "header among extras", "misspelt key", "mirror", "key itself"]
)
def test_the_same_in_a_sweep(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 7: parameters and commands of sweep files stand under the same rule."""
    key, _, value = ILLEGAL[name].partition("=")
    content: dict[str, Any] = {
        "program": "dig.train",
        "command": ["${program}", "experiment=quickstart", "mining.models.m.model=m", "${args_no_hyphens}"],
        "method": "grid",
        "metric": {"name": "valid/ndcg@10", "goal": "maximize"},
        "parameters": {"sft.epochs": {"values": [1, 2]}, key: {"values": [yaml.safe_load(value), "x"]}},
    }
    (place / "sweep.yaml").write_text(yaml.safe_dump(content))
    assert sweep(["sweep.yaml", "--dry-run"]) == 2
    content["parameters"].pop(key)
    content["command"].insert(2, ILLEGAL[name])
    (place / "sweep.yaml").write_text(yaml.safe_dump(content))
    assert sweep(["sweep.yaml", "--dry-run"]) == 2
    text = "".join(capsys.readouterr())
    assert text.count("error: ") == text.count("\n") == 2 and CANARY not in text
    assert sorted(each.name for each in place.iterdir()) == ["sweep.yaml"]


def test_a_secret_is_named_and_not_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 7: there is a legal place for each credential, which holds the name of a variable."""
    legal = ["mining.models.m.key=MY_KEY", "mining.models.m.base_url=env:MY_ADDRESS", "data.mirrors=[env:MY_MIRROR]",
             "mining.models.m.headers={Authorization: env:CANARY_TOKEN, X-Api-Key: env:MY_KEY}"]  # fmt: skip
    assert train(["experiment=quickstart", "mining.models.m.model=m", *legal, "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "base_url: env:MY_ADDRESS" in text and "Authorization: env:CANARY_TOKEN" in text and CANARY not in text
    for wrong in ("env:lower", "env:", "env:sk-1", "env:A B"):
        with pytest.raises(UserError, match="env:NAME"):
            load_config("quickstart", ["mining.models.m.model=m", f"mining.models.m.headers={{X: '{wrong}'}}"])


def test_what_is_no_secret_passes() -> None:
    """Guard 7: hashes, ids, versions, tokens of text and the shipped experiments are no secrets."""
    os.environ.setdefault("DIG_DATA_ROOT", "/data")
    for name in list_experiments():
        load_config(name)
    load_config("quickstart", [
        "mining.models.m={model: gpt-4o-mini-2024-07-18, output_key: max_completion_tokens, price_in: 0}",
        f"{URL}https://host.example:8000/openai/deployments/gpt-4o-mini/v1?api-version=2024-05-01-preview",
        "mining.models.m.extra={reasoning_effort: low, stop: ['</s>'], thinking: {budget_tokens: 10}, store: true}",
        "backbone.config={pad_token_id: 0, num_key_value_heads: 2, bos_token_id: 1}",
        "logging.wandb.notes=commit 0123456789abcdef0123456789abcdef01234567 of https://github.com/a/b/tree/main?tab=x",
        "logging.wandb.tags=[a-b_c]",
        "slurm.setup=['export HF_TOKEN=$(cat ~/.token)', 'export TOKENIZERS_PARALLELISM=false', "
        "'curl -H \"Authorization: Bearer $MY_TOKEN\" https://host.example']",
    ])  # fmt: skip
    for text in ("sk-learn", "hf_hub", "task-1", "12:30@noon", "me@example.org", "git@github.com:a/b", "https://h/@a/b",
                 "hf://datasets/a/b@main", "a basic understanding of 3 things", "s3://bucket/key=1/x"):  # fmt: skip
        assert text_secret(text) is None or text.startswith("s3"), text
    assert address_secret("https://host.example/v1/3f2504e0-4f89-11d3-9a0c-0305e82c3301/x") is None
    assert line_secret("echo the key is here; module load key value") is None
    assert variable_name("OPENAI_API_KEY") and not variable_name(CANARY.upper())
    assert is_sensitive("X-Amz-Security-Token") and is_sensitive("apiKey2") and not is_sensitive("bos_token_id")


def test_messages_hide_what_the_environment_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard 7: a message of whatever library holds no credential of the environment, in no form."""
    text = "plain words & signs/+"
    monkeypatch.setenv("SHOP_PASSWORD", text)
    monkeypatch.setenv("https_proxy", "http://me:pass%2Fword@proxy:3128")
    for form in (text, "plain%20words%20%26%20signs%2F%2B", "plain+words+%26+signs%2F%2B",
                 base64.b64encode(text.encode()).decode()):  # fmt: skip
        assert hidden(f"GET failed: {form}!") == "GET failed: ***!"
    assert "pass" not in hidden("via pass/word and pass%2Fword and http://me:pass%2Fword@proxy:3128")
    assert str(UserError(f"it said {text}")) == "it said ***"
    assert hidden("arguments look like key=value, for example sft.epochs=3") == (
        "arguments look like key=value, for example sft.epochs=3")  # fmt: skip
    for plain in ("set mining.models.m.output_key=max_tokens", "mining.models.m.key=OPENAI_API_KEY",
                  "headers={A: env:B}", "prompt.item_token=true", "see https://host.example/a?b=c#d"):  # fmt: skip
        assert hidden(plain) == plain and shown_override(plain) == plain


def test_addresses_of_the_environment_are_hidden_by_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard 7: an address that is named is a credential as a whole and in its parts."""
    monkeypatch.setenv("MY_ADDRESS", "https://u:first-word@host.example/some/place?q=second-word")
    secret_value("MY_ADDRESS", "a test needs it")
    text = hidden("https://host.example/some/place/x failed: first-word, q=second-word")
    assert text.startswith("***/x failed") and "word" not in text
    with pytest.raises(UserError, match="NO_SUCH is not set, and a test needs it"):
        secret_value("NO_SUCH", "a test needs it")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[http://127.0.0.1:46821]", None),
        ("[http://a.example:80,http://b.example:80/x]", None),
        ("[http://[::1]:80]", None),
        ("{a: http://x.example:8000}", None),
        ("[http://a.example:80,http://u:p@b.example:80]", "holds a user or a password"),
        ("[http://a.example/?sig=abc]", "holds a credential in `sig`"),
    ],
)
def test_addresses_in_a_list_are_judged_one_by_one(text: str, rule: str | None) -> None:
    """Guard 7: the bracket behind a port was taken for a password."""
    assert text_secret(text) == rule
