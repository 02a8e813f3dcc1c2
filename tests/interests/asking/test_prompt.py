from pathlib import Path

import pytest

from dig.config import UserError
from dig.interests.asking.prompt import load_prompt, prompt_names


@pytest.mark.parametrize("name", ["interests-v1", "caption-v1", "judge-v1"])
def test_our_prompts_ask_for_json_about_fenced_data(name: str):
    assert name in prompt_names()
    prompt = load_prompt(name, "mining.x")
    text = prompt.ask(ref="r1", evidence='{"title": "$5 & more $evidence"}', limit="8", interest="cosy")
    assert '<item ref="r1">\n{"title": "$5 & more $evidence"}\n</item>' in text  # what is filled in is not filled again
    assert '{"ref": "r1"' in text
    assert "$problem" not in prompt.ask_again("too $short") and "too $short" in prompt.ask_again("too $short")


def test_the_version_changes_with_any_word(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("system: a\nuser: b $evidence\nrepair: c\n")
    first = load_prompt(str(path), "k")
    path.write_text("system: a\nuser: b  $evidence\nrepair: c\n")
    assert load_prompt(str(path), "k").version != first.version
    path.write_text("# a remark\nsystem: a\nuser: b $evidence\nrepair: c\n")
    assert load_prompt(str(path), "k") == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("system: a\nuser: b\n", "holds the texts system, user, repair"),
        ("- a\n", "holds the texts"),
        ("a: [", "not YAML: "),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_prompt_is_refused(tmp_path: Path, content: str | None, message: str):
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load_prompt(str(path), "mining.interests_prompt")
    assert caught.value.exit_code == 2 and "mining.interests_prompt" in str(caught.value)


def test_the_nearest_prompt_and_unknown_names_are_told(tmp_path: Path):
    with pytest.raises(UserError, match="did you mean interests-v1"):
        load_prompt("interest-v1", "mining.interests_prompt")
    path = tmp_path / "own.yaml"
    path.write_text("system: a\nuser: b $evidnce\nrepair: c\n")
    with pytest.raises(UserError, match=r"evidnce.*cannot be filled in; there are ref"):
        load_prompt(str(path), "k").ask(ref="r", evidence="e")
