"""Registering recommenders from packages: what is taken, what is refused, and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dig.config import UserError, load_config, load_run_config
from dig.config.explain import config_yaml
from dig.config.recommenders import RecommenderSpec, Registry, build_registry, resolve
from dig.engine.stage import Stage
from dig.recommenders.training import recommender_stage

RIGHT = 'SPEC = RecommenderSpec(name="own", title="My own", settings=OwnConfig, model="{module}:Own")'
SOURCE = """
from dataclasses import dataclass
from dig.config.recommenders import RecommenderSpec

@dataclass
class OwnConfig:
    '''Settings of my own.'''
    share: float = 0.5

"""


def write_package(site: Path, spec: str, name: str = "own", package: str = "own-package", **more: str) -> None:
    """An installed package in a folder of ``sys.path``: a module of its own, and the entry point that names it."""
    module = package.replace("-", "_")
    source = SOURCE + spec.replace("{module}", module)
    (site / f"{module}.py").write_text(source)
    folder = site / f"{module}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    value = more.get("value", f"{module}:SPEC")
    (folder / "entry_points.txt").write_text(f"[dig.recommenders]\n{name} = {value}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, whose modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("own_package", "another"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    yield tmp_path
    for module in ("own_package", "another"):
        sys.modules.pop(module, None)


def registered(reserved: tuple[str, ...] = ("report", "data")) -> Registry:
    return build_registry(set(reserved))


def test_a_package_stands_behind_our_baselines_and_before_the_policies(site: Path):
    write_package(site, RIGHT)
    registry = registered()
    assert list(registry.specs)[-4:] == ["intrr", "own", "sft", "grpo"] and not registry.broken
    assert registry.baselines[-1] == "own" and "sft" not in registry.baselines
    assert registry.specs["own"].package == "own-package 1.0" and registry.specs["sasrec"].package is None


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("SPEC = {'name': 'own'}", "entry point: expected a RecommenderSpec, own_package:SPEC is {'name': 'own'}"),
        (
            RIGHT.replace('name="own"', 'name="mine"'),
            "name: expected 'own', as the entry point is called, it is 'mine'",
        ),
        (RIGHT.replace('"My own"', "7"), "title: expected a text of 1 to 40 characters, it is 7"),
        (RIGHT.replace('"My own"', '"a\\nb"'), "title: expected a text of 1 to 40 characters, it is 'a\\nb'"),
        (RIGHT.replace('"My own"', '"sasrec"'), "title: expected one that no other recommender has, it is 'sasrec'"),
        (RIGHT.replace("OwnConfig,", "dict,"), "settings: expected a dataclass or None, it is <class 'dict'>"),
        (RIGHT.replace('model="{module}:Own"', 'model="own"'), "model: expected module:Class, it is 'own'"),
        (RIGHT.replace('model="{module}:Own"', ""), "stage: expected module:attribute, or model in place of stage"),
        (
            RIGHT.replace('model="{module}:Own"', 'stage="a:b", loader=print'),
            "loader: expected module:attribute, or model in place of stage and loader, it is <built-in function print>",
        ),
        (RIGHT.replace("model=", 'stage="a:b", model='), "stage: expected None beside model, it is 'a:b'"),
        (
            RIGHT.replace("model=", 'needs=("sft",), model='),
            "needs: expected a tuple of prepare and further of prepare, ",
        ),
        (RIGHT.replace("model=", "logs=3, model="), "logs: expected a function of the configuration or None, it is 3"),
        (RIGHT.replace("model=", "samples=3, model="), "samples: expected a function of the configuration or None"),
        (RIGHT.replace("model=", "colour=8, model="), "colour: expected a number from 0 to 7 or None, it is 8"),
        (RIGHT.replace("model=", "version=True, model="), "version: expected a whole number above 0, it is True"),
        ("import nothing_like_it", "entry point: own_package:SPEC cannot be imported: ModuleNotFoundError: No module"),
        ("raise SystemExit(3)", "entry point: own_package:SPEC cannot be imported: SystemExit: 3"),
        ("OTHER = 1", "entry point: own_package:SPEC cannot be imported: AttributeError"),
        (RIGHT.replace("name=", "nam="), "entry point: own_package:SPEC cannot be imported: TypeError"),
    ],
)
def test_what_is_registered_wrongly_says_package_field_and_what_was_expected(site: Path, spec: str, told: str):
    write_package(site, spec)
    registry = registered()
    assert "own" not in registry.specs
    assert registry.broken["own"].startswith(
        f"the package own-package 1.0 registers the recommender own wrongly: {told}"
    )
    assert "\n" not in registry.broken["own"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("share: float", "expected a default for every field, OwnConfig.share has none"),
        ("share: complex = 1j", "OwnConfig: "),
        ("share: float = 0.5\n    def __post_init__(self): raise ValueError('never')", "OwnConfig: ValueError: never"),
    ],
)
def test_settings_that_no_configuration_can_hold_are_refused(site: Path, settings: str, told: str):
    write_package(site, "")
    module = site / "own_package.py"
    module.write_text(SOURCE.replace("share: float = 0.5", settings) + RIGHT.replace("{module}", "own_package"))
    assert "settings: " in (line := registered().broken["own"]) and told in line


def test_names_that_are_taken_are_refused(site: Path):
    write_package(site, RIGHT.replace('"own"', '"sasrec"'), name="sasrec")
    registry = registered()
    assert registry.specs["sasrec"].package is None
    assert "name: sasrec is one of dig's own; expected another" in registry.broken["sasrec"]


def test_ours_are_ours_whatever_a_package_calls_itself(tmp_path: Path):
    write_package(tmp_path, RIGHT.replace('"own"', '"sasrec"'), name="sasrec")
    done = dig(tmp_path, "experiment=quickstart", "baselines=[sasrec]", "sasrec.epochs=3", "--print-config")
    assert done.returncode == 0 and done.stderr.count("\n") == 1
    assert "name: sasrec is one of dig's own; expected another; it is left out" in done.stderr


def test_a_value_that_cannot_be_shown_is_told_by_its_type(site: Path):
    write_package(site, "class Own:\n    def __repr__(self): raise RuntimeError\nSPEC = Own()")
    assert registered().broken["own"].endswith("expected a RecommenderSpec, own_package:SPEC is a Own")


@pytest.mark.parametrize("missing", ["fit", "save", "load", "rank"])
def test_a_model_that_lacks_a_method_is_refused(site: Path, missing: str):
    write_package(site, RIGHT)
    methods = "".join(f"    def {name}(self): ...\n" for name in ("fit", "save", "load", "rank") if name != missing)
    with (site / "own_package.py").open("a") as stream:
        stream.write(f"\nclass Own:\n{methods}")
    spec = registered().specs["own"]
    told = f"model: expected a class with fit, save, load, rank, own_package:Own has no {missing}"
    with pytest.raises(UserError, match=told):
        recommender_stage(spec)


def test_a_stage_that_is_none_or_another_is_refused(site: Path):
    write_package(site, RIGHT.replace('model="{module}:Own"', 'stage="{module}:STAGE", loader="{module}:load"'))
    with (site / "own_package.py").open("a") as stream:
        stream.write("\nSTAGE = 7\nload = print\n")
    spec = registered().specs["own"]
    with pytest.raises(UserError, match=r"stage: expected a Stage called own that needs \('prepare',\), .* is 7"):
        recommender_stage(spec)
    module = sys.modules["own_package"]
    module.STAGE = Stage("own", ("prepare",), lambda config: {"seed": config.seed}, lambda context, folder: None)
    stage, config = recommender_stage(spec), load_config("quickstart")
    assert stage.config_keys(config) == {"seed": config.seed, "package": "own-package 1.0"}
    assert not stage.enabled(config)
    module.STAGE = replace(module.STAGE, optional_inputs=lambda config: ("label", "sft"))
    with pytest.raises(
        UserError, match=r"wrongly: stage: expected further of prepare, .* in optional_inputs, it is 'sft'"
    ):
        recommender_stage(spec).inputs(config)
    module.load = 7
    with pytest.raises(UserError, match=r"loader: expected a function of folder, configuration and device, .* is 7"):
        recommender_stage(spec)


@pytest.mark.parametrize(
    ("earlier", "today"), [("reads", "config_keys"), ("says", "summary"), ("also", "optional_inputs")]
)
def test_an_earlier_argument_of_a_stage_is_answered_by_todays(site: Path, earlier: str, today: str):
    write_package(site, RIGHT.replace('model="{module}:Own"', 'stage="{module}:STAGE", loader="{module}:load"'))
    with (site / "own_package.py").open("a") as stream:
        stream.write("\nload = print\ndef __getattr__(name):\n    from dig.engine.stage import Stage\n")
        stream.write(f"    return Stage('own', ('prepare',), build=print, {earlier}=print)\n")
    line = f"stage: expected what can be imported, .* Stage: the argument {earlier} is called {today} now"
    with pytest.raises(UserError, match=line) as caught:
        recommender_stage(registered().specs["own"])
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "told"), [("data", "none that a stage or a section"), ("Own", "small letters")])
def test_names_that_nothing_could_be_called_by_are_refused(site: Path, name: str, told: str):
    write_package(site, RIGHT.replace('"own"', f'"{name}"'), name=name)
    assert f"name: expected {told}" in registered().broken[name]


def test_two_packages_of_one_name_are_both_refused(site: Path):
    write_package(site, RIGHT)
    write_package(site, RIGHT, package="another")
    registry = registered()
    assert "own" not in registry.specs
    assert (
        "another 1.0 registers the recommender own wrongly: name: own-package 1.0 registers it, too"
        in (registry.broken["own"])
    )


def test_an_entry_point_that_names_no_attribute_is_refused(site: Path):
    write_package(site, RIGHT, value="own_package")
    assert "entry point: expected module:attribute, it is 'own_package'" in registered().broken["own"]


def test_what_a_spec_names_is_imported_when_it_is_used(site: Path):
    write_package(site, RIGHT)
    spec = registered().specs["own"]
    with pytest.raises(UserError, match=r"own-package 1\.0 .* wrongly: model: expected what can be imported") as error:
        resolve(spec, "model")
    assert error.value.exit_code == 2 and "own_package:Own" in str(error.value)


def test_errors_of_our_own_modules_pass(site: Path):
    spec: RecommenderSpec[None] = RecommenderSpec(name="own", title="own", model="dig.recommenders.popularity:Nothing")
    with pytest.raises(AttributeError):
        resolve(spec, "model")
    with pytest.raises(UserError):
        resolve(replace(spec, package="own 1.0"), "model")


def dig(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that sees the packages of a folder."""
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from dig.train import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_a_broken_package_is_one_warning_for_runs_without_it_and_an_error_for_those_with_it(tmp_path: Path):
    write_package(tmp_path, "raise RuntimeError('out of order')")
    line = "the package own-package 1.0 registers the recommender own wrongly: entry point: own_package:SPEC cannot be "
    line += "imported: RuntimeError: out of order"
    without = dig(tmp_path, "experiment=quickstart", "--print-config")
    assert without.returncode == 0 and without.stderr == f"warning: {line}; it is left out\n"
    assert without.stdout.startswith("experiment: quickstart\n") and "own" not in without.stdout.split()
    for asked in ("baselines=[own]", "stages=[own]", "own.share=1"):
        asking = dig(tmp_path, "experiment=quickstart", asked, "--print-config")
        assert (asking.returncode, asking.stderr) == (2, f"error: {line}\n")


