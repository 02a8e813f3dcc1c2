import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from dig.interests.models import MAX_SIDE, chat_turn, open_picture
from dig.interests.models.response import Message


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_pictures_are_opened_in_colour_and_made_small(tmp_path: Path, mode: str):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    Image.new("RGB", (2 * MAX_SIDE, MAX_SIDE), "red").convert(mode).save(tmp_path / name)
    picture = open_picture(tmp_path / name)
    assert picture.mode == "RGB" and picture.size == (MAX_SIDE, MAX_SIDE // 2)


def test_small_ones_stay_and_damaged_ones_are_none(tmp_path: Path):
    Image.effect_noise((40, 30), 50).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").size == (40, 30)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-200])
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    assert [open_picture(tmp_path / name) for name in ("cut.png", "page.jpg", "none.png")] == [None] * 3


def test_a_turn_holds_its_picture_before_its_text(tmp_path: Path):
    Image.new("RGB", (6, 4), "red").save(tmp_path / "a.gif")
    turn = chat_turn(Message("user", "what?", tmp_path / "a.gif"))
    picture, text = turn["content"]
    head, _, data = picture["image_url"]["url"].partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as sent:
        assert head == "data:image/jpeg;base64" and sent.size == (6, 4)
    assert text == {"type": "text", "text": "what?"}
    assert (
        chat_turn(Message("user", "what?"))
        == chat_turn(Message("user", "what?", tmp_path / "no"))
        == {"role": "user", "content": "what?"}
    )
