"""An exported model in an environment without dig: plain transformers, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import transformers

__all__ = ["plain_packages", "read_plainly"]

_OURS = ("dig", "datamodules", "callbacks")
_READER = """
import importlib.util, json, re, sys
asked = json.load(sys.stdin)
sys.path.append(asked["packages"])
found = [name for name in asked["ours"] if importlib.util.find_spec(name) is not None]
import polars, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = asked["folder"]
model, words = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
names = [name for name in words.get_vocab() if re.fullmatch(r"<[a-z]_[0-9]+>", name)]
broken = [name for name in names if words(name, add_special_tokens=False)["input_ids"] != [words.get_vocab()[name]]]
joined = words("".join(names), add_special_tokens=False)["input_ids"] == [words.get_vocab()[name] for name in names]

table = polars.read_parquet(folder + "/semantic_ids.parquet")
spelled = {
    item: "".join(f"<{chr(97 + level)}_{code}>" for level, code in enumerate(codes))
    for item, codes in table.select("item_id", "codes").iter_rows()
}
end = words.eos_token_id
following, items = {}, {}
for item, text in spelled.items():
    path = words(text, add_special_tokens=False)["input_ids"] + [end]
    items.setdefault(tuple(path), item)
    for length in range(len(path)):
        following.setdefault(tuple(path[:length]), set()).add(path[length])

bought = "".join(spelled[item] for item in asked["history"])
text = asked["wording"].replace("{}", bought)
if not words.chat_template:
    text = (words.bos_token or "") + text
elif asked["chat"]:
    text = words.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
prompt = words(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
size = prompt.shape[1]
answers = model.generate(
    prompt, attention_mask=torch.ones_like(prompt), num_beams=asked["beams"], num_return_sequences=asked["beams"],
    do_sample=False, max_new_tokens=max(map(len, items)), length_penalty=0.0, renormalize_logits=True,
    prefix_allowed_tokens_fn=lambda _, ids: sorted(following.get(tuple(ids[size:].tolist()), {end})),
    output_scores=True, return_dict_in_generate=True)
ranked = []
for row in answers.sequences[:, size:].tolist():
    row = row[: row.index(end) + 1] if end in row else row + [end]
    ranked.append(items.get(tuple(row)))
settings = GenerationConfig.from_pretrained(folder)
print(json.dumps({
    "found": found, "broken": broken, "joined": joined, "names": len(names), "prompt": prompt[0].tolist(),
    "items": ranked, "scores": answers.sequences_scores.tolist(), "chat": words.chat_template,
    "eos": settings.eos_token_id, "pad": settings.pad_token_id, "length": words.model_max_length}))
"""


def plain_packages(folder: Path) -> Path:
    """A folder of installed packages in which those of this project are missing, however they were installed."""
    folder.mkdir()
    for path in Path(transformers.__file__).parents[1].iterdir():
        if path.suffix != ".pth" and path.name.partition(".")[0] not in _OURS and not path.name.startswith("dig-"):
            (folder / path.name).symlink_to(path)
    return folder


def read_plainly(
    model: Path, packages: Path, history: list[str], wording: str, chat: bool = True, beams: int = 10
) -> dict[str, Any]:
    """What plain transformers makes of an exported folder.

    Args:
        model: the folder, with its table of Semantic IDs.
        packages: as of :func:`plain_packages`.
        history: item ids, oldest first.
        wording: the words of the prompt, `{}` in the history's place.
        chat: put them into the chat template, where there is one.
        beams: items to rank, by as many beams.
    """
    asked = {
        "folder": str(model),
        "packages": str(packages),
        "ours": _OURS,
        "history": history,
        "wording": wording,
        "chat": chat,
        "beams": beams,
    }
    command = [sys.executable, "-I", "-S", "-c", _READER]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, cwd="/", timeout=300)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
