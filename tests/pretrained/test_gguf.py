"""GGUF files turned into folders: the same numbers and tokens, and one line for what cannot be turned."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import pytest
import torch
from support.gguf_files import CONTEXT, CONTROL, write_gguf
from support.tiny import tiny_model
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer

from dig.config import UserError
from dig.pretrained import check_model, model_identity, resolve_model
from dig.pretrained import gguf as conversion
from dig.pretrained.splitting import mend_splitting

TEXTS = ["a  12 b", "A customer bought 345 items  7\n 8\n\n9", "<file_sep> 1", "it's  Ärger! 3,5", " 0"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def refusal(name: Path | str, chat: bool = False) -> str:
    """What is said of a model, before anything is loaded, and by what would load it."""
    with pytest.raises(UserError) as early:
        check_model(str(name), "mining model ours", chat)
    with pytest.raises(UserError) as late:
        resolve_model(str(name), "mining model ours", chat)
    message = str(late.value)
    assert message == str(early.value) and "\n" not in message and message.startswith("mining model ours: ")
    return message


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_file_becomes_a_folder_with_the_same_numbers_and_tokens(tmp_path: Path, kind: str, family: str) -> None:
    """qwen2 is a type for which AutoTokenizer has a splitting of its own; the file's is another one."""
    tiny = write_gguf(tmp_path / "tiny.gguf", kind, family)
    folder = Path(resolve_model(str(tiny.path), "ours"))
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    probe = torch.arange(4, 40).unsqueeze(0)
    torch.testing.assert_close(model(probe).logits, tiny.model(probe).logits)
    assert model.dtype == torch.float32 and model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.config.max_position_embeddings == words.model_max_length == CONTEXT
    for text in TEXTS:
        assert (
            words(text)["input_ids"] == tiny.words.encode(text).ids and words.decode(words(text)["input_ids"]) == text
        )
    turn = words.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True)
    assert turn == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert not any(name in json.loads((folder / "config.json").read_text()) for name in ("quantization_config",))


def test_what_is_made_can_be_saved_again_by_its_library(tmp_path: Path) -> None:
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", "Q4_1").path), "ours")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").is_file()


def test_files_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    name = str(write_gguf(tmp_path / "tiny.gguf").path)
    before = os.umask(0o027)
    try:
        folder = Path(resolve_model(name, "ours"))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