@pytest.mark.parametrize("early", ["from dig.stages.base import Stage", "from dig.config import Config"])
def test_what_needs_the_configuration_too_early_is_told_where_it_belongs(tmp_path: Path, early: str):
    write_package(tmp_path, f"{early}\n{RIGHT}")
    told = dig(tmp_path, "experiment=quickstart", "baselines=[own]", "--print-config")
    assert told.returncode == 2 and told.stderr.startswith("error: the package own-package 1.0 registers")
    assert told.stderr.endswith(
        "; it is imported together with dig.config, so what needs that is imported in functions, or in a file of its "
        "own\n"
    )


def test_one_of_the_elements_that_is_not_a_choice_is_told_with_its_place(tmp_path: Path):
    listed = '    many: list[Literal["near", "far"]] = field(default_factory=lambda: ["near"])\n'
    with_list = RIGHT.replace(
        "SPEC =",
        f"from dataclasses import field\nfrom typing import Literal\n@dataclass\nclass Many:\n{listed}\nSPEC =",
    )
    write_package(tmp_path, with_list.replace("settings=OwnConfig", "settings=Many"))
    for value, line in (
        ("[near,fra]", "own.many[1]='fra' is not one of near, far; did you mean 'far'?"),
        ("[null]", "own.many[0]=null is not one of near, far"),
    ):
        told = dig(tmp_path, "experiment=quickstart", "baselines=[own]", f"own.many={value}", "--print-config")
        assert (told.returncode, told.stderr) == (2, f"error: {line}\n")


