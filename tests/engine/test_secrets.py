"""One rule for what looks like a secret, whether it is typed, written in a file, in a sweep or in a job script."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dig.compare import main as compare
from dig.config import UserError, list_experiments, load_config
from dig.config.sections.checks import secret_value
from dig.data import main as data
from dig.engine.secrets import (
    address_secret,
    free_secret,
    hidden,
    is_sensitive,
    shown_override,
    text_secret,
    variable_name,
)
from dig.engine.shell_lines import line_secret
from dig.recommend import main as recommend
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
}


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
    legal = [
        "mining.models.m.key=MY_KEY",
        "mining.models.m.base_url=env:MY_ADDRESS",
        "data.mirrors=[env:MY_MIRROR]",
        "mining.models.m.headers={Authorization: env:CANARY_TOKEN, X-Api-Key: env:MY_KEY}",
    ]
    assert train(["experiment=quickstart", "mining.models.m.model=m", *legal, "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "base_url: env:MY_ADDRESS" in text and "Authorization: env:CANARY_TOKEN" in text and CANARY not in text
    for wrong in ("env:lower", "env:", "env:sk-1", "env:A B"):
        with pytest.raises(UserError, match="env:NAME"):
            load_config("quickstart", ["mining.models.m.model=m", f"mining.models.m.headers={{X: '{wrong}'}}"])


def test_what_is_no_secret_passes() -> None:
    """Guard 7: hashes, ids, versions, tokens of text and the shipped experiments are not secrets."""
    os.environ.setdefault("DIG_DATA_ROOT", "/data")
    for name in list_experiments():
        load_config(name)
    load_config(
        "quickstart",
        [
            "mining.models.m={model: gpt-4o-mini-2024-07-18, output_key: max_completion_tokens, price_in: 0}",
            f"{URL}https://host.example:8000/openai/deployments/gpt-4o-mini/v1?api-version=2024-05-01-preview",
            "mining.models.m.extra={reasoning_effort: low, stop: ['</s>'], thinking: {budget_tokens: 10}, store: true}",
            "backbone.config={pad_token_id: 0, num_key_value_heads: 2, bos_token_id: 1}",
            "logging.wandb.notes=commit 0123456789abcdef0123456789abcdef01234567 of https://github.com/a/b/tree/main?tab=x",
            "logging.wandb.tags=[a-b_c]",
            "slurm.setup=['export HF_TOKEN=$(cat ~/.token)', 'export TOKENIZERS_PARALLELISM=false', "
            "'curl -H \"Authorization: Bearer $MY_TOKEN\" https://host.example']",
        ],
    )
    for text in (
        "sk-learn",
        "hf_hub",
        "task-1",
        "12:30@noon",
        "me@example.org",
        "git@github.com:a/b",
        "https://h/@a/b",
        "hf://datasets/a/b@main",
        "a basic understanding of 3 things",
        "s3://bucket/key=1/x",
    ):
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
    for form in (
        text,
        "plain%20words%20%26%20signs%2F%2B",
        "plain+words+%26+signs%2F%2B",
        base64.b64encode(text.encode()).decode(),
    ):
        assert hidden(f"GET failed: {form}!") == "GET failed: ***!"
    assert "pass" not in hidden("via pass/word and pass%2Fword and http://me:pass%2Fword@proxy:3128")
    assert str(UserError(f"it said {text}")) == "it said ***"
    assert hidden("arguments look like key=value, for example sft.epochs=3") == (
        "arguments look like key=value, for example sft.epochs=3"
    )
    for plain in (
        "set mining.models.m.output_key=max_tokens",
        "mining.models.m.key=OPENAI_API_KEY",
        "headers={A: env:B}",
        "labels.item_token=true",
        "see https://host.example/a?b=c#d",
    ):
        assert hidden(plain) == plain
    for plain in (
        "mining.models.m.output_key=max_tokens",
        "mining.models.m.key=OPENAI_API_KEY",
        "sft.epochs=three",
        "labels.item_token=true",
        "data.path=https://host.example/a?b=c#d",
    ):
        assert shown_override(plain) == plain


def test_a_coded_word_behind_a_colon_is_hidden_and_what_a_message_says_of_a_key_is_not() -> None:
    told = "the server answered {'password': 'hunter2hunter'} and X-Api-Key: abc123def456"
    assert hidden(told) == "the server answered {'password': ***} and X-Api-Key: ***"
    for plain in (
        "mining.models.m.password: no such key; did you mean prompt",
        "credentials: none of the 12 variables is set",
        "backbone.config.pad_token: 3 of vocabulary",
        "secret: 12345678 rows",
    ):
        assert hidden(plain) == plain


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


HEX = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = "hunter2pw"  # noqa: S105 - a stand-in
INSIDE = {
    "list": f"mining.models.m.extra={{apikey: [{PASSWORD}]}}",
    "named in a list": f"mining.models.m.extra={{parameters: [{{name: apikey, value: {PASSWORD}}}]}}",
    "named deeper": f"mining.models.m.extra={{a: {{header: X-Auth-Token, content: [{PASSWORD}]}}}}",
    "list in sections": f"mining.models.m.extra={{a: {{b: [{{password: {PASSWORD}}}]}}}}",
    "random": f"backbone.config.quantization={{auth: {HEX}}}",
    "unknown key": f"slurm.env={{HF_TOKEN: {PASSWORD}}}",
    "unknown key with a word": "slurm.env={HF_TOKEN: swordfish}",
    "anchor": f"sed=&a {{password: {PASSWORD}}}",
    "alias": f"seed=[&a {{password: {PASSWORD}}}, *a]",
    "list of headers": f"mining.models.m.headers=[{PASSWORD}]",
    "list for a number": f"sft={{epochs: [{PASSWORD}]}}",
    "colon": "mining.models.m.apikey: swordfish",
    "mapping without a key": f"{{password: {PASSWORD}}}",
    "key with a colon": f"password: {PASSWORD}=1",
    "text with a colon": "experiment=password: swordfish",
    "model's key": f"backbone.config.api_key={PASSWORD}",
    "encoder's key": f"visual.config.auth_token={PASSWORD}",
    "encoder's key deeper": f"visual.config={{a: {{api_key: {PASSWORD}}}}}",
    "column": f"data.columns={{item_id: {{password: {PASSWORD}}}}}",
    "user without scheme": f"{URL}//bob:{PASSWORD}@host.example/v1",
    "user behind one slash": f"{URL}http:/bob:{PASSWORD}@host.example/v1",
    "user behind no slash": f"{URL}https:bob:{PASSWORD}@host.example/v1",
    "user of a file": f"embedding.vectors=//bob:{PASSWORD}@h/x",
    "user of an experiment": f"experiment=//bob:{PASSWORD}@h/x",
    "user of a host without dots": f"mining.models.m.extra.proxy=bob:{PASSWORD}@proxy",
    "parameter of a host": f"{URL}'https://host.example;token={PASSWORD}/v1'",
    "no plain host": f"{URL}'https://host.example;{PASSWORD}/v1'",
    "parameter of a mirror": f"data.mirrors=['ftp://host.example;password={PASSWORD}']",
    "query": f"{URL}https://host.example/v1?code={PASSWORD}",
    "query in JSON": f'{URL}\'https://host.example/v1?x={{"token":"{PASSWORD}"}}\'',
    "path behind a name": f"{URL}https://host.example/v1/token/{PASSWORD}",
    "query of a mirror": f"data.mirrors=['https://host.example/x?pw={PASSWORD}']",
    "notes": f"logging.wandb.notes='api_key={PASSWORD}'",
    "notes with a colon": "logging.wandb.notes='password: swordfish'",
    "notes in quotes": f"logging.wandb.notes='api_key=\"{PASSWORD}\"'",
    "tag": f"logging.wandb.tags=['token={PASSWORD}']",
    "run": f"run_id=token={PASSWORD}",
    "job": f"slurm.job_name='--export=HF_TOKEN={PASSWORD}'",
    "name of a model": f"mining.models.m.model='gpt?key={PASSWORD}'",
    "path": f"data.path='/a/b?sig={PASSWORD}'",
    "key of a section": f"mining.models={{'api_key={PASSWORD}': {{model: m}}}}",
    "key without a value": f"mining.models.m.extra={{'token={PASSWORD}': null}}",
    "pw": f"mining.models.m.extra.pw={PASSWORD}",
    "pass": f"mining.models.m.extra.pass={PASSWORD}",
    "misspelt": f"mining.models.m.extra.aplkey={PASSWORD}",
    "misspelt in a name": f"mining.models.m.extra.x_authoriztion={PASSWORD}",
    "misspelt in sections": f"mining={{models: {{m: {{extra: {{x: {{passwrd: {PASSWORD}}}}}}}}}}}",
}


@pytest.mark.parametrize("name", INSIDE)
def test_no_refusal_tells_what_is_inside_of_a_value(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 7: exit 2 with the key; of a value that has an inside, or stands where no value should, nothing is told."""
    override = INSIDE[name]
    assert train(["experiment=quickstart", "mining.models.m.model=m", override, "--print-config"]) == 2
    text = "".join(capsys.readouterr())
    assert text.startswith("error: ") and text.count("\n") == 1
    assert not any(secret in text for secret in (PASSWORD, "swordfish", HEX)), text