def test_it_is_made_once_and_found_by_its_content(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = write_gguf(tmp_path / "tiny.gguf")
    folder = Path(resolve_model(str(tiny.path), "ours"))
    assert capsys.readouterr().out.count("turned into a folder") == 1
    made = (folder / "model.safetensors").stat().st_mtime_ns
    moved = tmp_path / "other" / "renamed.GGUF"
    moved.parent.mkdir()
    tiny.path.rename(moved)
    monkeypatch.chdir(moved.parent)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("renamed.GGUF", "./renamed.GGUF", "~/other/renamed.GGUF"):
        assert Path(resolve_model(name, "ours")) == folder
        assert model_identity(name, "ours") == model_identity(str(moved), "ours")
    assert (folder / "model.safetensors").stat().st_mtime_ns == made and capsys.readouterr().out == ""
    assert str(tmp_path) not in model_identity(str(moved), "ours")
    write_gguf(moved, seed=1)
    assert Path(resolve_model(str(moved), "ours")) != folder
    monkeypatch.setattr(conversion, "_VERSION", 99)
    assert len({resolve_model(str(moved), "ours"), *map(str, folder.parent.glob("*[0-9a-f]"))}) == 3


def test_a_damaged_folder_is_made_again(tmp_path: Path) -> None:
    name = str(write_gguf(tmp_path / "tiny.gguf").path)
    weights = Path(resolve_model(name, "ours")) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (Path(resolve_model(name, "ours")) / "model.safetensors").read_bytes() == content


def test_a_kill_leaves_nothing_half(tmp_path: Path, home: Path) -> None:
    """Killed once weights are on the disk; the next one makes the whole folder."""
    name = str(write_gguf(tmp_path / "tiny.gguf").path)
    code = "import os, signal, transformers\nfrom dig.pretrained import resolve_model\n"
    code += "killed = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "transformers.PreTrainedTokenizerBase.save_pretrained = killed\n"
    done = subprocess.run([sys.executable, "-c", f"{code}resolve_model({name!r}, 'ours')"], check=False)
    assert done.returncode == -9
    left = list((home / "artifacts" / "pretrained").glob("*.work"))
    assert len(left) == 1 and not list((home / "artifacts" / "pretrained").glob("*[0-9a-f]"))
    assert (Path(resolve_model(name, "ours")) / "tokenizer.json").is_file() and not left[0].exists()


def _resolve(name: str, queue: Any) -> None:
    queue.put(resolve_model(name, "ours"))


def test_two_processes_at_once_make_one_folder(tmp_path: Path, home: Path) -> None:
    name = str(write_gguf(tmp_path / "tiny.gguf").path)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_resolve, args=(name, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    folders = {queue.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
    assert len(folders) == 1 and [process.exitcode for process in processes] == [0, 0]
    assert not list((home / "artifacts" / "pretrained").glob("*.work"))


def test_nothing_beside_the_file_is_read(tmp_path: Path) -> None:
    """A folder of downloads holds parts of other models."""
    tiny = write_gguf(tmp_path / "tiny.gguf")
    for name in ("adapter_config.json", "tokenizer.json", "generation_config.json", "added_tokens.json"):
        (tmp_path / name).write_text('{"of": "another model"}')
    words = AutoTokenizer.from_pretrained(resolve_model(str(tiny.path), "ours"))
    assert words("a 12")["input_ids"] == tiny.words.encode("a 12").ids


@pytest.mark.parametrize("pre", ["strange-bpe", "default", None])
def test_an_unknown_splitting_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pre: str | None
) -> None:
    resolve_model(str(write_gguf(tmp_path / "tiny.gguf", pre=pre).path), "ours")
    warned = [line for line in capsys.readouterr().out.splitlines() if "tokenizer.ggml.pre" in line]
    assert len(warned) == 1 and (repr(pre) if pre else "does not name it") in warned[0]


def test_the_splitting_of_gpt_2_is_that_of_its_library(tmp_path: Path) -> None:
    folder = resolve_model(str(write_gguf(tmp_path / "tiny.gguf", pre="gpt-2").path), "ours")
    split = AutoTokenizer.from_pretrained(folder).backend_tokenizer.pre_tokenizer.pre_tokenize_str
    expected = ByteLevel(add_prefix_space=False).pre_tokenize_str
    assert all(split(text) == expected(text) for text in [*TEXTS, "we'll  see\t\n  so 12½ ¾", "  ", "x²  "])


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["a", "Ġ", "1", "2", "3", "4", "Ġ", "5"]),
        ("qwen2", ["a", "Ġ", "1", "2", "3", "4", "Ġ", "5"]),
        ("llama-bpe", ["a", "Ġ", "123", "4", "Ġ", "5"]),
        ("tekken", ["a", "Ġ", "1", "2", "3", "4", "Ġ", "5"]),
        ("gpt-4o", ["a", "Ġ", "123", "4", "Ġ", "5"]),
        ("gpt-2", ["a", "Ġ1234", "Ġ5"]),
    ],
)
def test_digits_are_split_as_the_name_says(pre: str, pieces: list[str]) -> None:
    class Header:
        @staticmethod
        def text(key: str) -> str:
            return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre}[key]

    class Words:
        class backend_tokenizer:  # noqa: N801 - an attribute of the library's
            pre_tokenizer: Any = None

    words: Any = Words()
    assert mend_splitting(words, Header()) is None  # type: ignore[arg-type]  # what it asks of a header
    split = words.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 1234 5")
    assert [piece for piece, _ in split] == pieces


def _with(**keys: str) -> Callable[[gguf.GGUFWriter], None]:
    def change(writer: gguf.GGUFWriter) -> None:
        for key, value in keys.items():
            writer.add_string(key.replace("__", "."), value)

    return change