def test_the_folder_that_a_command_runs_in_is_not_an_installed_package(tmp_path: Path):
    """It may be a run of somebody else's, and ``python -m`` puts it first on the path."""
    marker = tmp_path / "ran"
    write_package(tmp_path, f"open({str(marker)!r}, 'w').close()\n{RIGHT}")
    project = Path(__file__).resolve().parents[2]
    told = []
    for path in (str(project), f"{project}:{tmp_path}"):
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": ""}
        command = [sys.executable, "-m", "dig.train", "experiment=quickstart", "own.share=1", "--print-config"]
        told.append(subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True))
        assert marker.exists() == (path != str(project))  # who names it in PYTHONPATH wants it
    assert told[0].returncode == 2 and told[0].stderr.startswith("error: own.share: unknown key")
    assert told[1].returncode == 0


def test_a_damaged_list_of_entry_points_stops_nobody(site: Path):
    write_package(site, RIGHT)
    (site / "own_package-1.0.dist-info" / "entry_points.txt").write_text("[dig.recommenders]\nown\n")
    registry = registered()
    assert "own" not in registry.specs and all("own-package 1.0" in line for line in registry.broken.values())


def a_run(folder: Path, *trained: str, added: str = "") -> Path:
    """What a run leaves that had a recommender ``own``, which nobody has installed here."""
    text = config_yaml(load_config("quickstart"))
    text = text.replace("- item_knn\nruns_dir", "- own\n- item_knn\nruns_dir").replace("stages:\n", "stages:\n- own\n")
    (folder / "config.yaml").write_text(f"{text}own:\n  share: 0.5\n{added}")
    for name in trained:
        (folder / "checkpoints" / name).mkdir(parents=True)
    return folder


def test_a_run_with_a_recommender_that_is_not_installed_opens_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = load_run_config(a_run(tmp_path, "own", "popularity"))
    assert config.baselines == ["popularity", "item_knn"] and "own" not in config.stages
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert f"{tmp_path} has recommenders of packages that are not installed here: own; left out" in told.err


def test_a_configuration_that_is_to_run_says_whose_recommender_is_missing(tmp_path: Path):
    """Also a run's, where nothing was trained under the name."""
    run = a_run(tmp_path, "popularity")
    for load in (lambda: load_run_config(run), lambda: load_config(run / "config.yaml")):
        with pytest.raises(UserError, match="no installed package registers the recommender own") as error:
            load()
        assert error.value.exit_code == 2


def test_no_name_in_a_run_hides_a_section_of_the_configuration(tmp_path: Path):
    run = a_run(tmp_path, "own", "data", "popularity")
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("- own\n- item_knn", "- own\n- data\n- item_knn"))
    with pytest.raises(UserError, match="baselines names 'data'"):
        load_run_config(run)