def test_commands_tell_no_words_that_they_do_not_know(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 7: a colon in place of the equals sign, a flag's value, an address with a password in place of a run."""
    commands = [
        (recommend, ["run=r", f"password: {PASSWORD}"]),
        (recommend, ["run=r", f"password={PASSWORD}"]),
        (compare, [f"//bob:{PASSWORD}@host.example", "b"]),
        (compare, ["a", "b", f"--password: {PASSWORD}"]),
        (data, ["inspect", f"//bob:{PASSWORD}@host.example"]),
        (train, [f"--password: {PASSWORD}"]),
        (data, ["inspect", "quickstart", f"--password={PASSWORD}"]),
    ]
    for command, arguments in commands:
        assert command(arguments) in (1, 2)
        text = "".join(capsys.readouterr())
        assert text.startswith("error: ") and text.count("\n") == 1 and PASSWORD not in text, text
    (place / "mine.yaml").write_text(f"extends: //bob:{PASSWORD}@host.example\n")
    assert train(["experiment=mine.yaml"]) == 2 and PASSWORD not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        ([f"slurm.env={{HF_TOKEN: {PASSWORD}}}"], {}),
        (["slurm.env={HF_TOKEN: swordfish}"], {}),
        ([f"password: {PASSWORD}"], {}),
        ([], {"seed": {"values": [{"password": PASSWORD}]}}),
        ([], {"seed": {"values": [[{"a": [PASSWORD]}]]}}),
        ([], {"mining.models.m.base_url": {"values": [f"//bob:{PASSWORD}@host.example/v1"]}}),
    ],
)
def test_sweeps_tell_nothing_of_what_is_inside(
    words: list[str], parameters: dict[str, Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 7: the same for the words of a sweep's command and for its parameters."""
    command = ["python", "-m", "dig.train", "experiment=quickstart", "mining.models.m.model=m", *words]
    content = {
        "command": [*command, "${args_no_hyphens}"],
        "method": "grid",
        "metric": {"name": "valid/ndcg@10", "goal": "maximize"},
        "parameters": {"sft.epochs": {"values": [1, 2]}, **parameters},
    }
    (place / "sweep.yaml").write_text(yaml.safe_dump(content))
    assert sweep(["sweep.yaml", "--dry-run"]) == 2
    text = "".join(capsys.readouterr())
    assert text.count("\n") == 1 and PASSWORD not in text and "swordfish" not in text, text


def test_keys_of_models_are_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard 7: what configurations of transformers and open_clip have is taken, and so are plain addresses."""
    monkeypatch.setenv("DIG_DATA_ROOT", "/data")
    load_config(
        "quickstart",
        [
            "backbone.config={pad_token_id: 0, bos_token_id: 1, use_cls_token: true, max_atoms_per_token: 23, "
            "mask_token: '<mask>', base_config_key: text_config, cls_token: [false, true], passage_length: 3, "
            "author: x, tokenizer_class: Qwen2Tokenizer, max_tokens: '3', "
            "token_classification_bias: none, audio_token_id: '7'}",
            "visual.config={embed_dim: 64, vision_cfg: {pool_type: tok}, text_cfg: {hf_tokenizer_name: a/b, "
            "output_tokens: false}}",
            "grpo.reward.extra={category: 0.5, bonus: 1}",
            "mining.models.m.model=m",
            f"{URL}http://[::1]:80/v1",
            "logging.wandb.notes='the key: more data; set k=3'",
        ],
    )
    for name in ("pad_token_id", "tokenizer", "max_tokens", "author", "passage", "sorting", "select"):
        assert free_secret([name], "a text") is None, name
    for name in ("pasword", "api_kye", "credentails", "secert", "my_tokne"):
        assert free_secret([name], PASSWORD) and free_secret([name, "value"], PASSWORD), name


@pytest.mark.parametrize(
    "line",
    [
        f"wandb login {HEX}",
        "wandb login hunter2",
        "wandb login <<< hunter2",
        "echo hunter2 | wandb login",
        "echo hunter2 | docker login -u bob --password-stdin",
        "docker login -u bob -p hunter2",
        "aws configure set aws_secret_access_key hunter2",
        "HF_TOKEN+=hunter2",
        "HF_TOKEN=$(echo hunter2)",
        "HF_TOKEN=$(cat <<< hunter2)",
        "export HF_TOKEN=$'hunter2'",
        "export HF_TOKEN=${X:-hunter2}",
        "export HF_TOKEN=''hunter2",
        "setenv HF_TOKEN hunter2",
        "set -gx HF_TOKEN hunter2",
        "read HF_TOKEN <<< hunter2",
        "printf -v HF_TOKEN hunter2",
        "export PW=hunter2",
        "curl -u bob:hunter2 https://host.example",
        "curl -H 'X-Api-Key: hunter2'",
        "export THING=AbC9dEf8GhI7jKl6MnO5pQr4",
    ],
)
def test_lines_that_give_a_credential(line: str) -> None:
    """Guard 7: by whatever shape a shell's line gives it."""
    assert line_secret(line) is not None


@pytest.mark.parametrize(
    "line",
    [
        "wandb login",
        "wandb login $WANDB_API_KEY",
        "wandb login < ~/.key",
        "cat ~/.key | wandb login",
        "export HF_TOKEN=$(cat ~/.token)",
        'export HF_TOKEN="$(< ~/.token)"',
        "export HF_TOKEN=$HOME/.token",
        "export HF_TOKEN=${MINE:-}",
        "read -r HF_TOKEN < ~/.token",
        "export HF_TOKEN WANDB_API_KEY",
        "unset HF_TOKEN",
        "export HF_TOKEN=$(vault kv get -field=value secret/x)",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
        "set -euo pipefail",
        "docker login registry.example",
        "module load PyTorch/2.1.2-foss-2023a-CUDA-12.1.1",
        f"git checkout {HEX}",
        f"pip install git+https://github.com/a/b@{HEX}",
        f"--container-image=docker://a/b@sha256:{HEX}{HEX[:24]}",
        "bash Miniconda3-py39_4.12.0-Linux-x86_64.sh",
        "--export=ALL,HF_TOKEN",
        'eval "$(conda shell.bash hook)"',
        "export CUDA_VISIBLE_DEVICES=GPU-3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "git config credential.helper store",
        "export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)",
        "echo 'setup: done'",
    ],
)
def test_lines_that_give_none(line: str) -> None:
    """Guard 7: names of variables, files, hashes of code and of pictures of a system, modules."""
    assert line_secret(line) is None and text_secret(line) is None


@pytest.mark.parametrize(
    "text",
    [
        "a://" + ")" * 10**6,
        "a " * 10**5,
        "-u " * 7 * 10**4,
        "-u " + "=" * 10**6,
        "bearer+" * 10**5,
        "-eyJaaaaaaaaa" * 5 * 10**4,
        "a=" * 10**5,
        "a:\\\\" * 10**5,
        "token=$a," * 3 * 10**4,
    ],
    ids=["brackets", "words", "flags", "signs", "bearers", "tokens", "pairs", "users", "references"],
)
def test_the_guards_take_a_time_in_proportion_to_a_text(text: str) -> None:
    """Guard 7: no text keeps the guards themselves busy: what is quadratic takes minutes."""
    for guard in (text_secret, hidden, line_secret):
        started = time.process_time()
        guard(text)
        assert time.process_time() - started < 4, guard


def test_a_long_line_of_a_script_is_refused_at_once() -> None:
    """Guard 7: and says so."""
    with pytest.raises(UserError, match=r"slurm.setup: a line has 24,000 characters"):
        load_config("quickstart", ["slurm.setup=['" + "-u " * 8_000 + "']"])