def test_what_is_not_a_whole_language_model(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, architecture="lama")
    assert re.search(r"architecture 'lama'.* \(the nearest that it reads is llama\); name the folder", refusal(path))
    write_gguf(path, architecture="t5")
    assert "not a causal language model" in refusal(path)
    write_gguf(path, tensors=False)
    assert "holds no weights" in refusal(path)
    for kind, words in {"adapter": "an adapter", "mmproj": "a projector of pictures"}.items():
        write_gguf(path, change=_with(general__type=kind))
        assert f"holds {words}, not a language model" in refusal(path)
    write_gguf(path, change=lambda writer: writer.add_uint16("split.count", 3))
    assert "one of 3 parts" in refusal(path)
    write_gguf(path, change=_with(llama__rope__scaling__type="linear"))
    assert "scales its positions" in refusal(path)


@pytest.mark.parametrize("raw", [gguf.GGMLQuantizationType.Q8_K, gguf.GGMLQuantizationType.Q8_1])
def test_a_type_that_cannot_be_turned_into_weights(tmp_path: Path, raw: gguf.GGMLQuantizationType) -> None:
    path = write_gguf(tmp_path / "m.gguf", raw=raw).path
    assert re.search(rf"'token_embd.weight' in the type {raw.name}, which cannot be turned into weights", refusal(path))


def test_a_type_of_the_future(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf").path
    content = path.read_bytes()
    name = b"token_embd.weight"
    place = content.index(name) + len(name) + 4 + 16
    path.write_bytes(content[:place] + (9_999).to_bytes(4, "little") + content[place + 4 :])
    assert "type number 9999, which cannot be turned into weights" in refusal(path)


def test_a_chat_template_is_asked_for_where_a_chat_model_is_wanted(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", chat=None).path
    assert "has no chat template" in refusal(path, chat=True)
    assert AutoTokenizer.from_pretrained(resolve_model(str(path), "ours")).chat_template is None


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf").path
    content = path.read_bytes()
    for length in (5, 100, 3_000, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:length])
        assert "is cut off" in refusal(path)
    path.write_bytes(content[:4])
    assert "is cut off" in refusal(path)
    path.write_bytes(b"")
    assert "is not a GGUF file" in refusal(path)
    path.write_bytes(b"PK\x03\x04" + content)
    assert "is not a GGUF file" in refusal(path)


def test_without_the_package_that_takes_weights_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf").path
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "takes the package gguf: pip install gguf" in refusal(path)
    monkeypatch.undo()
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    folder = resolve_model(str(path), "ours")
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert resolve_model(str(path), "ours") == folder  # what is there needs it no more


def test_memory_and_disk_are_judged_before_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write_gguf(tmp_path / "m.gguf").path)
    monkeypatch.setattr(conversion, "_convert", lambda *_: pytest.fail("weights were read"))
    monkeypatch.setattr(conversion, "available_memory", lambda: 200_000)
    with pytest.raises(UserError, match=r"m\.gguf into a folder takes 0\.0 GB of memory for 0\.0 M weights, and"):
        resolve_model(path, "ours")
    monkeypatch.setattr(conversion, "available_memory", lambda: 1 << 40)
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"0\.0 GB are free there; free some, or set DIG_HOME to another disk"):
        resolve_model(path, "ours")


def test_control_tokens_are_special_in_what_is_made(tmp_path: Path) -> None:
    words = AutoTokenizer.from_pretrained(resolve_model(str(write_gguf(tmp_path / "m.gguf").path), "ours"))
    special = {str(token) for token in words.added_tokens_decoder.values() if token.special}
    assert special == set(CONTROL) and "<file_sep>" not in words.all_special_tokens


def test_the_tiny_model_is_not_symmetric_in_its_heads() -> None:
    """Otherwise the order of rotated halves could not be told."""
    query = tiny_model("llama", num_attention_heads=4, head_dim=8).model.layers[0].self_attn.q_proj.weight
    assert not torch.allclose(query[0], query[1])
